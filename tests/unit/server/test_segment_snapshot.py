"""The file of a run that is still written to: whole frames of what it holds, and parts that fit together."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import zstandard
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tests.support.harness import Harness, OpenHarness
from tests.support.stored_ticks import COUNT, IMMUTABLE, fill, harness, lines
from tick_gateway.server.body_index import BodyIndex
from tick_gateway.server.ranges import Range
from tick_gateway.server.segment_snapshot import SegmentSnapshot, SegmentSnapshots

__all__ = ["harness"]


async def test_the_open_file_comes_in_whole_frames(harness: Harness) -> None:
    count = COUNT
    while (listed := (await harness.json("/segments"))["segments"])[-1]["sealed"]:  # nothing is open just now
        await fill(harness, [count])
        count += 1
    assert [one["sealed"] for one in listed] == [True] * (len(listed) - 1) + [False]
    assert len(listed) > 2 and listed[-1]["bytes"] is None
    numbers: list[int] = []
    for one in listed:
        response = await harness.get(f"/{one['path']}")
        assert response.headers["Cache-Control"] == ("no-store" if one is listed[-1] else IMMUTABLE)
        body = await response.read()
        assert len(body) == int(response.headers["Content-Length"])
        head = await harness.get(f"/{one['path']}", method="HEAD")
        assert head.headers["Content-Length"] == response.headers["Content-Length"]
        found = lines(zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read())
        assert (found[0], found[-1], len(found)) == (one["first"], one["last"], one["count"])
        numbers += found
    assert numbers == list(range(count)), "each once"


async def test_a_run_that_has_nothing_but_an_open_block(open_harness: OpenHarness, tmp_path: Path) -> None:
    harness = await open_harness(data=str(tmp_path))
    await fill(harness, range(5, 30))
    (one,) = (await harness.json("/segments"))["segments"]
    assert (one["name"], one["first"], one["last"], one["count"]) == ("0000000000000005.jsonl.zst", 5, 29, 25)
    body = await (await harness.get(f"/{one['path']}")).read()
    assert lines(zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()) == list(range(5, 30))


async def test_the_open_file_while_it_grows(harness: Harness) -> None:
    """Whenever it is asked for, each tick is in it once."""
    for t in range(COUNT, COUNT + 200, 20):
        await fill(harness, range(t, t + 20))
        one = (await harness.json("/segments"))["segments"][-1]
        if one["sealed"]:
            continue
        body = await (await harness.get(f"/{one['path']}")).read()
        found = lines(zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read())
        assert found == list(range(one["first"], t + 20))


async def test_parts_of_the_open_file_belong_together(harness: Harness) -> None:
    """Who asked how long it is, and then for its parts, gets one state of it, whatever is stored meanwhile."""
    await fill(harness, range(COUNT, COUNT + 3))
    path = "/" + (await harness.json("/segments"))["segments"][-1]["path"]
    head = await harness.get(path, method="HEAD")
    size, body = int(head.headers["Content-Length"]), b""
    for first in range(0, size, 700):
        await fill(harness, [COUNT + 3 + first])
        part = await harness.get(path, Range=f"bytes={first}-{min(first + 699, size - 1)}")
        assert part.status == 206
        body += await part.read()
    found = lines(zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read())
    assert found == list(range(found[0], COUNT + 3))
    assert (await harness.get(path, Range=f"bytes={size + 10**6}-")).status == 416


def test_snapshots_are_kept_within_their_bytes() -> None:
    """The newest one stays whatever it takes, and each is found for a while, for its length or its parts."""

    def asked(path: str, method: str = "GET", **headers: str) -> web.Request:
        return make_mocked_request(method, path, headers=headers)

    def snapshot(size: int) -> SegmentSnapshot:
        return SegmentSnapshot(
            time.monotonic(), '"tag"', cast(Range, SimpleNamespace(kept=0)), BodyIndex(0, []), bytes(size)
        )

    snapshots = SegmentSnapshots(max_bytes=10_000)
    for number in range(4):
        snapshots.keep(asked(f"/{number}"), snapshot(4000))
    found = [snapshots.find(asked(f"/{number}", Range="bytes=0-1")) is not None for number in range(4)]
    assert found == [False, False, True, True]
    snapshots.keep(asked("/large"), snapshot(50_000))
    assert snapshots.find(asked("/large", "HEAD")) is not None
    assert snapshots.find(asked("/3", "HEAD")) is None
    assert snapshots.find(asked("/large")) is None, "who asks for all of it gets the newest state"
