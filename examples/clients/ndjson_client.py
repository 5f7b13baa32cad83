"""Every tick as a line of one endless HTTP answer: python ndjson_client.py http://localhost:8000"""

import http.client
import json
import sys
import time
import urllib.request

url = sys.argv[1].rstrip("/")
silence = 45  # seconds: a sign of life comes every 15, so that a connection without any is dead
position = ""  # RUN:T of the last tick that we have: all that is needed to go on after it
over = False

while not over:
    try:
        query = "stamp=1" + (f"&from_t={position}" if position else "")  # stamp: each tick comes with its run
        with urllib.request.urlopen(f"{url}/ndjson?{query}", timeout=silence) as answer:
            for line in answer:
                if not line.endswith(b"\n"):
                    break  # the connection broke inside of a line: it is dropped and asked for again
                if not line.strip():
                    continue  # a sign of life
                message = json.loads(line)
                if "t" in message:
                    print(message["run"], message["t"], flush=True)  # the tick itself: message["data"]
                    position = f"{message['run']}:{message['t']}"
                else:
                    print(message, file=sys.stderr)  # gap: ticks are gone for good; reset: another run begins
                    over = message["notice"] == "end" and message["reason"] not in ("shutdown", "failed")
    except (OSError, http.client.HTTPException) as error:
        print(repr(error), file=sys.stderr)
    if not over:
        time.sleep(1)
