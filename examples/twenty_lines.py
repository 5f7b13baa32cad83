"""An epidemic among people who wander about. Marked is all that it takes to stream it. Open the printed address."""

import random
import time
from typing import Any

from tick_gateway import Gateway  # stream

people: list[dict[str, Any]] = [
    {"id": i, "x": random.random(), "y": random.random(), "days": 10 if i == 0 else 0} for i in range(100)
]

with Gateway(port=8000) as gateway:  # stream
    print(f"open {gateway.url}", flush=True)
    for t in range(100_000):
        for one in people:
            one["x"] = (one["x"] + random.gauss(0, 0.02)) % 1
            one["y"] = (one["y"] + random.gauss(0, 0.02)) % 1
        for ill in [one for one in people if one["days"] > 0]:
            ill["days"] -= 0.1
            for one in people:
                if abs(one["x"] - ill["x"]) < 0.03 and abs(one["y"] - ill["y"]) < 0.03 and one["days"] == 0:
                    one["days"] = 10
        gateway.publish({"t": t, "people": people})  # stream
        time.sleep(0.05)
