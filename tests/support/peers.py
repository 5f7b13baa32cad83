"""Clients that others wrote, each in its plainest use: python -m tests.support.peers NAME URL [RUN [QUERY]]

Each reads a gateway's stream and prints every payload on a line, as it came. A process of its own keeps a slow one from
slowing the test, and ends it whatever it waits for. With RUN, what it reads, it comes back after each end and asks for
what follows its last tick; QUERY is what it begins with. A tick may tell a reader what to send: over WebSocket, its
member `command` is sent back.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp

Peer = Callable[[str, str], Coroutine[None, None, None]]
"""Reads from a gateway's URL and, behind the path, a query: either empty or with its question mark."""

PEERS: dict[str, Peer] = {}

MODULES = {
    "websockets": ["websockets"],
    "websockets-sync": ["websockets"],
    "picows": ["picows"],
    "websocket-client": ["websocket"],
    "httpx-sse": ["httpx", "httpx_sse"],
    "sseclient-py": ["requests", "sseclient"],
    "aiohttp-websocket": ["aiohttp"],
    "aiohttp-ndjson": ["aiohttp"],
    "aiohttp-sse": ["aiohttp"],
    "httpx-lines": ["httpx"],
    "requests-lines": ["requests"],
}
"""What each of those in Python is imported from."""

newest = b""
"""What was shown last."""


def peer(name: str) -> Callable[[Peer], Peer]:
    def register(read: Peer) -> Peer:
        PEERS[name] = read
        return read

    return register


def show(payload: str | bytes | bytearray | memoryview) -> None:
    global newest
    newest = raw = payload.encode() if isinstance(payload, str) else bytes(payload)
    sys.stdout.buffer.write(raw + b"\n")
    sys.stdout.buffer.flush()


def command() -> str | None:
    """What the newest tick tells a reader to send."""
    told = json.loads(newest).get("command")
    return None if told is None else json.dumps(told)


@peer("websockets")
async def websockets_asyncio(url: str, query: str) -> None:
    await _websockets(url, query)


async def _websockets(url: str, query: str, **options: Any) -> None:
    from websockets.asyncio.client import connect

    async with connect(f"{url.replace('http', 'ws')}/ws/stream{query}", **options) as socket:
        async for message in socket:
            show(message)
            if told := command():
                await socket.send(told)


@peer("websockets-sync")
async def websockets_sync(url: str, query: str) -> None:
    from websockets.sync.client import connect

    def read() -> None:
        with connect(f"{url.replace('http', 'ws')}/ws/stream{query}") as socket:
            for message in socket:
                show(message)
                if told := command():
                    socket.send(told)

    await asyncio.to_thread(read)


@peer("picows")
async def picows(url: str, query: str) -> None:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    class Listener(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.TEXT:
                show(frame.get_payload_as_bytes())

    transport, _ = await ws_connect(Listener, f"{url.replace('http', 'ws')}/ws/stream{query}")
    await transport.wait_disconnected()


@peer("websocket-client")
async def websocket_client(url: str, query: str) -> None:
    from websocket import create_connection

    def read() -> None:
        socket = create_connection(f"{url.replace('http', 'ws')}/ws/stream{query}")
        while True:
            show(socket.recv())

    await asyncio.to_thread(read)


@peer("httpx-sse")
async def httpx_sse(url: str, query: str) -> None:
    import httpx
    from httpx_sse import aconnect_sse

    async with httpx.AsyncClient(timeout=60) as client, aconnect_sse(client, "GET", f"{url}/sse{query}") as source:
        async for event in source.aiter_sse():
            show(event.data)


@peer("sseclient-py")
async def sseclient_py(url: str, query: str) -> None:
    import requests
    from sseclient import SSEClient

    def read() -> None:
        answer = requests.get(f"{url}/sse{query}", stream=True, headers={"Accept": "text/event-stream"}, timeout=60)
        for event in SSEClient(iter(answer)).events():
            show(event.data)

    await asyncio.to_thread(read)


@peer("httpx-lines")
async def httpx_lines(url: str, query: str) -> None:
    import httpx

    async with httpx.AsyncClient(timeout=60) as client, client.stream("GET", f"{url}/ndjson{query}") as answer:
        async for line in answer.aiter_lines():  # parts them as str.splitlines does
            if line:
                show(line)


@peer("requests-lines")
async def requests_text(url: str, query: str) -> None:
    import requests

    def read() -> None:
        answer = requests.get(f"{url}/ndjson{query}", stream=True, timeout=60)
        answer.encoding = "utf-8"
        for line in answer.iter_lines(chunk_size=None, decode_unicode=True):
            if line:
                show(line)

    await asyncio.to_thread(read)


@peer("aiohttp-websocket")
async def aiohttp_websocket(url: str, query: str) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/ws/stream{query}") as socket:
        await _aiohttp_messages(socket)


@peer("aiohttp-websocket-deflate")
async def aiohttp_websocket_deflate(url: str, query: str) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/ws/stream{query}", compress=15) as socket:
        await _aiohttp_messages(socket)


async def _aiohttp_messages(socket: "aiohttp.ClientWebSocketResponse") -> None:
    async for message in socket:
        show(message.data)
        if told := command():
            await socket.send_str(told)


@peer("aiohttp-ndjson")
async def aiohttp_ndjson(url: str, query: str) -> None:
    async for line in _aiohttp_lines(f"{url}/ndjson{query}"):
        if line.strip():  # a blank line is a sign of life
            show(line.removesuffix(b"\n"))


@peer("aiohttp-sse")
async def aiohttp_sse(url: str, query: str) -> None:
    async for line in _aiohttp_lines(f"{url}/sse{query}"):
        if line.startswith(b"data: "):
            show(line.removeprefix(b"data: ").removesuffix(b"\n"))


async def _aiohttp_lines(url: str) -> AsyncIterator[bytes]:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        async for line in answer.content:
            if line.endswith(b"\n"):  # else its end was cut off
                yield line


@peer("httpx-gzip")
async def httpx_gzip(url: str, query: str) -> None:
    await _httpx_stream(f"{url}/ndjson{query}", {})  # it asks by itself


@peer("httpx-zstd")
async def httpx_zstd(url: str, query: str) -> None:
    await _httpx_stream(f"{url}/ndjson{query}", {"Accept-Encoding": "zstd"})


async def _httpx_stream(url: str, headers: dict[str, str]) -> None:
    import httpx

    def read() -> None:
        with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
            for line in answer.iter_lines():
                if line:
                    show(line)

    await asyncio.to_thread(read)


@peer("httpx-poll-gzip")
async def httpx_poll_gzip(url: str, query: str) -> None:
    await _httpx_poll(url, query, "gzip")


@peer("httpx-poll-zstd")
async def httpx_poll_zstd(url: str, query: str) -> None:
    await _httpx_poll(url, query, "zstd")


async def _httpx_poll(url: str, query: str, coding: str) -> None:
    import httpx

    async with httpx.AsyncClient(headers={"Accept-Encoding": coding}, timeout=60) as client:
        query = query or "?tail=1"
        while True:
            answer = await client.get(f"{url}/poll{query}&limit=100")
            for tick in _ticks(answer.text):
                show(tick)
            query = f"?last_t={answer.json()['position']}"


def _ticks(answer: str) -> Iterator[str]:
    """The ticks of a long-poll's answer, as they stand there."""
    decoder, at = json.JSONDecoder(), answer.find("[") + 1
    while at and answer[at - 1] != "]":
        _, end = decoder.raw_decode(answer, at)
        yield answer[at:end]
        at = end + 1


@peer("requests")
async def requests_lines(url: str, query: str) -> None:
    import requests

    def read() -> None:
        with requests.get(f"{url}/ndjson{query}", stream=True, timeout=60) as answer:
            for line in answer.iter_lines():
                if line:
                    show(line)

    await asyncio.to_thread(read)


@peer("websockets-no-takeover")
async def websockets_no_takeover(url: str, query: str) -> None:
    from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

    await _websockets(url, query, extensions=[ClientPerMessageDeflateFactory(server_no_context_takeover=True)])


@peer("curl-gzip")
async def curl_gzip(url: str, query: str) -> None:
    await _program_lines("curl", "-sN", "--compressed", f"{url}/{query}")


@peer("curl-zstd")
async def curl_zstd(url: str, query: str) -> None:
    await _program_lines("curl", "-sN", "--compressed", "-H", "Accept-Encoding: zstd", f"{url}/{query}")


@peer("wget")
async def wget(url: str, query: str) -> None:
    await _program_lines("wget", "-q", "-O", "-", "--tries=1", f"{url}/{query}")


async def _program_lines(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, limit=1 << 20)
    assert process.stdout is not None
    async for line in process.stdout:
        if line.endswith(b"\n") and line.strip():
            show(line.removesuffix(b"\n"))
    await process.wait()


async def main(name: str, url: str, run: str = "", query: str = "") -> None:
    read = PEERS[name]
    while True:
        try:
            await read(url, query)
        except Exception as error:  # each has its own for a connection that is cut
            if not run:
                raise
            print(repr(error), file=sys.stderr)
        if not run:
            return
        if newest:
            query = f"?from_t={run}:{json.loads(newest)['t']}"


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
