"""The body of a range as it is sent: as long as was told, whatever is stored or let go meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import zstandard

from tests.support.async_client import request
from tests.support.harness import Harness
from tests.support.stored_ticks import COUNT, fill, harness, lines
from tick_gateway.model.query import Query
from tick_gateway.model.view import View
from tick_gateway.server import body_index
from tick_gateway.server.body_index import BodyIndex
from tick_gateway.server.ranges import Range, parts, start_of

__all__ = ["harness"]


async def test_frames_of_a_block_that_is_closed_meanwhile_are_as_long_as_was_told(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(harness, range(COUNT, COUNT + 3))
    last = COUNT + 2
    target, count = f"/range?run=A&t0=3&t1={last}", COUNT + 3
    history = harness.runtime.feed.archive.history(harness.runtime.bus.run("A"))
    assert history.entries[-1].last < last, "it is in an open block"
    for _ in range(2):
        response = await harness.get(target, Accept_Encoding="zstd")
        body = await response.read()  # which reads as many bytes as were told
        assert lines(body) == list(range(3, last + 1))
        if history.entries[-1].last < last:
            await fill(harness, range(count, count + 300))
    assert history.entries[-1].last >= last
    # It is closed between the look at its length and its last byte.
    await fill(harness, range(count + 300, count + 303))
    last = count + 302
    wanted = Range(harness.runtime, history.run, Query(t1=last), 2, zstd=True, format="ndjson")
    assert not wanted.settled
    layout = await body_index.measure(wanted)
    await fill(harness, range(count + 303, count + 700))
    assert history.entries[-1].last >= last and wanted.settled
    found = b"".join([bytes(part.data or b"") async for part in parts(wanted, start_of(wanted))])
    assert len(found) == layout.size
    assert lines(zstandard.ZstdDecompressor().stream_reader(found, read_across_frames=True).read())[-1] == last


async def test_a_body_that_is_not_as_long_as_was_told_breaks_off(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it longer or shorter: a client must not take it for whole."""
    measured = body_index.measure

    async def wrong(wanted: Range, copying: Any = None) -> BodyIndex:
        layout = await measured(wanted, copying)
        layout.size += change
        return layout

    monkeypatch.setattr(body_index, "measure", wrong)
    for change in (-1, 1):
        for query, coding in (("", "zstd"), ("", ""), ("&fields=x", "")):
            t0 = 3 + change
            response = await harness.get(f"/range?run=A&t0={t0}&t1=700{query}", Accept_Encoding=coding)
            if change < 0 and not coding:  # a part of it, as long as was told
                await response.read()
                continue
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError, AssertionError)):
                await response.read()


async def test_frames_tell_their_length_and_give_no_part(harness: Harness) -> None:
    target = f"/range?run=A&t0=3&t1={COUNT - 100}"
    response = await harness.get(target, Accept_Encoding="zstd")
    assert "Accept-Ranges" not in response.headers
    size = int(response.headers["Content-Length"])
    head = await request(harness.port, target, method="HEAD", headers={"Accept-Encoding": "zstd"})
    assert head.headers["Content-Length"] == str(size)
    assert lines(await response.read()) == list(range(3, COUNT - 99))
    whole = await harness.get(target, Accept_Encoding="zstd", Range="bytes=0-5")
    assert whole.status == 200
    await whole.read()


@pytest.mark.parametrize("view", [View(), View(every=2)])
@pytest.mark.parametrize("zstd", [False, True])
async def test_memory_lets_go_while_a_range_is_read(harness: Harness, view: View, zstd: bool) -> None:
    """What was in memory when it began, and is in the middle of a block when it goes on: each tick comes once."""
    query = Query(view=view)
    run = harness.runtime.bus.run("A")
    high = COUNT - 1
    wanted = Range(harness.runtime, run, query, COUNT - 30, zstd=zstd, format="ndjson")
    body = b""
    async for part in parts(wanted, start_of(wanted)):
        assert part.data is not None
        body += part.data
        if high == COUNT - 1:
            high = COUNT + 399
            await fill(harness, range(COUNT, COUNT + 400))
            wanted.high = high
    if wanted.zstd:
        body = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()
    assert lines(body) == [t for t in range(COUNT - 29, high + 1) if t % query.view.every == 0]
