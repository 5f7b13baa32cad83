"""Compression as it is asked for: negotiation, pulls, views that are shared, and clients that break what was agreed."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import OpenHarness
from tick_gateway.history.local.active_segment import ActiveSegment
from tick_gateway.reading.cursor import Cursor
from tick_gateway.transports.base import find_start as original

from ..support.async_client import Closed, Refused, Response, WebSocket, request
from ..support.events import Tick
from ..support.frames import TEXT
from ..support.harness import Harness
from ..support.needs import program
from ..support.readers.base import PATIENCE

DEFLATE = "permessage-deflate"
STREAMS = ("/sse", "/ndjson", "/stream", "/")
PULLS = (
    "/incremental?from_t=A:-1", "/incremental?from_t=A:-1&fields=s&format=ndjson", "/poll?last_t=A:-1&limit=50",
    "/poll?last_t=A:-1", "/range", "/range?format=json", "/range?fields=x&batch=7", "/latest", "/ticks/5",
)  # fmt: skip


async def get(harness: Harness, target: str, coding: str | None = None, **more: str) -> Response:
    headers = ({"Accept-Encoding": coding} if coding is not None else {}) | more
    return await request(harness.port, target, headers=headers)


# ---- content codings ----


@pytest.mark.parametrize("path", STREAMS)
@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("br, deflate", None),
        ("gzip, deflate, br, zstd", "gzip"),
        ("zstd, gzip;q=0.9", "zstd"),
        ("*", "gzip"),
    ],
)
async def test_streams_are_coded_as_they_are_asked_for(
    harness: Harness, path: str, asked: str | None, given: str | None
) -> None:
    response = await get(harness, path, asked)
    assert (response.status, response.headers.get("Content-Encoding")) == (200, given)
    assert "Accept-Encoding" in response.headers["Vary"]


@pytest.mark.parametrize("path", [*STREAMS, "/incremental", "/poll?timeout=0", "/range", "/latest", "/ticks/0"])
async def test_what_nobody_can_be_given(harness: Harness, path: str) -> None:
    await harness.publish_all(range(3))
    response = await get(harness, path, "br, identity;q=0")
    assert response.status == 406
    body = await response.json()
    assert body["error"] == "not_acceptable"
    assert "gzip" in body["message"] and "zstd" in body["message"] and "identity" in body["message"]


ANSWERS = (
    "/incremental?from_t=A:2", "/poll?last_t=A:2&timeout=0", "/poll?last_t=A:1", "/range?t0=9", "/latest", "/ticks/0",
    "/meta", "/runs", "/segments", "/healthz", "/readyz", "/metrics", "/openapi.json",
)  # fmt: skip


@pytest.mark.parametrize("target", ANSWERS)
async def test_who_takes_no_bytes_as_they_are(harness: Harness, target: str) -> None:
    """However small an answer is, or nothing at all, and whatever its route makes of codings."""
    await harness.publish_all(range(3))
    refused = await get(harness, target, "br, identity;q=0")
    assert (refused.status, (await refused.json())["error"]) == (406, "not_acceptable")
    plain = await (await get(harness, target)).read()
    for coding in ("gzip", "zstd"):
        coded = await get(harness, target, f"{coding}, identity;q=0")
        assert (coded.status, coded.headers["Content-Encoding"]) == (200, coding)
        body = await coded.read()
        assert body == plain or target in ("/meta", "/metrics", "/healthz")
    off = await get(harness, target, "*;q=0")
    assert off.status == 406


async def test_who_takes_no_bytes_as_they_are_from_who_compresses_nothing(open_harness: OpenHarness) -> None:
    harness = await open_harness(compression=0)
    assert (await get(harness, "/meta", "gzip, identity;q=0")).status == 406


async def test_a_list_on_several_lines(harness: Harness) -> None:
    await harness.publish_all(range(30), size=300)
    for path in ("/latest", "/range", "/ndjson"):
        head = (
            f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br\r\nAccept-Encoding: gzip\r\nConnection: close\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", harness.port)
        writer.write(f"{head}\r\n".encode())
        assert b"Content-Encoding: gzip" in await reader.readuntil(b"\r\n\r\n")
        writer.close()


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("target", PULLS)
async def test_pulls_are_the_same_in_every_coding(harness: Harness, target: str, coding: str) -> None:
    await harness.publish_all(range(40), size=400)
    plain, coded = await get(harness, target), await get(harness, target, coding)
    assert plain.headers.get("Content-Encoding") is None
    assert coded.headers["Content-Encoding"] == coding
    assert await coded.read() == await plain.read()


async def test_small_bodies_are_not_worth_it(harness: Harness) -> None:
    await harness.publish_all(range(3))
    response = await get(harness, "/latest", "gzip")
    assert "Content-Encoding" not in response.headers
    assert json.loads(await response.read())["t"] == 2


@pytest.mark.parametrize("target", ["/poll?last_t=A:3&limit=20", "/poll?last_t=A:3", "/incremental?from_t=A:3"])
async def test_pulls_share_their_bodies(open_harness: OpenHarness, target: str) -> None:
    harness = await open_harness()
    await harness.publish_all(range(30), size=300)
    answers = harness.runtime.response_cache
    bodies = [await (await get(harness, target, "gzip")).read() for _ in range(10)]
    assert (len(set(bodies)), answers.made, answers.compressed) == (1, 1, 1)
    await asyncio.gather(*[(await get(harness, target, "zstd")).read() for _ in range(2)])
    await (await get(harness, target)).read()
    assert (answers.made, answers.compressed) == (1, 2)
    await (await get(harness, target.replace("A:3", "A:4"), "gzip")).read()
    assert (answers.made, answers.compressed) == (2, 3)


async def test_long_polls_that_wait_together_share_one_body(open_harness: OpenHarness) -> None:
    harness = await open_harness()
    await harness.publish_all(range(3))
    polls = [asyncio.create_task(get(harness, "/poll?last_t=A:2&timeout=20", "gzip")) for _ in range(20)]
    await harness.until(lambda: harness.asked == len(polls) and len(harness.runtime.fanout.waiters) == len(polls))
    await harness.publish_all([3], size=500)
    answers = [json.loads(await (await poll).read()) for poll in polls]
    assert {answer["t"] for answer in answers} == {3}
    assert (harness.runtime.response_cache.made, harness.runtime.response_cache.compressed) == (1, 1)


@pytest.mark.parametrize("coding", [None, "gzip", "zstd"])
async def test_entity_tags_tell_codings_apart(open_harness: OpenHarness, tmp_path: object, coding: str | None) -> None:
    harness = await open_harness(data=str(tmp_path))
    await harness.publish_all(range(40), size=400)
    await harness.publish_all(range(3), run="B")
    target = "/range?run=A&t0=2&t1=30&format=json"
    tags = {name: (await get(harness, target, name)).headers["ETag"] for name in (None, "gzip", "zstd")}
    assert len(set(tags.values())) == 3
    again = await get(harness, target, coding, **{"If-None-Match": tags[coding]})
    assert again.status == 304
    others = [tag for name, tag in tags.items() if name != coding]
    assert (await get(harness, target, coding, **{"If-None-Match": ", ".join(others)})).status == 200


async def test_off(open_harness: OpenHarness) -> None:
    harness = await open_harness(compression=0)
    await harness.publish_all(range(20), size=300)
    for path in (*STREAMS, *PULLS):
        response = await get(harness, path, "gzip, zstd")
        assert (response.status, response.headers.get("Content-Encoding")) == (200, None)
    socket = await WebSocket.connect(harness.port, "/ws/stream", {"Sec-WebSocket-Extensions": DEFLATE})
    assert "Sec-WebSocket-Extensions" not in socket.response.headers


@pytest.mark.parametrize("flavour", ["sse-gzip", "ndjson-zstd", "websocket-deflate"])
async def test_one_compression_for_everybody(open_harness: OpenHarness, flavour: str) -> None:
    harness = await open_harness()
    await harness.publish_all(range(3))
    readers = [await harness.read(flavour, tail=1) for _ in range(20)]
    for reader in readers:
        await reader.until(2)
    await harness.publish_all([3])  # all join the stream with it
    for reader in readers:
        await reader.until(3)
    before = harness.runtime.fanout.encoder.encodings
    for t in range(4, 40):
        await harness.publish_all([t])
    for reader in readers:
        await reader.until(39)
    assert harness.runtime.fanout.encoder.encodings - before == 36


# ---- ends ----


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("end", ["limit", "run", "shutdown"])
@pytest.mark.parametrize("path", ["/sse", "/ndjson"])
async def test_a_gzip_stream_ends_with_its_trailer(harness: Harness, path: str, end: str, version: str) -> None:
    await harness.publish_all(range(10))
    more = {"limit": "&limit=40", "run": "&run=A", "shutdown": ""}[end]
    response = await request(
        harness.port, f"{path}?from_t=A:-1{more}", headers={"Accept-Encoding": "gzip"}, version=version
    )
    reading = asyncio.create_task(whole(response))
    for t in range(10, 40):  # more than a section
        await harness.publish_all([t])
    if end == "run":
        await harness.end_run("A")
    body = await (harness.stop_while(reading) if end == "shutdown" else reading)
    text = gzip.decompress(body)  # compares checksum and length
    assert text.count(b'"run_of"') == 40 and f'"reason":"{end}"'.encode() in text
    run = await asyncio.to_thread(subprocess.run, [program("gzip"), "-t"], input=body, capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (0, b"")


async def whole(response: Response) -> bytes:
    """A body to its end, as it was coded."""
    return b"".join([piece async for piece in response.coded()])


# ---- permessage-deflate ----


@pytest.mark.parametrize(
    ("offers", "agreed"),
    [
        (DEFLATE, f"{DEFLATE}; client_no_context_takeover"),
        (f"{DEFLATE}; client_max_window_bits", f"{DEFLATE}; client_no_context_takeover"),
        (
            f"{DEFLATE}; server_no_context_takeover",
            f"{DEFLATE}; server_no_context_takeover; client_no_context_takeover",
        ),
        (f"{DEFLATE}; server_max_window_bits=10", None),
        (f"{DEFLATE}; server_max_window_bits=10, {DEFLATE}", f"{DEFLATE}; client_no_context_takeover"),
        (
            f"{DEFLATE}; server_max_window_bits=15",
            f"{DEFLATE}; client_no_context_takeover; server_max_window_bits=15",
        ),
        (f"{DEFLATE}; nonsense", None),
        (f"{DEFLATE}; server_max_window_bits=99", None),
        ("x-webkit-deflate-frame", None),
        ("", None),
    ],
)
async def test_offers(harness: Harness, offers: str, agreed: str | None) -> None:
    await harness.publish_all(range(3), size=300)
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=2", {"Sec-WebSocket-Extensions": offers})
    told = socket.response.headers.get("Sec-WebSocket-Extensions")
    assert (told and sorted(told.split("; "))) == (agreed and sorted(agreed.split("; ")))
    assert [json.loads(await socket.message())["t"] for _ in range(2)] == [1, 2]
    assert socket.compressed == (2 if agreed else 0)


@pytest.mark.parametrize("offers", ["permessage-deflate;", ";", "a b", '"x"'])
async def test_an_offer_that_cannot_be_read(harness: Harness, offers: str) -> None:
    with pytest.raises(Refused) as refused:
        await WebSocket.connect(harness.port, "/ws/stream", {"Sec-WebSocket-Extensions": offers})
    assert "Sec-WebSocket-Extensions" in (await refused.value.response.json())["message"]


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def bomb() -> bytes:
    """A command of 64 MiB in 64 KiB. Its pieces do not depend on one another, so that one is made."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    begin, piece = (
        stream.compress(x) + stream.flush(zlib.Z_FULL_FLUSH) for x in (b'{"op":"ping","id":"', b"x" * (1 << 20))
    )
    return begin + piece * 64 + deflated(b'"}')


async def test_commands_come_compressed(harness: Harness) -> None:
    await harness.publish_all(range(9))
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=1", {"Sec-WebSocket-Extensions": DEFLATE})
    await socket.message()
    for number in range(3):
        socket.send(deflated(b'{"op":"ping","id":%d}' % number), TEXT | 0x40)
        assert json.loads(await socket.message()) == {"pong": number, "tip": 8}


@pytest.mark.parametrize(
    ("payload", "offers", "code"),
    [
        (bomb(), DEFLATE, 1009),
        (b"\xff\xff\xff\xff", DEFLATE, 1002),
        (b"\x02\x0a\x00\x00", DEFLATE, 1002),  # refers to what went before the message
        (deflated(b'{"op":"ping"}'), None, 1002),
        (deflated(b"\xff\xfe"), DEFLATE, 1007),
    ],
)
async def test_who_breaks_what_was_agreed(harness: Harness, payload: bytes, offers: str | None, code: int) -> None:
    await harness.publish_all(range(3))
    headers: Mapping[str, str] = {"Sec-WebSocket-Extensions": offers} if offers else {}
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=1", headers)
    other = await harness.read("websocket-deflate", tail=1)
    await other.until(2)
    await socket.message()
    socket.send(payload, TEXT | 0x40)
    with pytest.raises(Closed) as closed:
        async with asyncio.timeout(PATIENCE):
            while True:
                await socket.message()
    assert closed.value.code == code
    await harness.publish_all([3])
    await other.until(3)


async def test_replies_do_not_shift_the_window(harness: Harness) -> None:
    """Replies, histories and pings go between ticks that refer to each other."""
    await harness.publish_all(range(3), size=200)
    reader = await harness.read("websocket-deflate", tail=1)
    await reader.until(2)
    for t in range(3, 40):
        await harness.publish_all([t], size=200)
        if t % 3 == 0:
            reader.socket.command(op="ping", id=t)  # type: ignore[attr-defined]
            reader.socket.command(op="history", id=t, t0=0, t1=t)  # type: ignore[attr-defined]
    found: list[int] = []
    async with asyncio.timeout(PATIENCE):
        while not found or found[-1] < 39:
            value = json.loads(await reader.socket.message())  # type: ignore[attr-defined]
            found += [value["t"]] if "t" in value else []
    assert found == list(range(3, 40))


# ---- views ----


async def test_views_are_bounded(open_harness: OpenHarness) -> None:
    harness = await open_harness(max_views=3)
    await harness.publish_all(range(3))
    for n in (2, 3):
        await get(harness, f"/ndjson?every={n}")
    socket = await WebSocket.connect(harness.port, "/ws/stream?fields=x")
    other = await get(harness, "/ndjson?fields=x")
    assert harness.runtime.fanout.registry.views == 3
    for target in ("/ndjson?every=2", "/sse?every=3", "/ws/stream", "/ndjson", "/sse"):  # those that are open, or none
        if target.startswith("/ws"):
            await WebSocket.connect(harness.port, target)
        else:
            assert (await get(harness, target)).status == 200
    refused = await get(harness, "/ndjson?every=4")
    assert (refused.status, (await refused.json())["error"]) == (503, "too_many_views")
    assert "Retry-After" in refused.headers
    event = await (await get(harness, "/sse?every=4")).read()
    assert b"event: overloaded" in event and b"too_many_views" in event
    assert b"too_many_views" in await (await get(harness, "/sse?event=mine")).read(), (
        "each name is a framing of its own"
    )
    late = await WebSocket.connect(harness.port, "/ws/stream?every=4")
    with pytest.raises(Closed) as closed:
        await late.message()
    assert (closed.value.code, "too_many_views" in closed.value.reason) == (1013, True)
    socket.command(op="view", every=9, id=1)
    answers = [json.loads(await socket.message()) for _ in range(2)]
    assert answers[-1]["error"] == "too_many_views"
    other.close()
    async with asyncio.timeout(PATIENCE):
        while "ok" not in answers[-1]:  # what it leaves makes room, once nobody else has it
            socket.command(op="view", every=9, id=2)
            answers.append(json.loads(await socket.message()))
            await asyncio.sleep(0.01)
    assert harness.runtime.fanout.registry.views == 3


async def test_a_projection_is_made_once_whoever_asks_for_it(open_harness: OpenHarness) -> None:
    """32 views over readers of every transport and coding: 32 projections a tick."""
    harness = await open_harness()
    await harness.publish_all(range(3))
    kinds = ("websocket", "websocket-deflate", "sse", "sse-gzip", "ndjson", "ndjson-zstd")
    readers = [
        await harness.read(kind, tail=0, fields=f"x,s,m{n}", batch=batch)
        for n in range(32)
        for kind, batch in zip(kinds, (1, 2, 1, 2, 1, 2), strict=True)
    ]
    await harness.settle()
    encoder = harness.runtime.fanout.encoder
    before = encoder.projections
    for t in range(3, 13):
        await harness.publish_all([t])
    for reader in readers:
        event = await reader.until(12)
        assert isinstance(event[-1], Tick)
    assert encoder.projections - before == 32 * 10


async def test_limits_hold_while_positions_are_sought(
    open_harness: OpenHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding where to begin may wait for the disk: who came meanwhile counts."""
    harness = await open_harness(max_views=3)
    await harness.publish_all(range(3))
    gate, held = asyncio.Event(), 0

    async def find_start(*args: Any) -> Cursor:
        nonlocal held
        held += 1
        await gate.wait()
        return await original(*args)

    monkeypatch.setattr("tick_gateway.transports.base.find_start", find_start)
    asked = [asyncio.create_task(get(harness, f"/ndjson?every={n}")) for n in range(2, 12)]
    await harness.until(lambda: held == len(asked))
    gate.set()
    statuses = sorted([(await one).status for one in asked])
    assert statuses == [200] * 3 + [503] * 7
    assert harness.runtime.fanout.registry.views == 3


async def test_a_fault_of_the_writer_does_not_end_it(
    open_harness: OpenHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tick_gateway.history.local.commit_worker.RETRY_SECONDS", 0.05)
    harness = await open_harness(data=str(tmp_path))
    await harness.publish_all(range(3))
    reader = await harness.read("ndjson", from_t="A:-1")
    await reader.until(2)
    sound = ActiveSegment.add

    def add(*args: Any) -> None:
        monkeypatch.setattr(ActiveSegment, "add", sound)
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(ActiveSegment, "add", add)
    await harness.publish_all([3])
    await reader.until(3)
    store = harness.store
    assert "the writer failed" in store.pipeline.reason
    assert "a fault of our own" in caplog.text
    t = 4
    async with asyncio.timeout(PATIENCE):
        while store.pipeline.state != "ok":
            await harness.publish_all([t])
            t += 1
            await asyncio.sleep(0.02)
    await reader.until(t - 1)
    caplog.clear()
