"""Every tick over Server-Sent Events, each once and in order: python sse_client.py http://localhost:8000"""

import http.client
import sys
import time
import urllib.request

url = sys.argv[1].rstrip("/")
silence = 45  # seconds: a sign of life comes every 15, so that a connection without any is dead
position = ""  # the id of the last event that we have, RUN:T: all that is needed to go on after it
wait = 1.0  # seconds, until the gateway says otherwise

while position != "end":  # the id of an end that is final
    try:
        head = {"Last-Event-ID": position} if position else {}
        with urllib.request.urlopen(urllib.request.Request(f"{url}/sse", headers=head), timeout=silence) as answer:
            event = {"event": "message"}
            for raw in answer:
                field, _, value = raw.decode().rstrip("\r\n").partition(":")
                value = value.removeprefix(" ")
                if field == "retry":
                    wait = int(value) / 1000
                elif field:
                    event[field] = value
                elif not raw.strip() and "data" in event:  # a blank line: the event is whole (a comment has a colon)
                    position = event.get("id", position)
                    if event["event"] == "message":
                        print(*position.split(":"), flush=True)  # the tick itself: json.loads(event["data"])
                    else:
                        print(event["event"], event["data"], file=sys.stderr)  # gap, reset, end
                    event = {"event": "message"}
    except (OSError, http.client.HTTPException) as error:
        print(repr(error), file=sys.stderr)
    time.sleep(wait)
