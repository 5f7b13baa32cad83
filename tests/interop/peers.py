"""Clients that others wrote, each in its plainest use: python -m tests.interop.peers NAME URL

Each reads a gateway's stream and prints every payload on a line, as it came. A process of its own keeps a slow one from
slowing the test, and ends it whatever it waits for.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine

Peer = Callable[[str], Coroutine[None, None, None]]

PEERS: dict[str, Peer] = {}


def peer(name: str) -> Callable[[Peer], Peer]:
    def register(read: Peer) -> Peer:
        PEERS[name] = read
        return read

    return register


def show(payload: str | bytes | bytearray | memoryview) -> None:
    raw = payload.encode() if isinstance(payload, str) else bytes(payload)
    sys.stdout.buffer.write(raw + b"\n")
    sys.stdout.buffer.flush()


@peer("websockets")
async def websockets_asyncio(url: str) -> None:
    from websockets.asyncio.client import connect

    async with connect(f"{url.replace('http', 'ws')}/ws/stream") as socket:
        async for message in socket:
            show(message)


@peer("websockets-sync")
async def websockets_sync(url: str) -> None:
    from websockets.sync.client import connect

    def read() -> None:
        with connect(f"{url.replace('http', 'ws')}/ws/stream") as socket:
            for message in socket:
                show(message)

    await asyncio.to_thread(read)


@peer("picows")
async def picows(url: str) -> None:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    class Listener(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.TEXT:
                show(frame.get_payload_as_bytes())

    transport, _ = await ws_connect(Listener, f"{url.replace('http', 'ws')}/ws/stream")
    await transport.wait_disconnected()


@peer("websocket-client")
async def websocket_client(url: str) -> None:
    from websocket import create_connection

    def read() -> None:
        socket = create_connection(f"{url.replace('http', 'ws')}/ws/stream")
        while True:
            show(socket.recv())

    await asyncio.to_thread(read)


@peer("httpx-sse")
async def httpx_sse(url: str) -> None:
    import httpx
    from httpx_sse import aconnect_sse

    async with httpx.AsyncClient(timeout=60) as client, aconnect_sse(client, "GET", f"{url}/sse") as source:
        async for event in source.aiter_sse():
            show(event.data)


@peer("sseclient-py")
async def sseclient_py(url: str) -> None:
    import requests
    from sseclient import SSEClient

    def read() -> None:
        answer = requests.get(f"{url}/sse", stream=True, headers={"Accept": "text/event-stream"}, timeout=60)
        for event in SSEClient(iter(answer)).events():
            show(event.data)

    await asyncio.to_thread(read)


@peer("aiohttp-websocket")
async def aiohttp_websocket(url: str) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/ws/stream") as socket:
        async for message in socket:
            show(message.data)


@peer("aiohttp-ndjson")
async def aiohttp_ndjson(url: str) -> None:
    async for line in _lines(f"{url}/ndjson"):
        if line.strip():  # a blank line is a sign of life
            show(line.removesuffix(b"\n"))


@peer("aiohttp-sse")
async def aiohttp_sse(url: str) -> None:
    async for line in _lines(f"{url}/sse"):
        if line.startswith(b"data: "):
            show(line.removeprefix(b"data: ").removesuffix(b"\n"))


async def _lines(url: str) -> AsyncIterator[bytes]:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        async for line in answer.content:
            yield line


if __name__ == "__main__":
    asyncio.run(PEERS[sys.argv[1]](sys.argv[2]))
