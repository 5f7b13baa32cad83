"""POST /publish with compressed bodies: gzip and zstd, streamed, broken, and made to explode."""

from __future__ import annotations

import asyncio
import gzip
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.support.blocking_client import Follower, Peer, ask, chunk, request
from tests.support.encoded import bomb_of_blocks, encoded, encoded_open
from tests.support.gateway_process import GatewayProcess, peak
from tests.support.serving import Serving, serving
from tick_gateway import Gateway
from tick_gateway.wire import codings
from tick_gateway.wire.decoding import MAX_STEP

CODINGS = list(codings.CODINGS)

LINES = [b'{"t":%d,"x":[%d,1.50]}' % (t, t) for t in range(3000)]
NDJSON = "application/x-ndjson"


@pytest.fixture
async def gateway() -> AsyncIterator[Serving]:
    async with serving(max_tick=1000, max_body=50_000) as found:
        yield found


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("media_type", [NDJSON, "application/json", "application/octet-stream"])
async def test_lines(gateway: Serving, coding: str, media_type: str) -> None:
    body = encoded(coding, b"\n".join(LINES))
    answer = await gateway.post(body, Content_Encoding=coding, Content_Type=media_type)
    assert (answer["accepted"], answer["tip"]) == (3000, 2999)
    assert await gateway.ticks() == LINES


@pytest.mark.parametrize("coding", CODINGS)
async def test_json(gateway: Serving, coding: str) -> None:
    body = encoded(coding, b"[" + b",\n".join(LINES[:50]) + b"]")
    assert (await gateway.post(body, Content_Encoding=coding))["accepted"] == 50
    assert await gateway.ticks() == LINES[:50]
    large = encoded(coding, b"[" + b",\n".join(LINES) + b"]")
    assert len(large) < 50_000
    answer = await gateway.post(large, status=413, Content_Encoding=coding)
    assert answer["error"] == "too_big" and "max_body" in answer["message"]


@pytest.mark.parametrize("header", ["GZip", "x-gzip", "gzip, identity", "identity,gzip"])
async def test_names_of_gzip(gateway: Serving, header: str) -> None:
    assert (await gateway.post(gzip.compress(b'{"t":1}'), Content_Encoding=header))["accepted"] == 1


@pytest.mark.parametrize("header", ["", "identity", "Identity, identity"])
async def test_no_coding(gateway: Serving, header: str) -> None:
    assert (await gateway.post(b'{"t":1}', Content_Encoding=header))["accepted"] == 1


@pytest.mark.parametrize("coding", CODINGS)
async def test_an_empty_body_is_refused_as_ever(gateway: Serving, coding: str) -> None:
    for body in (b"", encoded(coding), encoded(coding) * 3):
        answer = await gateway.post(body, status=400, Content_Encoding=coding)
        assert answer["error"] == "bad_body" and "empty" in answer["message"]


@pytest.mark.parametrize("coding", CODINGS)
async def test_what_is_flushed_is_published_at_once(gateway: Serving, coding: str) -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    parts = [line + b"\n" for line in LINES[:20]]

    async def body() -> AsyncIterator[bytes]:
        while piece := await pieces.get():
            yield piece

    publishing = asyncio.create_task(gateway.post(body(), Content_Encoding=coding))
    sent = 0
    for number, line in enumerate(LINES[:20], 1):
        flushed = encoded_open(coding, parts[:number])
        half = (sent + len(flushed)) // 2  # cut anywhere
        pieces.put_nowait(flushed[sent:half])
        pieces.put_nowait(flushed[half:])
        sent = len(flushed)
        if number == 1:
            stream = await gateway.client.get("/ndjson?from_t=-1")
        assert (await stream.content.readline()).strip() == line
    assert not publishing.done()
    pieces.put_nowait(encoded(coding, *parts)[sent:])
    pieces.put_nowait(b"")
    assert (await publishing)["accepted"] == 20
    stream.close()


Break = Callable[[bytes, str], bytes]

FAULTS: list[tuple[Break, str]] = [
    (lambda body, coding: body, "breaks off before its end"),
    (lambda body, coding: body + b"\xff" * 50, "is broken"),
    (lambda body, coding: body + encoded(coding, b'{"t":2')[:-3], ""),
    (lambda body, coding: encoded(coding, b'{"t":0}\n{"t":1}\n') + b"garbage", "follows the"),
]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize(("make", "told"), FAULTS, ids=["truncated", "broken", "another stream", "garbage behind it"])
async def test_a_fault_keeps_what_came_before(gateway: Serving, coding: str, make: Break, told: str) -> None:
    body = make(encoded_open(coding, [b'{"t":0}\n{"t":1}\n']), coding)
    answer = await gateway.post(body, status=400, Tick_Run="one", Content_Encoding=coding)
    assert (answer["error"], answer["accepted"], answer["tip"]) == ("bad_body", 2, 1)
    assert told in answer["message"] and coding in answer["message"]
    assert await gateway.ticks() == [b'{"t":0}', b'{"t":1}']
    whole = await gateway.post(encoded(coding, b'{"t":0}\n{"t":1}\n{"t":2}'), Tick_Run="one", Content_Encoding=coding)
    assert (whole["accepted"], whole["duplicates"]) == (1, 2)


async def test_refused_lines_and_a_fault_are_both_told(gateway: Serving) -> None:
    body = encoded_open("gzip", [b'{"t":0}\nnonsense\n{"t":1}\n'])
    answer = await gateway.post(body, status=400, Content_Encoding="gzip")
    assert (answer["accepted"], answer["refused"], answer["errors"][0]["line"]) == (2, 1, 2)


async def test_a_body_that_is_not_what_it_says(gateway: Serving) -> None:
    for coding in CODINGS:
        answer = await gateway.post(b'{"t":1}\n', status=400, Content_Encoding=coding)
        assert answer["error"] == "bad_body" and answer["accepted"] == 0 and "is broken" in answer["message"]


async def test_on_an_application_of_somebody_elses() -> None:
    """There, aiohttp decompresses what it can before anybody is asked."""
    app, gateway = web.Application(), Gateway()
    gateway.mount(app, "/ticks")
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        serving_ = Serving(gateway, client)
        for t, header in enumerate(["gzip", "GZIP", "x-gzip", "gzip, identity"]):
            body = gzip.compress(b'{"t":%d}' % t)
            assert (await serving_.post(body, path="/ticks/publish", Content_Encoding=header))["accepted"] == 1
        body = zlib.compress(b'{"t":9}')
        await serving_.post(body, path="/ticks/publish", status=415, Content_Encoding="deflate")


async def test_the_answer_comes_before_the_rest_of_a_broken_body(gateway: Serving) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield encoded_open("gzip", [b'{"t":1}\n'])
        for _ in range(200):
            yield b"\xff" * 100_000

    answer = await gateway.post(body(), status=400, Content_Encoding="gzip")
    assert answer["accepted"] == 1 and "is broken" in answer["message"]


# ---- bombs ----

INFLATED = 1 << 28
"""Bytes; several times what the gateway may take for them."""


def inflating(coding: str, byte: bytes) -> Iterator[bytes]:
    """So many of one byte, compressed, in pieces."""
    if coding == "zstd":
        yield bomb_of_blocks(INFLATED // MAX_STEP, byte)
        return
    member = gzip.compress(byte * (INFLATED // 16), 1)
    for _ in range(16):
        yield member


@pytest.fixture(scope="module")
def process() -> Iterator[GatewayProcess]:
    with GatewayProcess("serve", "--max-body", "16000000", "--max-tick", "1000000") as found:
        yield found


BOMBS = {
    "an endless line": (b"\0", NDJSON, 413, "too_big"),
    "JSON": (b" ", "application/json", 413, "too_big"),
    "blank lines": (b"\n", NDJSON, 200, None),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_takes_no_memory_and_holds_up_nobody(process: GatewayProcess, coding: str, kind: str) -> None:
    byte, media_type, status, error = BOMBS[kind]
    run = f"{coding}-{kind.replace(' ', '-')}"
    first = encoded(coding, b'{"t":1}\n' if media_type == NDJSON else b"")
    before = peak(process.process.pid)
    follower = Follower(process.port, "/ndjson?hello=1&tail=0")
    headers = {"Content-Encoding": coding, "Content-Type": media_type, "Tick-Run": run, "Transfer-Encoding": "chunked"}
    answered: list[dict[str, Any]] = []

    def drop() -> None:
        with Peer(process.port) as peer:
            peer.send(request("POST", "/publish", headers), chunk(first))
            for piece in inflating(coding, byte):
                peer.send(chunk(piece))
            response = peer.send(b"0\r\n\r\n").response()
            answered.append({"status": response.status, **response.json()})

    dropping = threading.Thread(target=drop)
    dropping.start()
    served = 0
    while dropping.is_alive():
        assert ask(process.port, request("GET", "/healthz", {"Connection": "close"})).status == 200
        served += 1
    dropping.join()
    (answer,) = answered
    assert (answer["status"], answer.get("error")) == (status, error), answer
    if media_type == NDJSON:
        assert answer["accepted"] == 1
        follower.wait_for([b'{"t":1}'])
        assert served > 3  # JSON ends too soon, at its bound
    assert peak(process.process.pid) - before < INFLATED // 4
    follower.close()
