"""The WebSocket command history, and bad commands: each is answered, ten of them end the stream."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.support.harness import OpenHarness

from ...support.async_client import Closed, WebSocket, elements, members
from ...support.command_client import CommandClient
from ...support.events import ticks
from ...support.frames import TEXT, frame
from ...support.harness import Harness, tick
from ...support.readers.base import PATIENCE

# ---- history ----


async def _history(socket: WebSocket, ident: object = 1) -> tuple[list[list[str]], dict[str, Any], list[str]]:
    """Read a history to its end: each message's ticks as they stand, the last message, and what else came."""
    parts: list[list[str]] = []
    others: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while True:
            text = await socket.message()
            value = json.loads(text)
            if value.get("history") != ident:
                others.append(text)
            elif "ticks" in value:
                assert set(value) == {"history", "ticks"}
                assert len(text.encode()) <= 256 * 1024 + 1000 or len(value["ticks"]) == 1
                parts.append(elements(members(text)["ticks"]))
            else:
                return parts, value, others


async def test_history(harness: Harness) -> None:
    await harness.publish_all(range(50))
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=0")
    socket.command(op="history", id=1, t0=10, t1=19)
    parts, done, _ = await _history(socket)
    assert [data.encode() for part in parts for data in part] == [tick("A", t) for t in range(10, 20)]
    assert done == {"history": 1, "done": True}


async def test_history_is_told_in_few_messages(harness: Harness) -> None:
    """However the ticks were published and stored: one by one here."""
    for t in range(60):
        await harness.publish_all([t])
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=0")
    socket.command(op="history", id=1, t0=0, t1=59)
    parts, _, _ = await _history(socket)
    assert [data.encode() for part in parts for data in part] == [tick("A", t) for t in range(60)]
    assert len(parts) <= 12, "from memory one, from disk one a block at the most"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, range(50)),
        ({"t0": 45}, range(45, 50)),
        ({"t1": 3}, range(4)),
        ({"t0": 20, "t1": 20}, range(20, 21)),
        ({"t0": 45, "t1": 999}, range(45, 50)),
        ({"t0": 100, "t1": 200}, range(0)),
    ],
)
async def test_the_bounds_of_history(harness: Harness, given: dict[str, int], expected: range) -> None:
    await harness.publish_all(range(50))
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=0")
    socket.command(op="history", id="h", **given)
    parts, done, _ = await _history(socket, "h")
    assert [json.loads(data)["t"] for part in parts for data in part] == list(expected)
    assert done == {"history": "h", "done": True}


async def test_history_comes_in_messages_of_a_thousand(harness: Harness) -> None:
    await harness.publish_all(range(2500))
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=0")
    socket.command(op="history", id=1)
    parts, _, _ = await _history(socket)
    assert max(map(len, parts)) <= 1000
    assert [json.loads(data)["t"] for part in parts for data in part] == list(range(2500))


async def test_history_comes_in_messages_of_256_kib(harness: Harness) -> None:
    for t in range(8):
        await harness.publish_all([t], size=300_000 if t == 5 else 100_000)
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=0")
    socket.command(op="history", id=1)
    parts, _, _ = await _history(socket)  # checks the sizes
    assert [json.loads(data)["t"] for part in parts for data in part] == list(range(8))


async def test_history_goes_between_the_live_ticks(open_harness: OpenHarness) -> None:
    harness = await open_harness(small=True)
    await harness.publish_all(range(500), size=2000)
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=0", small=True)
    socket.command(op="history", id=1)
    await harness.until(lambda: any(session.state.blocked for session in harness.sessions))
    await harness.publish_all(range(500, 510))
    parts, _, others = await _history(socket)
    assert [json.loads(data)["t"] for part in parts for data in part] == list(range(500))
    async with asyncio.timeout(PATIENCE):
        while len(others) < 10:
            others.append(await socket.message())
    assert [text.encode() for text in others] == [tick("A", t) for t in range(500, 510)]


async def test_several_histories_at_once(harness: Harness) -> None:
    await harness.publish_all(range(3000))
    client = await CommandClient.open(harness, "tail=0")
    for ident in range(3):
        client.say(op="history", id=ident, t0=1000 * ident)
    while sum(isinstance(message, dict) and "done" in message for message in client.messages) < 3:
        await client.next()
    for ident in range(3):
        parts = [
            m["ticks"] for m in client.messages if isinstance(m, dict) and m.get("history") == ident and "ticks" in m
        ]
        assert [one["t"] for part in parts for one in part] == list(range(1000 * ident, 3000))


async def test_history_of_a_run_and_in_the_view(harness: Harness) -> None:
    await harness.publish_all(range(20), "A")
    await harness.publish_all(range(5), "B")
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=0&every=5&fields=x")
    socket.command(op="history", id=1, run="A")
    parts, _, _ = await _history(socket)
    assert [json.loads(data) for part in parts for data in part] == [{"t": t, "x": 1.5} for t in (0, 5, 10, 15)]


async def test_history_says_what_is_gone(open_harness: OpenHarness) -> None:
    harness = await open_harness(ring=20)
    await harness.publish_all(range(50))
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=0")
    socket.command(op="history", id=1, t0=10)
    parts, done, _ = await _history(socket)
    assert [json.loads(data)["t"] for part in parts for data in part] == list(range(30, 50))
    assert done == {"history": 1, "done": True, "gap": {"after": 9, "next": 30}}


# ---- bad commands ----

BAD: list[str] = [
    "",
    "not json",
    "[]",
    "7",
    "{}",
    '{"op":7}',
    '{"op":"nonsense"}',
    '{"op":"__init__"}',
    '{"op":"view","nonsense":1}',
    '{"op":"view","every":0}',
    '{"op":"view","every":1.5}',
    '{"op":"view","batch":1001}',
    '{"op":"view","fields":"a..b"}',
    '{"op":"view","stamp":"yes"}',
    '{"op":"seek"}',
    '{"op":"seek","from_t":"A:B:C"}',
    '{"op":"seek","from_t":"A:1","speed":0}',
    '{"op":"history"}',
    '{"op":"history","id":1,"t0":5,"t1":4}',
    '{"op":"history","id":1,"t0":-1}',
    '{"op":"history","id":1,"run":"nobody"}',
    '{"op":"pause","every":1}',
    '{"op":"ping","op":"nonsense"}',
    "[" * 60_000,
]


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
async def test_a_bad_command_is_answered_and_the_stream_goes_on(harness: Harness, text: str) -> None:
    await harness.publish_all(range(5))
    client = await CommandClient.open(harness, "tail=1")
    await client.tick(4)
    client.socket.send(text)
    answer = await client.error()
    assert set(answer) >= {"error", "message"}
    assert isinstance(answer["error"], str)
    harness.publish([5, 6])
    await client.tick(6)
    assert ticks(client.events) == [4, 5, 6]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"cmd":"pause"}', "the command has no member op; accepted: view, history, seek, pause, resume, ping"),
        ('{"op":"paus"}', "resume, ping; did you mean pause?"),
        ('{"op":5}', "op: 5 is unknown; accepted: view"),
        ('{"op":"view","feilds":["t"]}', "accepted: batch, every, fields, id, stamp; did you mean fields?"),
    ],
)
async def test_a_bad_command_is_told_what_is_accepted(harness: Harness, text: str, says: str) -> None:
    client = await CommandClient.open(harness, "tail=0")
    client.socket.send(text)
    assert says in (await client.error())["message"]


async def test_the_error_names_the_command(harness: Harness) -> None:
    await harness.publish_all(range(5))
    client = await CommandClient.open(harness, "tail=0")
    client.say(op="view", every=-1, id="mine")
    assert (await client.error())["id"] == "mine"


async def test_ten_bad_commands_end_the_stream(harness: Harness) -> None:
    await harness.publish_all(range(5))
    client = await CommandClient.open(harness, "tail=0")
    for _ in range(9):
        client.socket.send("nonsense")
        await client.error()
    client.say(op="ping", id=1)
    await client.reply(pong=1)
    client.socket.send("nonsense")
    await client.error()
    closed = await _closed(client.socket)
    assert closed.code == 1008
    assert len(closed.reason.encode()) <= 123


async def test_a_hundred_bad_commands_at_once_are_answered_ten_times(harness: Harness) -> None:
    await harness.publish_all(range(5))
    client = await CommandClient.open(harness, "tail=0")
    client.socket.send_raw(frame(TEXT, b"nonsense") * 100)
    for _ in range(10):
        await client.error()
    assert (await _closed(client.socket)).code == 1008


async def _closed(socket: WebSocket) -> Closed:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await socket.message()
            except Closed as closed:
                return closed
