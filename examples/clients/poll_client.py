"""Every tick by long-polling, each once and in order: python poll_client.py http://localhost:8000"""

import http.client
import json
import sys
import time
import urllib.request

url = sys.argv[1].rstrip("/")
silence = 45  # seconds: an answer comes within 30, so that a connection without one is dead
start = "tail=1"  # the newest tick, and then what the gateway says

while True:
    try:
        query = f"limit=100&stamp=1&{start}"  # stamp: each tick comes with its run
        with urllib.request.urlopen(f"{url}/poll?{query}", timeout=silence) as response:
            answer = json.load(response)
        for notice in ("Tick-Gap", "Tick-Reset"):
            if notice in response.headers:  # gap: ticks are gone for good; reset: another run begins
                print(notice, response.headers[notice], file=sys.stderr)
        for tick in answer.get("ticks", ()):  # none: nothing came within the timeout
            print(tick["run"], tick["t"], flush=True)  # the tick itself: tick["data"]
        start = f"last_t={answer['position']}" if answer["position"] else ""  # none: no tick came yet, all are new
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an answer that was cut off
        print(repr(error), file=sys.stderr)
        time.sleep(1)
