"""Every tick by asking now and then for what is new: python incremental_client.py http://localhost:8000"""

import http.client
import json
import sys
import time
import urllib.request

url = sys.argv[1].rstrip("/")
position = ""  # where the gateway said to go on

while True:
    ticks = []
    try:
        query = "stamp=1" + (f"&from_t={position}" if position else "")  # stamp: each tick comes with its run
        with urllib.request.urlopen(f"{url}/incremental?{query}", timeout=60) as response:
            ticks = json.load(response)
        for notice in ("Tick-Gap", "Tick-Reset"):
            if notice in response.headers:  # gap: ticks are gone for good; reset: another run begins
                print(notice, response.headers[notice], file=sys.stderr)
        for tick in ticks:
            print(tick["run"], tick["t"], flush=True)  # the tick itself: tick["data"]
        position = response.headers.get("Tick-Next", position)
    except (OSError, http.client.HTTPException) as error:
        print(repr(error), file=sys.stderr)
    if not ticks:  # while there is more, ask at once: an answer holds at most a thousand
        time.sleep(1)
