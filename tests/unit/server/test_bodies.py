"""What never changes is read by its address, as a file is: lengths, ranges of bytes, and the tools that need them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.conformance.conftest import OpenHarness, open_harness
from tests.support.async_client import request
from tests.support.harness import Harness
from tick_gateway.model.query import Query
from tick_gateway.model.view import View
from tick_gateway.server import bodies, ranges
from tick_gateway.server.ranges import BodyPart, Range, SeekPoint, begin, parts
from tick_gateway.server.reads import BODY_INDEXES_KEY
from tick_gateway.transports import incremental

__all__ = ["open_harness"]

COUNT = 900


def record(t: int) -> dict[str, Any]:
    return {"t": t, "x": t / 2, "name": f"n{t * 7919 % 1000}", "agents": [{"id": 1, "x": t}, {"id": 2, "x": -t}]}


@pytest.fixture
async def harness(open_harness: OpenHarness, tmp_path: Path) -> Harness:
    """Sealed files, an open one, and in it an open block."""
    harness = await open_harness(data=str(tmp_path), ring=50, block_bytes=8000, segment_bytes=2500, fsync="never")
    await fill(harness, range(COUNT))
    return harness


async def fill(harness: Harness, numbers: Iterable[int]) -> None:
    for t in numbers:
        harness.gateway.publish(record(t), run="A")
        if t % 50 == 0:
            await harness.settle()
    await harness.runtime.history.settled()
    await harness.settle()


def lines(body: bytes) -> list[int]:
    return [json.loads(line)["t"] for line in body.splitlines()]


# ---- /segments ----


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


IMMUTABLE = "public, max-age=31536000, immutable"


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


# ---- /range ----


@pytest.mark.parametrize("query", ["", "&format=json", "&fields=x", "&batch=7", "&every=3&limit=40", "&stamp=1"])
async def test_length_and_bytes_of_a_range(harness: Harness, query: str) -> None:
    target = f"/range?run=A&t0=3&t1={COUNT - 100}{query}"
    response = await harness.get(target)
    assert response.headers["Accept-Ranges"] == "bytes"
    body = await response.read()
    assert len(body) == int(response.headers["Content-Length"])
    for first, last in ((0, 0), (5, 4000), (9000, 9001), (0, len(body) + 5), (len(body) - 1, len(body) - 1)):
        part = await harness.get(target, Range=f"bytes={first}-{last}")
        expected = body[first : last + 1]
        if expected:
            assert (part.status, await part.read()) == (206, expected)
            assert part.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{len(body)}"


async def test_who_asks_for_bytes_in_another_way_gets_all_or_nothing(harness: Harness) -> None:
    target = "/range?run=A&t0=3&t1=80"
    whole = await harness.get(target)
    tag, body = whole.headers["ETag"], await whole.read()
    for asked in ("bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,5-9", "lines=0-1", "bytes=a-b"):
        response = await harness.get(target, Range=asked)
        assert (response.status, await response.read()) == (200, body), asked
    for condition, status in ((tag, 206), ('"other"', 200), ("Sat, 28 Nov 2026 08:00:00 GMT", 200)):
        response = await harness.get(target, Range="bytes=1-2", If_Range=condition)
        assert response.status == status
        await response.read()
    beyond = await harness.get(target, Range=f"bytes={len(body)}-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(body)}")
    digits = await harness.get(target, Range="bytes=" + "9" * 5000 + "-")
    assert (digits.status, await digits.read()) == (200, body)
    assert beyond.headers["Cache-Control"] == "no-store"


async def test_a_long_view_is_not_made_twice_but_where_its_length_is_asked_for(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tick_gateway.server.ranges.LONG_BYTES", 30_000)
    view, plain = "/range?run=A&t0=3&t1=800&fields=x", "/range?run=A&t0=3&t1=800"
    streamed = await harness.get(view)
    assert "Content-Length" not in streamed.headers
    body = await streamed.read()
    assert "Content-Length" in (await harness.get(plain)).headers, "whose blocks tell their sizes"
    head = await harness.get(view, method="HEAD")
    assert int(head.headers["Content-Length"]) == len(body)
    again = await harness.get(view)
    assert (int(again.headers["Content-Length"]), await again.read()) == (len(body), body)


@pytest.mark.parametrize("query", ["fields=x", "format=json&batch=7", "format=csv", "stamp=1&limit=300"])
async def test_what_is_made_for_a_range_is_made_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """Whoever asks for it, at the same time and later, for all of it, its length or parts."""
    made: list[int] = []
    for name in ("_rendered", "_tabulated"):
        make = getattr(ranges, name)

        def counted(wanted: Range, seek_point: SeekPoint, make: Any = make) -> AsyncIterator[BodyPart]:
            made.append(seek_point.offset)
            found: AsyncIterator[BodyPart] = make(wanted, seek_point)
            return found

        monkeypatch.setattr(ranges, name, counted)
    monkeypatch.setattr(bodies, "_CHUNK", 5000)
    target = f"/range?run=A&t0=3&t1={COUNT - 100}&{query}"
    bodies_ = [await one.read() for one in await asyncio.gather(*(harness.get(target) for _ in range(5)))]
    size = int((await harness.get(target, method="HEAD")).headers["Content-Length"])
    assert {len(body) for body in bodies_} == {size} and len(set(bodies_)) == 1
    for first, last in ((0, 10), (4990, 5010), (size - 9000, size - 1)):
        part = await harness.get(target, Range=f"bytes={first}-{last}")
        assert await part.read() == bodies_[0][first : last + 1]
    assert made == [0]


async def test_a_body_without_room_for_a_copy_is_made_again(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies stay within their bound; what has none, or lost it while it was sent, comes all the same."""
    monkeypatch.setattr(bodies, "_CHUNK", 4000)
    monkeypatch.setattr(bodies, "_COPIES", 8_000)
    layouts = harness.gateway.app[BODY_INDEXES_KEY]
    expected: dict[str, bytes] = {}
    for t0 in range(3, 500, 100):
        target = f"/range?run=A&t0={t0}&t1=800&fields=x,name&format=json"
        expected[target] = await (await harness.get(target)).read()
        assert [one["t"] for one in json.loads(expected[target])] == list(range(t0, 801))
        kept = [layout.copy.bytes for layout in layouts._kept.values() if layout.copy is not None]
        assert layouts.bytes == sum(kept) <= 8_000
    assert 0 < len(kept) < len(expected)
    for target, body in expected.items():
        assert await (await harness.get(target)).read() == body
        assert await (await harness.get(target, Range="bytes=7000-9999")).read() == body[7000:10000]
    layout = next(layout for layout in layouts._kept.values() if layout.copy is not None)
    assert layout.copy is not None
    left = layouts.bytes - layout.copy.bytes
    layouts._forget(layout)
    assert layouts.bytes == left
    monkeypatch.setattr(bodies, "_COPIES", 300)  # no room for any
    body = await (await harness.get("/range?run=A&t0=9&t1=800&fields=x&format=json")).read()
    assert len(json.loads(body)) == 792 and layouts.bytes == left


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
    wanted = Range(
        harness.runtime.feed, harness.runtime.fanout.encoder, history.run, Query(t1=last), 2, zstd=True, format="ndjson"
    )
    assert not wanted.settled
    layout = await bodies.measure(wanted)
    await fill(harness, range(count + 303, count + 700))
    assert history.entries[-1].last >= last and wanted.settled
    found = b"".join([bytes(part.data or b"") async for part in parts(wanted, begin(wanted))])
    assert len(found) == layout.size
    assert lines(zstandard.ZstdDecompressor().stream_reader(found, read_across_frames=True).read())[-1] == last


async def test_a_body_that_is_not_as_long_as_was_told_breaks_off(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it longer or shorter: a client must not take it for whole."""
    measured = bodies.measure

    async def wrong(wanted: Range, copying: Any = None) -> bodies.BodyIndex:
        layout = await measured(wanted, copying)
        layout.size += change
        return layout

    monkeypatch.setattr(bodies, "measure", wrong)
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


@pytest.mark.parametrize("target", ["/range", "/range?run=A", "/range?t1=50", f"/range?run=A&t1={COUNT + 10}"])
async def test_what_may_change_has_no_length(harness: Harness, target: str) -> None:
    response = await harness.get(target, Range="bytes=0-5")
    assert response.status == 200
    assert "Content-Length" not in response.headers and "Accept-Ranges" not in response.headers
    await response.read()


@pytest.mark.parametrize("view", [View(), View(every=2)])
@pytest.mark.parametrize("zstd", [False, True])
async def test_memory_lets_go_while_a_range_is_read(harness: Harness, view: View, zstd: bool) -> None:
    """What was in memory when it began, and is in the middle of a block when it goes on: each tick comes once."""
    query = Query(view=view)
    run = harness.runtime.bus.run("A")
    high = COUNT - 1
    wanted = Range(
        harness.runtime.feed, harness.runtime.fanout.encoder, run, query, COUNT - 30, zstd=zstd, format="ndjson"
    )
    body = b""
    async for part in parts(wanted, begin(wanted)):
        assert part.data is not None
        body += part.data
        if high == COUNT - 1:
            high = COUNT + 399
            await fill(harness, range(COUNT, COUNT + 400))
            wanted.high = high
    if wanted.zstd:
        body = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()
    assert lines(body) == [t for t in range(COUNT - 29, high + 1) if t % query.view.every == 0]


# ---- tables ----

MIXED = [
    {"t": 0, "x": 1, "s": "plain", "n": None, "o": {"a": [1, {"b": 2}]}, "m": 1},
    {"t": 3, "s": 'a "b", c', "x": 1.5, "yes": True, "m": "1"},
    {"t": 4, "s": "", "x": None, "o": {"a": []}, "m": [2], "line": "1\n2", "run": "own"},
]
TABLE = '''t,x,s,n,o,m,yes,line,run
0,1,plain,,"{""a"":[1,{""b"":2}]}",1,,,
3,1.5,"a ""b"", c",,,"""1""",true,,
4,,"",,"{""a"":[]}",[2],,"1
2",own
'''


@pytest.fixture(params=["memory", "disk"])
async def mixed(request: pytest.FixtureRequest, open_harness: OpenHarness, tmp_path: Path) -> Harness:
    """A few ticks that do not agree on much, in memory and in history."""
    harness = await open_harness(**({"data": str(tmp_path), "ring": 2} if request.param == "disk" else {}))
    for one in MIXED:
        harness.gateway.publish(one, run="A")
    await harness.runtime.history.settled()
    await harness.settle()
    return harness


async def test_a_table_as_csv(mixed: Harness) -> None:
    for more in ("", "&run=A", "&run=A&t1=4", "&batch=2"):
        response = await mixed.get(f"/range?format=csv{more}")
        assert response.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
        assert (await response.read()).decode() == TABLE


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("fields=x,o.a", 't,o.a,x\n0,"[1,{""b"":2}]",1\n3,,1.5\n4,[],\n'),
        ("fields=o.a.b,nothing", "t,nothing,o.a.b\n0,,[2]\n3,,\n4,,[]\n"),
        ("fields=x&every=3&limit=1", "t,x\n0,1\n"),
        ("fields=x&t0=9", "t,x\n"),
        ("t0=9", "t\n"),
    ],
)
async def test_columns_of_a_table(mixed: Harness, query: str, expected: str) -> None:
    assert (await (await mixed.get(f"/range?format=csv&{query}")).read()).decode() == expected


async def test_a_stamped_table_keeps_the_members_of_these_names(mixed: Harness) -> None:
    body = (await (await mixed.get("/range?format=csv&stamp=1&t0=4")).read()).decode()
    names = body.splitlines()[0].split(",")
    assert names[:3] == ["t", "run", "at"] and names[-1] == "data.run"
    assert body.startswith(",".join(names) + "\n4,A,1") and body.endswith(",own\n")


async def test_a_table_as_arrow(mixed: Harness) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    for more in ("", "&run=A&t1=4"):
        response = await mixed.get(f"/range?format=arrow{more}")
        assert response.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
        table = pyarrow.ipc.open_stream(await response.read()).read_all()
        assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
            "t": "int64", "x": "double", "s": "string", "n": "null", "o": "string", "m": "string", "yes": "bool",
            "line": "string", "run": "string",
        }  # fmt: skip
        assert table.column("x").to_pylist() == [1.0, 1.5, None]
        assert table.column("m").to_pylist() == ["1", '"1"', "[2]"]
        assert [json.loads(text) if text else None for text in table.column("o").to_pylist()] == [
            one.get("o") for one in MIXED
        ]


async def test_a_long_table_as_arrow_by_its_address(harness: Harness) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    await fill(harness, range(COUNT, 3000))
    await fill(harness, range(3000, 3001))
    target = "/range?run=A&t0=3&t1=2950&format=arrow"
    response = await harness.get(target)
    body = await response.read()
    assert len(body) == int(response.headers["Content-Length"])
    reader = pyarrow.ipc.open_stream(body)
    batches = list(reader)
    assert [batch.num_rows for batch in batches] == [1000, 1000, 948]
    assert [t for batch in batches for t in batch.column(0).to_pylist()] == list(range(3, 2951))
    part = await harness.get(target, Range="bytes=60000-70000")
    assert await part.read() == body[60_000:70_001]


async def test_a_table_is_refused_elsewhere_before_anything_is_waited_for(
    open_harness: OpenHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = await open_harness()
    harness.publish([1])
    monkeypatch.setattr(incremental, "pull", None)
    for format in ("csv", "arrow"):
        response = await harness.get(f"/incremental?from_t=A:99&format={format}")
        assert (response.status, (await response.json())["parameter"]) == (400, "format")


async def test_a_table_of_nothing(open_harness: OpenHarness) -> None:
    harness = await open_harness()
    assert await (await harness.get("/range?format=csv&fields=x")).read() == b"t,x\n"
    pyarrow = pytest.importorskip("pyarrow")
    assert pyarrow.ipc.open_stream(await (await harness.get("/range?format=arrow")).read()).read_all().num_rows == 0


async def test_tables_that_cannot_be_had(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    for format in ("csv", "arrow"):
        told = await harness.json(f"/incremental?format={format}", 400)
        assert told["parameter"] == "format" and "/range" in told["message"]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    told = await harness.json("/range?format=arrow", 400)
    assert told["parameter"] == "format" and "tick-gateway[arrow]" in told["message"]


# ---- tools ----


def _duckdb() -> Any:
    duckdb = pytest.importorskip("duckdb")
    pytest.importorskip("duckdb_extensions").import_extension("httpfs")
    connection = duckdb.connect()
    connection.load_extension("httpfs")
    return connection


def _pandas(url: str) -> list[int]:
    pandas = pytest.importorskip("pandas")
    found = pandas.read_json(url, lines=True, compression="zstd" if url.endswith(".zst") else "infer")
    return [int(t) for t in found["t"]]


def _polars(url: str) -> list[int]:
    polars = pytest.importorskip("polars")
    return [int(t) for t in polars.scan_ndjson(url).collect()["t"]]


def _polars_read(url: str) -> list[int]:
    polars = pytest.importorskip("polars")
    return [int(t) for t in polars.read_ndjson(url)["t"]]


def _duckdb_json(url: str) -> list[int]:
    found = _duckdb().sql(f"select t from read_json('{url}', format='newline_delimited') order by t").fetchall()
    return [int(t) for (t,) in found]


TOOLS: dict[str, Callable[[str], list[int]]] = {
    "pandas": _pandas,
    "polars scan": _polars,
    "polars read": _polars_read,
    "duckdb": _duckdb_json,
}
TABLE_TOOLS: dict[str, Callable[[str], Any]] = {
    "pandas": lambda url: pytest.importorskip("pandas").read_csv(url),
    "polars": lambda url: pytest.importorskip("polars").scan_csv(url).collect(),
    "polars read": lambda url: pytest.importorskip("polars").read_csv(url),
    "duckdb": lambda url: _duckdb().sql(f"select * from read_csv('{url}')").pl(),
}


@pytest.mark.parametrize("tool", TABLE_TOOLS)
async def test_tools_read_a_table_by_its_address(harness: Harness, tool: str) -> None:
    url = f"http://127.0.0.1:{harness.port}/range?run=A&t0=3&t1={COUNT - 100}&format=csv"
    found = await asyncio.to_thread(TABLE_TOOLS[tool], url)
    assert [int(t) for t in found["t"]] == list(range(3, COUNT - 99))
    assert list(found.columns) == ["t", "x", "name", "agents"]
    assert [float(x) for x in found["x"]] == [t / 2 for t in range(3, COUNT - 99)]


@pytest.mark.parametrize("tool", TOOLS)
async def test_tools_read_a_range_by_its_address(harness: Harness, tool: str) -> None:
    url = f"http://127.0.0.1:{harness.port}/range?run=A&t0=3&t1={COUNT - 100}"
    assert await asyncio.to_thread(TOOLS[tool], url) == list(range(3, COUNT - 99))


@pytest.mark.parametrize("tool", [name for name in TOOLS if name != "polars read"])
async def test_tools_read_files_by_their_address(harness: Harness, tool: str) -> None:
    """The sealed ones, and the open one as far as it is stored."""
    listed = (await harness.json("/segments"))["segments"]
    for one in (listed[0], listed[-1]):
        found = await asyncio.to_thread(TOOLS[tool], f"http://127.0.0.1:{harness.port}/{one['path']}")
        assert found == list(range(one["first"], one["last"] + 1))
