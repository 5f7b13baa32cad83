"""Projection: which members are kept, and that their values are the very bytes that were published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tick_gateway.model.projection import project
from tick_gateway.model.tick import escape_line_ends, parse

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


# ---- byte for byte ----

SPELLINGS = [
    "1.0000000000000000001", "1E-400", "1.10", "100e-1", "-0", "-0.0", "0E+5", "1e5", "9" * 308, "0." + "1" * 5000,
    r'"\u00fc\/\u0041\ud83d\ude00\n"', '"ü"', '"\u2027"', '"/"', '"\x7f"', "[ 1 , [ ] ]",
    '{ "x" : 1.10 ,\t"x":2 }', "{}", "[]", "null", "true", '"[{]}\\\\"', '"\\""',
]  # fmt: skip


@pytest.mark.parametrize("value", SPELLINGS)
@pytest.mark.parametrize("name", ["x", "ü", "x y", "a\\"])
def test_a_value_is_left_as_it_was_published(name: str, value: str) -> None:
    key = json.dumps(name, ensure_ascii=False)
    other = ' , "y" : [ {"x" : "}" } ]'
    published = f'{{ "t" : 7{other} , {key} :\t{value} }}'.encode()
    assert project(published, (name,)) == f'{{"t":7,{key}:{value}}}'.encode()
    within = f'{{"a":[ {{ {key} : {value} }} , {{"y":1, {key}:{value}{other}}}, 5 ],"t" : 7}}'.encode()
    assert project(within, (f"a.{name}",)) == f'{{"a":[{{{key}:{value}}},{{{key}:{value}}}],"t":7}}'.encode()


@pytest.mark.parametrize(
    ("published", "fields", "shown"),
    [
        ('{"t":1,"x":1,"y":0,"x":2.0}', "x", '{"t":1,"x":2.0}'),
        ('{"t":1,"a":{"x":1,"y":1},"t":2,"a":{"y":2}}', "a.x", '{"t":2,"a":{}}'),
        ('{"t":1,"a":5,"a":{"x":2}}', "a.x", '{"t":1,"a":{"x":2}}'),
        ('{"t":1,"a":{"x":2},"a":5}', "a.x", '{"t":1}'),
        (r'{"\u0074":1,"\u00e4":"\u00e4","t":1}', "ä", r'{"t":1,"ä":"\u00e4"}'),
        (r'{"t":1,"\u2028":1,"a":{"\u0085":"\u2029"}}', "\u2028,a.\x85", r'{"t":1,"\u2028":1,"a":{"\u0085":"\u2029"}}'),
    ],
)
def test_of_members_of_one_name_the_last_counts_and_names_are_written_anew(
    published: str, fields: str, shown: str
) -> None:
    assert project(published.encode(), tuple(fields.split(","))) == shown.encode()


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 400])
@pytest.mark.parametrize("name", ["x", "ü"])
def test_arrays_in_arrays_are_gone_through_however_deep(depth: int, name: str) -> None:
    inner = f'{{"{name}":1.10,"y":2}},3,[],{{"{name}":{{}}}}'
    published = '{"t":1,"a":' + "[" * depth + inner + "]" * depth + "}"
    shown = published.replace(',"y":2', "").replace(",3", "")
    assert project(published.encode(), (f"a.{name}",)) == shown.encode()


def test_views_of_many_places() -> None:
    names = [f"m{index}" for index in range(64)]
    published = "{" + ",".join(f'"{name}":{{"x":1.10,"y":[{{"z": 2.0}},1]}}' for name in names) + ',"t":1}'
    shown = "{" + ",".join(f'"{name}":{{"x":1.10}}' for name in names) + ',"t":1}'
    assert project(published.encode(), tuple(f"{name}.x" for name in names)) == shown.encode()
    shown = "{" + ",".join(f'"{name}":{{"y":[{{"z":2.0}}]}}' for name in names) + ',"t":1}'
    assert project(published.encode(), tuple(f"{name}.y.z" for name in names)) == shown.encode()


class Slow:
    """A cutter that is slow and plainly right: it reads a tick token by token and remembers where each value lies."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def space(self) -> None:
        while self.text[self.at] in " \t\r\n":
            self.at += 1

    def value(self) -> tuple[Any, str]:
        """What stands here (members, elements, or None for a scalar), and its text; goes on behind it."""
        begin, found = self.at, None  # type: tuple[int, Any]
        if self.text[begin] == "{":
            found = dict(self.members())
        elif self.text[begin] == "[":
            found = list(self.elements())
        else:
            _, self.at = json.JSONDecoder().raw_decode(self.text, begin)
        return found, self.text[begin : self.at]

    def members(self) -> Iterator[tuple[str, Any]]:
        self.at += 1
        self.space()
        while self.text[self.at] != "}":
            name, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
            self.space()
            self.at += 1  # the colon
            self.space()
            yield name, self.value()
            self.comma()
        self.at += 1

    def elements(self) -> Iterator[Any]:
        self.at += 1
        self.space()
        while self.text[self.at] != "]":
            yield self.value()
            self.comma()
        self.at += 1

    def comma(self) -> None:
        self.space()
        if self.text[self.at] == ",":
            self.at += 1
            self.space()


def cut_slowly(found: Any, paths: list[list[str]]) -> str:
    if isinstance(found, list):
        return "[" + ",".join(cut_slowly(inner, paths) for inner, _ in found if inner is not None) + "]"
    kept = []
    for name, (inner, text) in found.items():
        rests = [path[1:] for path in paths if path[0] == name]
        if [] in rests:
            kept.append((name, text))
        elif rests and inner is not None:
            kept.append((name, cut_slowly(inner, rests)))
    return "{" + ",".join(f"{msgspec.json.encode(name).decode()}:{text}" for name, text in kept) + "}"


spaces = st.text(" \t", max_size=2)
spelled = st.sampled_from([spelling for spelling in SPELLINGS if len(spelling) < 400]) | st.floats(
    allow_nan=False, allow_infinity=False
).map(lambda number: f"{number:.25g}")
escaped_names = st.sampled_from(["a", "b", "c", "ü", "\u2028"]).flatmap(
    lambda name: st.sampled_from([json.dumps(name), json.dumps(name, ensure_ascii=False), f'"\\u{ord(name):04x}"'])
)


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(spaces, escaped_names, spaces, spaces, inner, spaces)
    return st.lists(member.map(lambda m: f"{m[0]}{m[1]}{m[2]}:{m[3]}{m[4]}{m[5]}"), max_size=4).map(
        lambda parts: "{" + ",".join(parts) + "}"
    )


def arrays_of(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(spaces, st.lists(inner, max_size=4), spaces).map(
        lambda parts: "[" + parts[0] + (parts[2] + "," + parts[0]).join(parts[1]) + parts[2] + "]"
    )


documents = st.recursive(spelled, lambda inner: objects(inner) | arrays_of(inner), max_leaves=20)
wanted = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "ü", "\u2028", "t"]), min_size=1, max_size=3).map(".".join),
    min_size=1,
    max_size=4,
    unique=True,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(escaped_names, documents), max_size=4), st.sampled_from(["", " "]), wanted)
@example([('"a"', '[[[[{"a":1.10}]]], {"a" : [ ] }]')], " ", ["a.a"])
@example([('"a"', "18446744073709551616"), ('"b"', '"\\ud83d\\ude00"')], "", ["a.b", "b.a"])
def test_a_projection_is_that_of_a_slow_cutter(members: list[tuple[str, str]], space: str, paths: list[str]) -> None:
    text = "{" + ",".join([f'{space}"t":{space}15', *(f"{name}{space}:{value}" for name, value in members)]) + "}"
    text = escape_line_ends(text.encode()).decode()
    t, published = parse(text.encode(), 1 << 20)
    assert published.decode() == text
    split = [["t"], *(path.split(".") for path in paths)]
    found, _ = Slow(text).value()
    shown = project(published, tuple(paths))
    assert shown.decode() == escape_line_ends(cut_slowly(found, split).encode()).decode()
    assert parse(shown, 1 << 20) == (t, shown), "a tick still, on one line"
