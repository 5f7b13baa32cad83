"""What a WebSocket client may send frame by frame: fragments, pings, and nonsense, which closes its connection."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable

import pytest

from ...support.async_client import Closed, WebSocket
from ...support.command_client import CommandClient
from ...support.events import ticks
from ...support.frames import BINARY, CLOSE, CONT, PING, PONG, TEXT, frame
from ...support.harness import Harness
from ...support.readers.base import PATIENCE


def _whole(command: bytes) -> bytes:
    return frame(TEXT, command)


def _fragments(command: bytes) -> bytes:
    middle = b"".join(frame(CONT, command[i : i + 1], fin=False) for i in range(1, len(command)))
    return frame(TEXT, command[:1], fin=False) + middle + frame(CONT)


def _fragments_with_a_ping_between(command: bytes) -> bytes:
    return frame(TEXT, command[:3], fin=False) + frame(PING, b"between") + frame(CONT, command[3:])


@pytest.mark.parametrize("how", [_whole, _fragments, _fragments_with_a_ping_between])
@pytest.mark.parametrize("bytewise", [False, True])
async def test_a_command_however_it_is_cut(harness: Harness, how: Callable[[bytes], bytes], bytewise: bool) -> None:
    await harness.publish_all(range(5))
    client = await CommandClient.open(harness, "tail=0")
    data = how('{"op":"ping","id":"é"}'.encode())
    for piece in [data[i : i + 1] for i in range(len(data))] if bytewise else [data]:
        client.socket.send_raw(piece)
        await client.socket.response.writer.drain()
        await asyncio.sleep(0)
    await client.reply(pong="é")


@pytest.mark.parametrize("payload", [b"", b"x", b"y" * 125])
async def test_pings_are_answered_in_order(harness: Harness, payload: bytes) -> None:
    await harness.publish_all(range(5))
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=0")
    for number in (b"1", b"2"):
        socket.send(payload[:-1] + number, PING)
    socket.send(b"nobody asked", PONG)
    socket.send(payload, PING)
    for expected in (payload[:-1] + b"1", payload[:-1] + b"2", payload):
        answer = await asyncio.wait_for(socket.frame(), PATIENCE)
        assert (answer.opcode, answer.payload) == (PONG, expected)


async def test_a_command_behind_the_handshake(harness: Harness) -> None:
    """A client may send before it has read the answer to its handshake."""
    await harness.publish_all(range(5))
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
    head = (
        f"GET /ws/stream?tail=0 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    writer.write(head.encode() + frame(TEXT, b'{"op":"ping","id":1}'))
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(2) == bytes([0x81, 18])
    assert json.loads(await reader.readexactly(18)) == {"pong": 1, "tip": 4}
    writer.close()


@pytest.mark.parametrize(
    ("nonsense", "code"),
    [
        (frame(TEXT, b"{}", mask=None), 1002),
        (frame(0x3, b"{}"), 1002),
        (frame(CONT, b"x"), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(TEXT, b"\xff\xfe"), 1007),
        (frame(BINARY, b"\xff\xfe"), 1007),
        (frame(TEXT, b"x" * 70_000), 1009),
        (frame(TEXT, b"x" * 40_000, fin=False) + frame(CONT, b"x" * 40_000), 1009),
        (b"\xff" * 100, 1002),
        (frame(CLOSE, struct.pack("!H", 999)), 1002),
        (frame(CLOSE, b"x"), 1002),
    ],
    ids=range(11),
)
async def test_nonsense_closes_the_connection_with_its_code(harness: Harness, nonsense: bytes, code: int) -> None:
    await harness.publish_all(range(5))
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=0")
    other = await harness.read("websocket", tail=0)
    socket.send_raw(nonsense)
    assert (await _closed(socket)).code == code
    harness.publish([5])
    assert ticks(await other.until(5)) == [5], "nobody else is touched"


async def _closed(socket: WebSocket) -> Closed:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await socket.message()
            except Closed as closed:
                return closed
