"""Ranges as tables, whatever their ticks hold: cells are what was published, and no tick makes the gateway fail."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.harness import Harness, OpenHarness
from tests.support.stored_ticks import COUNT, fill, harness
from tick_gateway.bus.ring import Batch, Run
from tick_gateway.errors import TickError
from tick_gateway.model.tick import PublishedTick, parse
from tick_gateway.model.view import View
from tick_gateway.reading.cursor import Span
from tick_gateway.server import tables
from tick_gateway.server.tables import TABLE_FORMATS, Columns, Rows, widen_columns
from tick_gateway.transports import incremental

__all__ = ["harness"]

PLAIN = View()
FORMS = ["csv", "arrow", "json", "ndjson"]


def nested(depth: int, core: str, kind: str) -> str:
    """A value in so many arrays, or objects, or both by turns."""
    pairs = {"array": ["[]"], "object": ['{"b":}'], "both": ["[]", '{"b":}']}[kind]
    opened = "".join(pairs[at % len(pairs)][:-1] for at in range(depth))
    closed = "".join(pairs[at % len(pairs)][-1] for at in range(depth))
    return opened + core + closed[::-1]


def table_of(form: str, ticks: list[bytes], view: View = PLAIN) -> bytes:
    """A table of these ticks, made as a range makes it."""
    run = Run("R", 0, 0, 0)
    batch = Batch(run, [PublishedTick(*parse(data, 1 << 20), 7) for data in ticks], 0, False, 0)
    span, rows = Span(batch, 0, len(batch.ticks)), Rows(view)
    columns: Columns = rows.columns()
    for some in rows.of(span, None, 1):
        widen_columns(columns, some.rows)
    table = TABLE_FORMATS[form](columns)
    return b"".join(
        [table.begin(), *(table.more(some.rows) for some in rows.of(span, None, len(columns))), table.end()]
    )


def read_csv(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body.decode(), newline="")))


# ---- what a stored tick may hold ----


@pytest.mark.parametrize("kind", ["array", "object", "both"])
@pytest.mark.parametrize("stored", [False, True], ids=["memory", "disk"])
async def test_ticks_as_deep_as_they_may_be_can_be_read_in_every_way(
    open_harness: OpenHarness, tmp_path: Path, kind: str, stored: bool
) -> None:
    harness = await open_harness(**({"data": str(tmp_path), "ring": 1} if stored else {}))
    deep = nested(509, '{"b":1}', kind)
    for t in range(3):
        harness.gateway.publish(f'{{"t":{t},"a":{deep}}}'.encode(), run="R")
    await harness.runtime.history.settled()
    await harness.settle()
    reads = [
        f"/range?run=R&t1=2&format={form}{more}"
        for form in FORMS
        for more in ("", "&fields=a.b", "&fields=a.b.b.b,a", "&stamp=1", "&batch=2&stamp=1&fields=a.b")
    ]
    reads += [f"/{route}?run=R{more}" for route in ("ticks/1", "latest", "incremental") for more in ("", "&fields=a.b")]
    reads += ["/poll?last_t=R:0&fields=a.b&timeout=0", "/poll?last_t=R:-1&limit=2&timeout=0"]
    for target in reads:
        response = await harness.get(target)
        assert (response.status, bool(await response.read())) == (200, True), target
    body = await (await harness.get("/range?run=R&t1=2&format=csv&fields=a.b")).read()
    led_to = [json.loads(row["a.b"]) for row in read_csv(body)]
    assert len(led_to) == 3
    while isinstance(led_to[0], list) and led_to[0] and kind == "array":
        led_to[0] = led_to[0][0]
    if kind == "array":
        assert led_to[0] == 1


_texts = st.text(st.sampled_from('a1 ",\\\n\r\0[{é\u2028\U0001f41f'), max_size=5)
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts
_names = st.sampled_from(["t", "run", "at", "a", "b", "a.b", "data.run", "data.data.run", "é", ""])
_values = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3))
_views = st.builds(
    View,
    fields=st.lists(st.sampled_from(["a", "a.b", "b.a.b", "run", "data.run", "é", "t", "t.a"]), max_size=4).map(
        lambda paths: tuple(sorted(set(paths)))
    ),
    every=st.sampled_from([1, 2]),
    stamp=st.booleans(),
)


def follow(value: Any, parts: list[str]) -> Iterator[Any]:
    """What a path leads to, at most one value."""
    if not parts:
        yield value
    elif isinstance(value, dict) and parts[0] in value:
        yield from follow(value[parts[0]], parts[1:])
    elif isinstance(value, list):
        yield [found for one in value if isinstance(one, dict | list) for found in follow(one, parts)]


def cell(name: str, column: dict[str, str], text: str) -> Any:
    return json.loads(text) if column[name] in ("json", "int", "float", "bool") else text


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.dictionaries(_names.filter(lambda name: name != "t"), _values, max_size=4), min_size=1, max_size=5),
    _views,
)
def test_a_table_has_what_its_ticks_have(records: list[dict[str, Any]], view: View) -> None:
    data, kept = [], []
    for t, record in enumerate(records):
        line = json.dumps({"t": t} | record, ensure_ascii=bool(t % 2), indent=t % 3 or None).encode(
            "utf-8", "surrogatepass"
        )
        try:
            parse(line, 1 << 20)
        except TickError:  # a lone surrogate, say: no such tick is ever stored
            continue
        data.append(line)
        if t % view.every == 0:
            kept.append(json.loads(line))
    expected: list[dict[str, Any]] = []
    rename = Rows(view)._name
    for record in kept:
        row: dict[str, Any] = {"t": record.pop("t")}
        if view.stamp:
            row |= {"run": "R", "at": 7}
        if view.fields:
            whole = {"t": row["t"]} | record
            row |= {
                rename(path): found for path in view.fields if path != "t" for found in follow(whole, path.split("."))
            }
        else:
            row |= {rename(name): value for name, value in record.items()}
        expected.append(row)
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.ipc.open_stream(table_of("arrow", data, view)).read_all()
    assert len(set(table.column_names)) == len(table.column_names)
    kinds = {name: str(table.schema.field(name).type) for name in table.column_names}
    rows = read_csv(table_of("csv", data, view))
    assert [list(row) for row in rows] == [table.column_names] * len(expected)
    for index, (row, wanted) in enumerate(zip(rows, expected, strict=True)):
        for name in table.column_names:
            value, text, arrow = wanted.get(name), row[name], table.column(name)[index].as_py()
            if value is None:
                assert (text, arrow) == ("", None)
            elif kinds[name] != "string":
                assert json.loads(text) == value == arrow
            elif isinstance(value, str) and text == value:
                assert arrow == value
            else:
                assert json.loads(text) == value and json.loads(arrow) == value


def test_cells_are_what_was_published() -> None:
    body = table_of("csv", [b'{"t":1,"x":1.50,"y":1e2,"z":-0,"o":{"a" : 1.0},"s":"\\u00e9","big":9223372036854775808}'])
    assert body.decode() == 't,x,y,z,o,s,big\n1,1.50,1e2,-0,"{""a"" : 1.0}",é,9223372036854775808\n'


async def test_no_two_columns_have_one_name(open_harness: OpenHarness) -> None:
    harness = await open_harness()
    harness.gateway.publish({"t": 0, "run": 1, "data.run": 2, "data.data.run": 3, "data.x": 4}, run="R")
    await harness.settle()
    (row,) = read_csv(await (await harness.get("/range?format=csv&stamp=1")).read())
    assert {name: row[name] for name in row if name != "at"} == {
        "t": "0", "run": "R", "data.run": "1", "data.data.run": "2", "data.data.data.run": "3", "data.x": "4"
    }  # fmt: skip


# ---- how wide a table may be ----


@pytest.mark.parametrize("form", TABLE_FORMATS)
@pytest.mark.parametrize("wide", ["one tick", "all ticks together", "long names"])
async def test_a_table_of_too_many_columns(
    open_harness: OpenHarness, tmp_path: Path, form: str, wide: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(tables, "MAX_COLUMNS", 100)
    harness = await open_harness(data=str(tmp_path))
    records: dict[str, list[dict[str, int]]] = {
        "one tick": [{f"k{n}": n for n in range(20_000)}],
        "all ticks together": [{f"k{t}": t} for t in range(tables.MAX_COLUMNS)],
        "long names": [{f"k{t}" + "x" * 50_000: t} for t in range(6)],
    }
    for t, record in enumerate(records[wide]):
        harness.gateway.publish({"t": t} | record, run="R")
    last = len(records[wide]) - 1
    await harness.runtime.history.settled()
    await harness.settle()
    for target in (f"/range?format={form}", f"/range?run=R&t1={last}&format={form}"):
        told = await harness.json(target, 400)
        assert told["parameter"] == "format" and f"{tables.MAX_COLUMNS} different members" in told["message"]
        assert "fields" in told["message"]
    named = await harness.get(f"/range?run=R&t1={last}&format={form}&fields=k0")
    assert named.status == 200 and await named.read()
    if wide == "all ticks together":
        fits = await harness.get(f"/range?run=R&t1={last - 1}&format={form}")
        assert (fits.status, int(fits.headers["Content-Length"])) == (200, len(await fits.read()))


async def test_others_have_their_turn_while_a_wide_table_is_made(open_harness: OpenHarness) -> None:
    """Its work comes in small portions, whatever lies together in memory."""
    harness: Harness = await open_harness()
    for t in range(400):
        harness.gateway.publish({"t": t, f"k{t}": t}, run="R")
    await harness.settle()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    response = await harness.get("/range?format=csv")
    body = await response.read()
    counting.cancel()
    assert len(body.splitlines()) == 401
    assert turns > 400 * 401 / tables._SLICE_CELLS


def test_portions_are_bounded() -> None:
    ticks = [b'{"t":%d,"s":"%s"}' % (t, b"x" * 9000) for t in range(50)]
    run = Run("R", 0, 0, 0)
    batch = Batch(run, [PublishedTick(t, data, 0) for t, data in enumerate(ticks)], 0, False, 0)
    by_bytes = [len(some.rows) for some in Rows(View()).of(Span(batch, 0, 50), None, 2)]
    assert max(by_bytes) == tables._SLICE_BYTES // len(ticks[0]) and sum(by_bytes) == 50
    assert [len(some.rows) for some in Rows(View()).of(Span(batch, 0, 50), None, 1000)][:2] == [4, 4]
    table = TABLE_FORMATS["csv"](dict.fromkeys(["t", "s"], "text"))
    assert table.whole


# ---- as they are served ----

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
    monkeypatch.setattr(incremental, "Pull", None)
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
