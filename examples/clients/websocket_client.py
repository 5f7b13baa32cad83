"""Every tick over WebSocket, each once and in order: python websocket_client.py http://localhost:8000

Needs aiohttp: pip install aiohttp
"""

import asyncio
import json
import sys

import aiohttp

silence = 45  # seconds without a word, though the gateway answers pings: the connection is dead


async def read(url: str) -> None:
    position: str | None = None  # RUN:T of the last tick that we have: all that is needed to go on after it
    over = False
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(silence)) as session:  # of the handshake
        while not over:
            query = {"stamp": "1"} | ({"from_t": position} if position else {})  # stamp: each tick comes with its run
            try:
                # max_msg_size=0: ticks of any size.
                async with session.ws_connect(
                    f"{url}/ws/stream", params=query, heartbeat=silence / 2, max_msg_size=0
                ) as socket:
                    async for frame in socket:
                        if frame.type is not aiohttp.WSMsgType.TEXT:
                            break  # an error: the connection died
                        message = json.loads(frame.data)
                        if "t" in message:
                            print(message["run"], message["t"], flush=True)  # the tick itself: message["data"]
                            position = f"{message['run']}:{message['t']}"
                        else:
                            print(message, file=sys.stderr)  # gap: ticks are gone for good; reset: another run begins
                            over = message["notice"] == "end" and message["reason"] not in ("shutdown", "failed")
            except (aiohttp.ClientError, OSError) as error:
                print(repr(error), file=sys.stderr)
            if not over:
                await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(read(sys.argv[1].rstrip("/")))
