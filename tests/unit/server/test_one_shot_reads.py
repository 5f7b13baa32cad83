"""One-shot reads: /range, /latest, /ticks/{t}."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import Clock, OpenHarness

from ...support.harness import Harness, tick

# ---- /range ----


async def _range(harness: Harness, query: str, accept: str = "*/*") -> list[Any]:
    response = await harness.get(f"/range{query}", Accept=accept)
    body = await response.read()
    assert response.status == 200, body
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", range(10, 50)),
        ("?t0=20&t1=29", range(20, 30)),
        ("?t0=45", range(45, 50)),
        ("?t1=12", range(10, 13)),
        ("?t0=0&t1=10", range(10, 11)),
        ("?t0=20&t1=20", range(20, 21)),
        ("?t0=99", range(0)),
        ("?t0=20&limit=5", range(20, 25)),
        ("?t0=20&limit=500", range(20, 50)),
        ("?t0=20&t1=40&every=7", range(21, 41, 7)),
        ("?every=7&limit=2", range(14, 22, 7)),
    ],
)
async def test_range(harness: Harness, query: str, expected: range) -> None:
    await harness.publish_all(range(10, 50))
    assert [one["t"] for one in await _range(harness, query)] == list(expected)


async def test_range_byte_for_byte_in_both_formats(harness: Harness) -> None:
    await harness.publish_all(range(5))
    lines = b"".join(tick("A", t) + b"\n" for t in range(1, 4))
    array = b"[" + b",".join(tick("A", t) for t in range(1, 4)) + b"]"
    for query, accept, expected in (
        ("", "*/*", lines),
        ("", "application/json", array),
        ("", "application/x-ndjson", lines),
        ("&format=json", "application/x-ndjson", array),
        ("&format=ndjson", "application/json", lines),
    ):
        response = await harness.get(f"/range?t0=1&t1=3{query}", Accept=accept)
        assert await response.read() == expected
        assert response.headers["Tick-Run"] == "A"
    assert await (await harness.get("/range?t0=9&format=json")).json() == []


@pytest.mark.parametrize("limit", [None, 1, 4, 5, 12, 100])
@pytest.mark.parametrize("batch", [3, 10, 1000])
async def test_range_in_batches(harness: Harness, limit: int | None, batch: int) -> None:
    """However the ticks were flushed: cuts and limit are counted over all of them."""
    for begin in range(0, 24, 2):
        await harness.publish_all([begin, begin + 1])
    more = "" if limit is None else f"&limit={limit}"
    found = await _range(harness, f"?batch={batch}{more}")
    numbers = list(range(24))[:limit]
    assert [[one["t"] for one in part] for part in found] == [
        numbers[i : i + batch] for i in range(0, len(numbers), batch)
    ]
    joined = await harness.json(f"/range?batch={batch}{more}&format=json")
    assert joined == found


@pytest.mark.parametrize("view", ["", "&fields=x", "&stamp=1", "&batch=3", "&fields=x&batch=2", "&every=2&fields=x"])
@pytest.mark.parametrize("form", ["json", "ndjson"])
@pytest.mark.parametrize("limit", [1, 5, 150, 1000])
async def test_a_limit_holds_whatever_lies_on_disk(
    open_harness: OpenHarness, tmp_path: Path, view: str, form: str, limit: int
) -> None:
    """In blocks that memory holds in several portions, and in several blocks."""
    harness = await open_harness(data=str(tmp_path), ring=2, block_bytes=600_000)
    await harness.publish_all(range(700), size=2000)
    response = await harness.get(f"/range?limit={limit}{view}&format={form}")
    body = (await response.read()).decode()
    found = json.loads(body if form == "json" else f"[{','.join(body.splitlines())}]")
    ticks = [tick for part in found for tick in part] if "batch" in view else found
    assert [tick["t"] for tick in ticks] == list(range(0, 700, 2 if "every" in view else 1))[:limit]


async def test_cuts_of_a_range_do_not_depend_on_where_it_lies(open_harness: OpenHarness, tmp_path: Path) -> None:
    memory = await open_harness()
    disk = await open_harness(data=str(tmp_path), ring=2, block_bytes=100_000)
    for harness in (memory, disk):
        await harness.publish_all(range(19), size=20_000)
        await harness.publish_all(range(19, 600))
    bodies = [await (await harness.get("/range?batch=20")).read() for harness in (memory, disk)]
    assert bodies[0] == bodies[1]
    assert len(bodies[0].splitlines()) > 3, "cut by size"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("from_t=A:44", range(45, 50)),
        ("from_t=44", range(45, 50)),
        ("last_t=A:44&t1=47", range(45, 48)),
        ("from_t=A:44&t0=40", range(45, 50)),
        ("from_t=A:44&t0=48", range(48, 50)),
        ("from_t=A:49", range(0)),
        ("from_t=A:999", range(0)),
        ("Last-Event-ID=A:46", range(47, 50)),
        ("tail=3", range(47, 50)),
        ("tail=0", range(0)),
        ("tail=3&t1=20", range(18, 21)),
        ("tail=3&t1=20&every=5", range(10, 21, 5)),
        ("tail=30&t0=48", range(48, 50)),
        ("tail=999", range(50)),
        ("tail=5&limit=2", range(45, 47)),
        ("since=2027-01-15T08:00:40Z", range(40, 50)),
        ("since=2027-01-15T08:00:40Z&t0=45", range(45, 50)),
        ("since=2027-01-15T08:00:40Z&t1=41", range(40, 42)),
        ("since=2027-01-15T08:00:40Z&t1=10", range(0)),
        ("since=2027-01-15T09:00:00Z", range(0)),
        ("run=A&since=2027-01-15T08:00:49Z&fields=x", range(49, 50)),
    ],
)
async def test_range_by_position_count_and_time(harness: Harness, clock: Clock, query: str, expected: range) -> None:
    """A parameter that says where to begin never means everything."""
    for t in range(50):
        harness.publish([t])
        clock.ms += 1000
    await harness.settle()
    assert [one["t"] for one in await _range(harness, f"?{query}")] == list(expected)


async def test_range_behind_a_position_of_another_run(harness: Harness) -> None:
    await harness.publish_all(range(9), "A")
    await harness.publish_all(range(5), "B")
    assert [one["t"] for one in await _range(harness, "?from_t=A:6")] == [7, 8]
    assert (await harness.json("/range?from_t=gone:6", 404))["error"] == "not_found"
    assert (await harness.json("/range?from_t=A:6&run=B", 400))["parameter"] == "run"
    assert (await harness.json("/range?from_t=A:6&tail=1", 400))["parameter"] == "tail"


async def test_range_behind_a_position_that_is_gone(open_harness: OpenHarness) -> None:
    harness = await open_harness(ring=20)
    await harness.publish_all(range(50))
    response = await harness.get("/range?from_t=A:9")
    assert response.headers["Tick-Gap"] == "after=9;next=30"
    assert len((await response.read()).splitlines()) == 20


async def test_range_of_an_older_run(harness: Harness) -> None:
    await harness.publish_all(range(5), "A")
    await harness.publish_all(range(3), "B")
    response = await harness.get("/range?run=A&t0=2")
    assert response.headers["Tick-Run"] == "A"
    assert [json.loads(line)["t"] for line in (await response.read()).splitlines()] == [2, 3, 4]
    assert [one["t"] for one in await _range(harness, "")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("query", "gap", "expected"),
    [
        ("?t0=3&t1=47", "after=2;next=45", [45, 46, 47]),
        ("?t0=3&t1=9", "after=2;next=45", []),
        ("?t0=0", "after=-1;next=45", [45, 46, 47, 48, 49]),
        ("?t0=45", None, [45, 46, 47, 48, 49]),
        ("", None, [45, 46, 47, 48, 49]),
    ],
)
async def test_range_says_what_is_gone(
    open_harness: OpenHarness, query: str, gap: str | None, expected: list[int]
) -> None:
    harness = await open_harness(ring=5)
    await harness.publish_all(range(50))
    response = await harness.get(f"/range{query}")
    assert response.headers.get("Tick-Gap") == gap
    assert [json.loads(line)["t"] for line in (await response.read()).splitlines()] == expected


async def test_range_of_a_run_that_is_gone(open_harness: OpenHarness) -> None:
    harness = await open_harness(ring=5)
    await harness.publish_all(range(50), "A")
    await harness.publish_all(range(10), "B")
    response = await harness.get("/range?run=A&t0=3")
    assert (await response.read(), response.headers["Tick-Gap"]) == (b"", "after=2;next=")


async def test_range_on_an_empty_bus_and_of_an_unknown_run(harness: Harness) -> None:
    assert await _range(harness, "") == []
    assert (await harness.json("/range?run=nobody", 404))["error"] == "not_found"


async def test_a_large_range(harness: Harness) -> None:
    await harness.publish_all(range(3000), size=3000)
    found = await _range(harness, "?t0=500")
    assert [one["t"] for one in found] == list(range(500, 3000))


async def test_range_of_what_no_stream_was_offered_yet(open_harness: OpenHarness) -> None:
    harness = await open_harness()
    harness.publish(range(10))
    assert [one["t"] for one in await _range(harness, "")] == list(range(10))


# ---- /latest and /ticks/{t} ----


async def test_latest(harness: Harness) -> None:
    await harness.publish_all(range(10), "A")
    await harness.publish_all(range(5), "B")
    for query, run, t in (("", "B", 4), ("?run=A", "A", 9), ("?every=3", "B", 3), ("?run=A&every=7", "A", 7)):
        response = await harness.get(f"/latest{query}")
        assert await response.read() == tick(run, t)
        assert response.headers["Content-Type"] == "application/json"
        assert (response.headers["Tick-Run"], response.headers["Tick-Next"]) == (run, f"{run}:{t}")
    assert await harness.json("/latest?fields=x") == {"t": 4, "x": 1.5}
    assert (await harness.json("/latest?stamp=1"))["data"]["t"] == 4


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("from_t=A:8", True), ("from_t=A:9", False), ("last_t=9", False), ("from_t=99", False), ("tail=3", True),
        ("tail=0", False), ("since=2027-01-15T08:00:09Z", True), ("since=2027-01-15T08:00:09.001Z", False),
        ("from_t=A:3&every=4", True), ("from_t=A:8&every=4", False), ("from_t=gone:3", False),
    ],
)  # fmt: skip
async def test_latest_is_new_to_who_asks(harness: Harness, clock: Clock, query: str, found: bool) -> None:
    for t in range(10):
        harness.publish([t])
        clock.ms += 1000
    await harness.settle()
    body = await harness.json(f"/latest?{query}", 200 if found else 404)
    assert body["t" if found else "error"] == ((8 if "every" in query else 9) if found else "not_found")


async def test_latest_that_is_not_there(harness: Harness) -> None:
    assert (await harness.json("/latest", 404))["error"] == "not_found"
    await harness.publish_all(range(1, 5))
    assert (await harness.json("/latest?every=100", 404))["error"] == "not_found"
    assert (await harness.json("/latest?run=nobody", 404))["error"] == "not_found"


async def test_one_tick(open_harness: OpenHarness) -> None:
    harness = await open_harness(ring=20)
    await harness.publish_all(range(0, 100, 2), "A")
    response = await harness.get("/ticks/80")
    assert await response.read() == tick("A", 80)
    assert response.headers["Tick-Next"] == "A:80"
    for t in (81, 10, 100, 2**53 - 1):
        assert (await harness.json(f"/ticks/{t}", 404))["error"] == "not_found"
    await harness.publish_all(range(3), "B")
    assert await (await harness.get("/ticks/90?run=A")).read() == tick("A", 90)
    assert await harness.json("/ticks/2?fields=x&stamp=0") == {"t": 2, "x": 1.5}


@pytest.mark.parametrize("t", ["x", "-1", "1.5", "9007199254740992", "01x", "%31%20"])
async def test_one_tick_of_no_number(harness: Harness, t: str) -> None:
    await harness.publish_all(range(3))
    body = await harness.json(f"/ticks/{t}", 400)
    assert (body["error"], body["parameter"]) == ("bad_parameter", "t")
