"""Every tick by asking now and then for what is new: python incremental_client.py http://localhost:8000"""

import http.client
import json
import sys
import time
import urllib.request

url = sys.argv[1].rstrip("/")
silence = 45  # seconds: an answer comes at once, so that a connection without one is dead
start = "tail=1"  # the newest tick, and then what the gateway says

while True:
    ticks = []
    try:
        query = f"stamp=1&{start}"  # stamp: each tick comes with its run
        with urllib.request.urlopen(f"{url}/incremental?{query}", timeout=silence) as response:
            ticks = json.load(response)
        for notice in ("Tick-Gap", "Tick-Reset"):
            if notice in response.headers:  # gap: ticks are gone for good; reset: another run begins
                print(notice, response.headers[notice], file=sys.stderr)
        for tick in ticks:
            print(tick["run"], tick["t"], flush=True)  # the tick itself: tick["data"]
        following = response.headers.get("Tick-Next")
        start = f"from_t={following}" if following else ""  # none: no tick came yet, so that all are new
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an answer that was cut off
        print(repr(error), file=sys.stderr)
    if not ticks:  # while there is more, ask at once: an answer holds at most a thousand
        time.sleep(1)
