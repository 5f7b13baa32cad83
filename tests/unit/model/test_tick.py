"""The door: which bytes are a tick, and what of them is delivered."""

from __future__ import annotations

import gzip
import json
import math
import string
from typing import Any

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tick_gateway.errors import Malformed, TickError, TooBig
from tick_gateway.model.tick import MAX_NESTING, MAX_T, Position, nesting, parse, parse_position

from ...support.bad_lines import REFUSED

MAX_TICK = 2000

TAKEN: dict[str, tuple[bytes, int, bytes | None]] = {
    # name: what is published, its t, what is delivered (None: the same bytes)
    "smallest": (b'{"t":0}', 0, None),
    "largest t": (b'{"t":9007199254740991}', MAX_T, None),
    "spaces stay inside": (b'{ "t" :\t1 }', 1, None),
    "white space around": (b' \t\r\n{"t":1}\n\r\t ', 1, b'{"t":1}'),
    "LF between tokens": (b'{\n"t":1\n}', 1, b'{ "t":1 }'),
    "CR between tokens": (b'{\r"t":1}', 1, b'{ "t":1}'),
    "CR LF between tokens": (b'{\r\n  "t": 1\r\n}', 1, b'{    "t": 1  }'),
    "t last": (b'{"x":{"t":9},"t":1}', 1, None),
    "t written as an escape": (b'{"\\u0074":5}', 5, None),
    "escaped line breaks stay escaped": (b'{"t":1,"x":"\\r\\n"}', 1, None),
    "line breaks that JSON does not know": (
        '{"t":1,"x":"\x7f\x85\u2028\u2029","\u2028":"\u2027\u202aÂ\u0805"}'.encode(),
        1,
        '{"t":1,"x":"\x7f\\u0085\\u2028\\u2029","\\u2028":"\u2027\u202aÂ\u0805"}'.encode(),
    ),
    "escaped ones": (b'{"t":1,"x":"\\u2028\\u0085"}', 1, None),
    "a byte order mark": (b'\xef\xbb\xbf{"t":1}', 1, b'{"t":1}'),
    "a byte order mark between white space": (
        b' \xef\xbb\xbf\r\n{"t":1,"x":"\xef\xbb\xbf"}',
        1,
        b'{"t":1,"x":"\xef\xbb\xbf"}',
    ),
    "1,900 digits behind the point": (b'{"t":1,"x":0.' + b"1" * 1900 + b"}", 1, None),
    "1,900 digits and an exponent": (b'{"t":1,"x":' + b"1" * 1900 + b"e-1800}", 1, None),
    "escapes and solidus as written": (b'{"t":1,"x":"\\/\\u00fc\\u0000\\ud83d\\ude00"}', 1, None),
    "numbers as written": (b'{"t":1,"x":[1.10,1E5,-0,-0.0,1e-999,0.10000000000000000000001]}', 1, None),
    "integers beyond 64 bits": (b'{"t":1,"x":-' + b"9" * 300 + b"}", 1, None),
    "as large as allowed": (b'{"t":1,"x":"' + b"x" * (MAX_TICK - 14) + b'"}', 1, None),
    "white space around does not count": (b" " * MAX_TICK + b'{"t":1}', 1, b'{"t":1}'),
}

REFUSED_HERE: list[tuple[bytes, str]] = [
    (b"", "not valid JSON"),
    (b"\xef\xbb\xbf", "not valid JSON"),
    (b'\xef{"t":1}', "not UTF-8"),
    (b'\xef\xbb\xbf\xef\xbb\xbf{"t":1}', "not valid JSON"),
    (b"\xef\xbb\xbf " * 400, "not valid JSON"),
    ('{"t":1}'.encode("utf-16"), "it is UTF-16"),
    ('{"t":1}'.encode("utf-16-le"), "it is UTF-16"),
    ('{"t":1}'.encode("utf-16-be"), "it is UTF-16"),
    ('{"t":1}'.encode("utf-32"), "it is UTF-16 or UTF-32"),
    ('\n{"t":1}'.encode("utf-16-le")[1:], "it is UTF-16"),
    (gzip.compress(b'{"t":1}', mtime=0), "compressed with gzip: decompress it first"),
    (zstandard.compress(b'{"t":1}'), "compressed with zstd: decompress it first"),
    ('{"t":1,"x":"é"}'.encode("latin-1"), "it is not UTF-8, by byte 0xe9 at 12"),
    (b'{"t":1,"x":nan}', "NaN and Infinity are no JSON"),
    (b'{"t":1,"x":[-inf]}', "NaN and Infinity are no JSON"),
    (b'{"t":1,"x":True}', "json.dumps"),
    (b'{"t": 1}{"t": 2}', "one tick a line, or a message"),
    (b'{"t": 1,', "an object takes one line (jq -c)"),
    (b"{", "an object takes one line (jq -c)"),
    (b'"t": 1,', "an object takes one line (jq -c)"),
    (b"}", "an object takes one line (jq -c)"),
    (b'[{"t":1},{"t":2}]', "this is an array; several ticks come one by one (jq -c '.[]')"),
    (b'"{\\"t\\":1}"', "this is a string; was it encoded twice?"),
    (b"t=1&x=2", "web forms: send JSON (curl: --data-binary)"),
    (b"%7B%22t%22%3A1%7D", "web forms: send JSON (curl: --data-binary)"),
    (b"--------boundary", "a form in parts: send the file itself (curl: --data-binary)"),
    (b'{"t":1,"x":' + b"[" * 1900, "nested deeper than 512"),
    (b'{"t":1,"x":"' + "\u2028".encode() * 400 + b'"}', "at most"),
    (b'\x0b{"t":1}', "not valid JSON"),
    (b'\xc2\xa0{"t":1}', "not valid JSON"),
    (b'{"t":1}\x00', "not valid JSON"),
    (b'{"t":1,"x":"\n"}', "not valid JSON"),
    (b'{"t":1,"x":"\r"}', "not valid JSON"),
    (b'{"t":1,"x\n":1}', "not valid JSON"),
    (b'{"t":1,"x":1e999}', "the number 1e999 is beyond 1.8e308 (binary64)"),
    (b'{"t":1,"x":[0,-1e999]}', "the number -1e999 is beyond 1.8e308 (binary64)"),
    (b'{"t":1,"x":' + b"9" * 400 + b"}", "is beyond 1.8e308 (binary64)"),
    (b'{"t":1,"x":' + b"9" * 1900 + b"}", "is beyond 1.8e308 (binary64)"),
    (b'{"t":1,"x":"\\udc00"}', "the escape \\udc00 is a lone surrogate"),
    (b'{"t":1,"\\uD83D\\u0041":1}', "the escape \\uD83D is a lone surrogate"),
    (b'{"t":1,"x":-}', "not valid JSON"),
    (b'{"t":1,"x":.5}', "not valid JSON"),
    (b'{"t":1,"x":+1}', "not valid JSON"),
    (b'{"t":1,"x":0x1}', "not valid JSON"),
    (b"{'t':1}", "json.dumps"),
    (b"{t:1}", "not valid JSON"),
    (b'{"t":1}// no', "not valid JSON"),
    (b'{"t":1,"x":[1,]}', "not valid JSON"),
    (b'{"t":1,"x":tru}', "not valid JSON"),
    (b'{"t":1,"x":"\\x"}', "not valid JSON"),
    (b'{"t":1,"x":"\xed\xa0\x80"}', "a lone surrogate at byte 12, which UTF-8 does not have"),
    (b'{"t":1,"x":"\xc0\xaf"}', "UTF-8"),
    (b'{"t":1,"x":' + b"[" * 9000 + b"]" * 9000 + b"}", "at most"),
    (b'{"t":{}}', "an object"),
]


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_is_delivered_as_published(name: str) -> None:
    published, t, delivered = TAKEN[name]
    assert parse(published, MAX_TICK) == (t, published if delivered is None else delivered)


@pytest.mark.parametrize(("data", "reason"), REFUSED + REFUSED_HERE, ids=lambda value: repr(value)[:30])
def test_what_is_no_tick_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(TickError) as refusal:
        parse(data, MAX_TICK)
    assert reason in str(refusal.value)
    assert len(str(refusal.value)) < 300, "what was published is not echoed at any length"


def test_a_tick_too_big_says_its_size_and_the_bound() -> None:
    with pytest.raises(TooBig) as refusal:
        parse(b'{"t":1}', 6)
    assert (refusal.value.size, refusal.value.limit) == (7, 6)


@pytest.mark.parametrize(("data", "t"), [(b'{"t":-3}', -3), (b'{"t":1,"x":%s}' % (b"[" * 512 + b"]" * 512), 1)])
def test_a_refusal_carries_the_number_where_it_could_be_read(data: bytes, t: int) -> None:
    with pytest.raises(Malformed) as refusal:
        parse(data, 10_000)
    assert refusal.value.t == t


# ---- nesting ----


@pytest.mark.parametrize(("opener", "closer"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"]":', b"}]")])
def test_nesting_of_512_is_taken_and_513_is_not(opener: bytes, closer: bytes) -> None:
    levels = 1 if closer != b"}]" else 2

    def tick(depth: int) -> bytes:  # the tick itself is a level
        times, odd = divmod(depth - 1, levels)
        return b'{"t":1,"x":' + b"[" * odd + opener * times + b"0" + closer * times + b"]" * odd + b"}"

    assert parse(tick(512), 100_000) == (1, tick(512))
    with pytest.raises(Malformed, match="nested deeper than 512"):
        parse(tick(513), 100_000)


def test_many_brackets_side_by_side_or_in_strings_are_not_deep() -> None:
    wide = b'{"t":1,"x":[' + b",".join([b"[{}]"] * 600) + b"]}"
    assert parse(wide, 100_000) == (1, wide)
    quoted = json.dumps({"t": 1, "x": '[{"\\' * 600, '\\"[' * 300: 1}).encode()
    assert parse(quoted, 100_000) == (1, quoted)


leaves = st.none() | st.booleans() | st.text('[]{}"\\a', max_size=6) | st.integers(-9, 9)
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"', max_size=2), inner, max_size=2)
)


def depth(value: object) -> int:
    match value:
        case list():
            return 1 + max(map(depth, value), default=0)
        case dict():
            return 1 + max(map(depth, value.values()), default=0)
    return 0


@settings(max_examples=50, deadline=None)
@given(trees, st.integers(505, 515))
def test_nesting_is_that_of_the_tree(tree: object, above: int) -> None:
    data = b"[" * above + json.dumps(tree).encode() + b"]" * above
    real = above + depth(tree)
    found = nesting(data)
    assert (found == real) if found else real <= MAX_NESTING, "0 is said only where it cannot be too deep"


# ---- byte for byte ----

texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x85\u2028\u2029\u2027"), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=12
)


def written(value: object, draw: st.DataObject) -> str:
    """JSON with white space of any kind between its tokens, and text escaped or not."""
    blank = draw.draw(st.text(" \t\r\n", max_size=2))
    if isinstance(value, dict):
        members = [written(name, draw) + ":" + written(inner, draw) for name, inner in value.items()]
        return f"{blank}{{{','.join(members)}{blank}}}{blank}"
    if isinstance(value, list):
        return f"{blank}[{','.join(written(inner, draw) for inner in value)}{blank}]{blank}"
    return blank + json.dumps(value, ensure_ascii=draw.draw(st.booleans())) + blank


@settings(max_examples=50, deadline=None)
@given(st.integers(0, MAX_T), st.dictionaries(texts.filter(lambda name: name != "t"), values, max_size=3), st.data())
def test_nothing_changes_but_line_breaks_between_tokens(t: int, members: dict[str, Any], data: st.DataObject) -> None:
    published = written({**members, "t": t}, data).encode()
    number, delivered = parse(published, 1 << 20)
    assert number == t
    expected = published.strip(b" \t\r\n").replace(b"\r", b" ").replace(b"\n", b" ").decode()
    for char in "\x85\u2028\u2029":
        expected = expected.replace(char, f"\\u{ord(char):04x}")
    assert delivered == expected.encode()
    assert parse(delivered, 1 << 20) == (t, delivered), "what was delivered is delivered again"
    assert len(delivered.decode().splitlines()) == 1
    assert json.loads(delivered) == json.loads(published)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError("too large for a double")
    return float(text)


def oracle(data: bytes) -> int | None:
    """What the standard library makes of it: the tick's ``t``, or None."""
    try:
        record = json.loads(data.decode(), parse_constant=_no_constant, parse_float=_finite)
        json.dumps(record, ensure_ascii=False).encode()  # an escaped lone surrogate has no UTF-8
    except (ValueError, RecursionError):
        return None
    t = record.get("t") if isinstance(record, dict) else None
    return t if type(t) is int and 0 <= t <= MAX_T else None


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        [
            case[0]
            for name, case in TAKEN.items()
            if "64 bits" not in name and "order mark" not in name and len(case[0]) < 200
        ]
    ),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 2), st.sampled_from([*string.printable.encode(), 0, 0xFF]))),
)
@example(b'{"t":1}', [(0, 1, 0xFF)])
def test_a_damaged_tick_is_taken_where_another_strict_reader_takes_it(
    data: bytes, changes: list[tuple[int, int, int]]
) -> None:
    damaged = bytearray(data)
    for place, cut, byte in changes[:3]:
        place %= len(damaged) + 1
        damaged[place : place + cut] = bytes([byte])
    try:
        found: int | None = parse(bytes(damaged), 1000)[0]
    except TickError:
        found = None
    assert found == oracle(bytes(damaged))


# ---- positions ----


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("0", 0),
        ("-1", -1),
        ("9007199254740991", MAX_T),
        ("a:0", Position("a", 0)),
        ("a:-1", Position("a", -1)),
        ("20260101T000000Z-0a1b2c:5", Position("20260101T000000Z-0a1b2c", 5)),
        ("A._-9:7", Position("A._-9", 7)),
        ("r" * 64 + ":1", Position("r" * 64, 1)),
        ("5:5", Position("5", 5)),
    ],
)
def test_positions(text: str, position: Position | int) -> None:
    assert parse_position(text) == position
    assert str(position) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:",
        ":1",
        "-2",
        "a:-2",
        "+1",
        "01",
        "-0",
        "1.0",
        "1e3",
        " 1",
        "1 ",
        "1\n",
        "a:1\n",
        "9007199254740992",
        "a:9007199254740992",
        "99999999999999999",
        "a b:1",
        "-a:1",
        ".a:1",
        "a:b:1",
        "ä:1",
        "a\n:1",
        "٣",
        "a:٣",
        "1_0",
        "a/b:1",
        "0x1",
        "None",
        "r:",
    ],
)
def test_what_is_no_position_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"accepted: RUN:T or T"):
        parse_position(text)


@settings(max_examples=50, deadline=None)
@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True), st.integers(-1, MAX_T))
def test_a_position_comes_back_as_it_was_told(run: str, t: int) -> None:
    assert parse_position(str(Position(run, t))) == Position(run, t)
