"""Views: which ticks pass, what of them is kept, and how they are joined to messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tick_gateway.cursor import Span
from tick_gateway.ring import Batch, Run
from tick_gateway.tick import Tick, parse
from tick_gateway.variant import Encoder
from tick_gateway.view import BATCH_MESSAGE_BYTES, Payload, View, arrays, cut, join, project

AGENTS: dict[str, Any] = {
    "t": 3,
    "world": {"w": 8, "h": 9, "wind": {"x": 1, "y": 2}},
    "agents": [{"id": 1, "x": 0.5, "pos": {"lat": 1, "lon": 2}}, {"id": 2}, 7, "a", None, [{"id": 3, "y": 1}, 8]],
    "n": 5,
    "": {"": 6},
}


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        (("n",), {"t": 3, "n": 5}),
        (("n", "t"), {"t": 3, "n": 5}),
        (("nothing",), {"t": 3}),
        (("t",), {"t": 3}),
        (("t.x",), {"t": 3}),
        (("world",), {"t": 3, "world": AGENTS["world"]}),
        (("world.w",), {"t": 3, "world": {"w": 8}}),
        (("world.h", "world.w"), {"t": 3, "world": {"w": 8, "h": 9}}),
        (("world.wind.x",), {"t": 3, "world": {"wind": {"x": 1}}}),
        (("world", "world.w"), {"t": 3, "world": AGENTS["world"]}),
        (("world.w", "world"), {"t": 3, "world": AGENTS["world"]}),
        (("world.wind", "world.wind.x", "world.w"), {"t": 3, "world": {"w": 8, "wind": {"x": 1, "y": 2}}}),
        (("world.nothing",), {"t": 3, "world": {}}),
        (("n.x",), {"t": 3}),
        (("agents.id",), {"t": 3, "agents": [{"id": 1}, {"id": 2}, [{"id": 3}]]}),
        (("agents.pos.lon",), {"t": 3, "agents": [{"pos": {"lon": 2}}, {}, [{}]]}),
        (("agents.id", "agents.y"), {"t": 3, "agents": [{"id": 1}, {"id": 2}, [{"id": 3, "y": 1}]]}),
        (("agents",), {"t": 3, "agents": AGENTS["agents"]}),
    ],
)
def test_fields(fields: tuple[str, ...], kept: dict[str, Any]) -> None:
    data = json.dumps(AGENTS).encode()
    assert json.loads(project(data, fields)) == kept
    assert json.loads(project(data, tuple(reversed(fields)))) == kept


def test_members_keep_the_tick_s_own_order_and_t_its_place() -> None:
    assert project(b'{"b":1,"t":3,"c":2,"a":{"y":1,"x":2}}', ("a.x", "a.y", "b")) == b'{"b":1,"t":3,"a":{"y":1,"x":2}}'


def test_a_t_inside_is_no_t_of_the_tick() -> None:
    assert project(b'{"t":3,"a":{"t":4,"x":5}}', ("a.x",)) == b'{"t":3,"a":{"x":5}}'


def test_text_stays_one_line_and_itself() -> None:
    text = 'ü\u2028\\/"\u0000\n\U0001f600<>&'
    data = json.dumps({"t": 1, "x": text, "y": 1}).encode()
    shown = project(data, ("x",))
    assert json.loads(shown) == {"t": 1, "x": text}
    assert b"\n" not in shown and b"\r" not in shown


NUMBERS = [
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "9" * 300,
    "9007199254740993",
    "-0.0",
]
NUMBERS += ["0.1", "1e22", "1e-7", "5e-324", "2.2250738585072014e-308", "1.7976931348623157e308", "123456789.123456789"]
NUMBERS += ["3.0", "1E5", "12345678901234567890123.5", "1e-999", "0.30000000000000004", "4.35", "1e23", "8.5e+7"]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_keep_their_value(number: str) -> None:
    published = b'{"t":1,"y":0,"a":[{"x":%s,"y":1}]}' % number.encode()
    shown = project(published, ("a.x",))
    assert repr(json.loads(shown)["a"][0]["x"]) == repr(json.loads(published)["a"][0]["x"])


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
names = st.sampled_from(["a", "b", "c", "ü"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=15
)
paths = st.lists(st.lists(names, min_size=1, max_size=3).map(".".join), min_size=1, max_size=4, unique=True)


def model(value: Any, fields: list[list[str]]) -> Any:
    """The rule once more, path by path: arrays are gone through, what has no members is no place to look in."""
    if isinstance(value, list):
        return [model(element, fields) for element in value if isinstance(element, (dict, list))]
    kept = {}
    for name, member in value.items():
        rests = [path[1:] for path in fields if path[0] == name]
        if [] in rests:
            kept[name] = member
        elif rests and isinstance(member, (dict, list)):
            kept[name] = model(member, rests)
    return kept


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(names, values, max_size=4), paths)
@example({"a": [[], [[{"b": 1}]], {}]}, ["a.b"])
def test_a_projection_is_that_of_the_model(members: dict[str, Any], fields: list[str]) -> None:
    record = {"t": 1, **members}
    data = json.dumps(record, ensure_ascii=False).encode()
    t, data = parse(data, 1 << 20)
    shown = project(data, tuple(fields))
    expected = model(record, [["t"], *(path.split(".") for path in fields)])
    assert repr(json.loads(shown)) == repr(expected), "the same values in the same order"
    assert parse(shown, 1 << 20) == (t, shown), "a tick still"


def test_ticks_at_the_door_s_limits_are_shown() -> None:
    deep = b'{"t":1,"x":' + b"[" * 511 + b"]" * 511 + b"}"
    assert project(parse(deep, 10_000)[1], ("x",)) == deep
    number = b'{"t":1,"x":' + b"9" * 308 + b"}"
    assert project(parse(number, 10_000)[1], ("x",)) == number


# ---- which ticks, and their stamp ----

TICKS = [Tick(t, b'{"t":%d,"x":%d,"y":0}' % (t, t * t), 1000 + t) for t in range(10)]


@pytest.mark.parametrize(("every", "passing"), [(1, range(10)), (3, [0, 3, 6, 9]), (7, [0, 7]), (100, [0])])
def test_every_counts_by_the_tick_s_own_number(every: int, passing: list[int]) -> None:
    view = View(every=every)
    assert [payload.t for payload in view.render("r", TICKS)] == list(passing)
    assert [tick.t for tick in TICKS if view.passes(tick.t)] == list(passing)
    assert [payload.t for payload in view.render("r", TICKS[1:], most=2)] == [t for t in passing if t][:2]


def test_a_plain_view_shows_the_very_bytes() -> None:
    assert View().plain and View(()).plain
    for payload, tick in zip(View().render("r", TICKS), TICKS, strict=True):
        assert payload == Payload(tick.t, tick.data)
        assert payload.data is tick.data


@pytest.mark.parametrize("view", [View(("x",)), View(every=2), View(batch=1), View(stamp=True)])
def test_what_asks_for_anything_is_not_plain(view: View) -> None:
    assert not view.plain


def test_a_stamp_wraps_what_the_fields_left() -> None:
    assert View(stamp=True).render("r", TICKS[2:3]) == [
        Payload(2, b'{"t":2,"run":"r","at":1002,"data":{"t":2,"x":4,"y":0}}')
    ]
    assert View(("x",), 2, 0, True).render("r", TICKS, most=2)[1] == Payload(
        2, b'{"t":2,"run":"r","at":1002,"data":{"t":2,"x":4}}'
    )


def test_fields_apply_to_each_tick() -> None:
    assert View(("x",)).render("r", TICKS[:2]) == [Payload(0, b'{"t":0,"x":0}'), Payload(1, b'{"t":1,"x":1}')]


# ---- batches ----

HALF = BATCH_MESSAGE_BYTES // 2


def sized(*sizes: int) -> list[Payload]:
    return [Payload(t, b"%d" % t + b" " * (size - len(str(t)))) for t, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "batch", "first"),
    [
        ([], 3, None),
        ([1], 1, 1),
        ([1, 1], 3, None),
        ([1, 1, 1], 3, 3),
        ([1, 1, 1, 1], 3, 3),
        ([HALF, HALF], 3, None),
        ([HALF, HALF, 1], 4, 2),
        ([HALF, HALF + 1], 3, 1),
        ([4 * HALF], 3, None),
        ([4 * HALF, 1], 3, 1),
        ([4 * HALF], 1, 1),
    ],
)
def test_where_the_first_full_message_ends(sizes: list[int], batch: int, first: int | None) -> None:
    assert cut(sized(*sizes), batch) == first


def test_joined_ticks_are_an_array_at_the_position_of_the_last() -> None:
    assert join([Payload(1, b'{"t":1}')]) == Payload(1, b'[{"t":1}]')
    assert join([Payload(1, b'{"t":1}'), Payload(5, b'{"t":5}')]) == Payload(5, b'[{"t":1},{"t":5}]')


def test_without_a_batch_messages_are_the_ticks() -> None:
    payloads = sized(1, 1)
    assert arrays(payloads, 0) is payloads
    assert arrays([], 5) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([2, 9, HALF, HALF + 1, 3 * HALF]), max_size=15), st.integers(1, 7))
def test_arrays_hold_every_tick_once_in_messages_as_full_as_allowed(sizes: list[int], batch: int) -> None:
    payloads = sized(*sizes)
    messages = arrays(payloads, batch)
    assert [t for message in messages for t in json.loads(message.data)] == [payload.t for payload in payloads]
    begin = 0
    for message in messages:
        held = json.loads(message.data)
        size = sum(sizes[begin : begin + len(held)])
        assert message.t == held[-1]
        assert 1 <= len(held) <= batch
        assert size <= BATCH_MESSAGE_BYTES or len(held) == 1
        begin += len(held)
        full = len(held) == batch or begin == len(sizes) or size + sizes[begin] > BATCH_MESSAGE_BYTES
        assert full, "a message ends only where the next tick has no place"


@pytest.mark.parametrize("view", [View(), View(every=3), View(fields=("x",)), View(fields=("x",), every=3, stamp=True)])
def test_at_most_none_is_none(view: View) -> None:
    """What is left of a limit may be nothing, which is not the same as no limit."""
    run = Run("A", 0, 0, 0)
    batch = Batch(run, [Tick(t, b'{"t":%d,"x":1}' % t, 0) for t in range(9)], 0, False)
    passing = [t for t in range(9) if view.passes(t)]
    for most, expected in ((None, passing), (0, []), (-1, []), (2, passing[:2]), (99, passing)):
        assert [payload.t for payload in Encoder(1 << 20).payloads(view, Span(batch, 0, 9), most)] == expected
        assert [payload.t for payload in view.render("A", batch.ticks, most)] == expected
