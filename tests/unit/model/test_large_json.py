"""Large JSON is parsed in parts: exactly as strictly as in one piece, and in little memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.perf import json_memory
from tests.support.bad_lines import MARKED
from tick_gateway.errors import BodyError, TickError
from tick_gateway.model import large_json
from tick_gateway.model.tick import MAX_NESTING, parse
from tick_gateway.wire import record_splitter as body

MAX_TICK = 1 << 20

STRICT = [
    "{}",
    "[]",
    '{"t":1}',
    '{"t":1,}',
    "{,}",
    "[,]",
    "[1,]",
    "[,1]",
    "[1,,2]",
    "[1",
    "2]",
    '{"a"',
    "1}",
    '{"a",1}',
    '{"a":,"b":1}',
    '{"a":1,,"b":2}',
    '{"a":1,"b"}',
    '{"a":1,2}',
    "[1},",
    '{"a":1],',
    '{"t":1}}',
    '{"t":1}]',
    "]]",
    "}}",
    '{"t":1},{"t":2}',
    "[1],[2]",
    '{"t":1}{"t":2}',
    '{"t":[1,2}',
    '{"t":{"a":1]',
    "[{},{]}",
    '[{"a":[}]}',
    '{"t":01}',
    '{"t":-0}',
    '{"t":-}',
    '{"t":1.}',
    '{"t":.5}',
    '{"t":+1}',
    '{"t":1e}',
    '{"t":1e5}',
    '{"t":1E+5}',
    '{"t":1e999}',
    '{"t":-1e999}',
    '{"t":0x1}',
    '{"t":9007199254740991}',
    '{"t":9007199254740992}',
    '{"t":18446744073709551615}',
    '{"t":18446744073709551616}',
    '{"x":[1e308,1e309]}',
    '{"t":NaN}',
    '{"t":Infinity}',
    '{"t":tru}',
    '{"t":true}',
    '{"t":null}',
    '{"t":nulls}',
    '{"t":"1"}',
    '{"t":[1,2],"x":1}',
    '{"t":{"t":5},"x":{"t":6}}',
    '{"t":1,"t":2}',
    '{"t":"x","t":2}',
    '{"t":2,"a":[1,2,{"t":9,"x":1},3],"t":3}',
    '{"":1,"t":2}',
    '{"a":{"":0},"t":1}',
    '[{"t":1},{"t":2}]',
    '{"t":1,"x":"\\ud800"}',
    '{"t":1,"x":"\\ud800\\udc00"}',
    '{"t":1,"x":"\\udc00"}',
    '{"t":1,"x":"\\\\ud800"}',
    '{"x":"\\q","t":1}',
    '{"x":"\\u12"}',
    '{"t":1,"x":"a,b"}',
    '{"t":1,"x":"[{,"}',
    '{"t":1,"x":"\\"","y":"\\\\"}',
    '{"t":1,"x":"\\\\\\",","y":1}',
    '{"a":"b,c":1}',
    '{"a":"b,"c"}',
    '"a,b"',
    '"a","',
    "'a'",
    "{'a':1,'b':2}",
]
STRICT += [
    '{"t":1,"x":"a\tb"}',
    '{"t":1,"x":"a\nb,"}',
    '{"t":1\n,"x"\t:\r[ 1 , 2 ]\n}',
    '{"t":1,"x":"\x00"}',
    "1,2",
    ",",
    "",
    '{"a\\",1',
    '{"t":1,\\"x":2}',
]
STRICT += ['{"t":1,"x":' + "[" * depth + "]" * depth + "}" for depth in (510, 511, 512, 1022, 1023, 1024)]
STRICT += [
    '{"t":1,"x":' + '{"a":[0,' * 255 + "1" + "]}" * 255 + "}",
    '{"t":1,"x":' + '{"a":[0,' * 256 + "1" + "]}" * 256 + "}",
]
CASES = [text.encode() for text in STRICT]
CASES += [
    b'{"t":1,"x":"\xff,"}',
    b'{"t":1,"x":"\xed\xa0\x80"}',
    b'{"t":1,"x":"\xc3,\xa9"}',
    b'\xef\xbb\xbf{"t":1,"x":[1,2]}',
    b'{"t":1,"x":"\xf0\x9f\x98\x80,","y":2}x',
]

values = st.recursive(
    st.sampled_from(
        [None, True, 0, -1, 1.5, 1e300, 2**70, "", "a,b", '"', "\\", "[{", "\u2028", "é", "\U0001f600", "t"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["t", "", "a", "é,", '"']), inner, max_size=4)
    ),
    max_leaves=20,
)
texts = st.builds(
    lambda value, indent, ascii_: json.dumps(value, indent=indent, ensure_ascii=ascii_).encode(),
    st.dictionaries(st.sampled_from(["t", "x", ""]), values, max_size=3) | values,
    st.sampled_from([None, 1]),
    st.booleans(),
)
spoilt = st.builds(
    lambda text, at, size, put: text[: at % (len(text) + 1)] + put + text[at % (len(text) + 1) + size :],
    texts,
    st.integers(0, 1 << 16),
    st.integers(0, 2),
    st.sampled_from([b"", b",", b"[", b"]", b"{", b"}", b'"', b"\\", b"0", b":", b" ", b"\xff", b"\n", b"\x01", b"t"]),
)


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets anything be parsed in parts of so many bytes; 0: in one piece."""

    def set_(size: int) -> None:
        monkeypatch.setattr(large_json, "MANY_BYTES", -1 if size else 1 << 60)
        monkeypatch.setattr(large_json, "_MANY_VALUES", -1)
        monkeypatch.setattr(large_json, "_PART_BYTES", size)
        monkeypatch.setattr(body, "_WINDOW_BYTES", max(size, 4) if size else 1 << 60)

    return set_


def told(data: bytes) -> object:
    try:
        return parse(data, MAX_TICK)
    except TickError as error:
        return f"{error.code}: {error}"


def cut_out(data: bytes) -> tuple[list[body.Line], str]:
    found: list[body.Line] = []
    try:
        found += body.values(data)
    except BodyError as error:
        return found, str(error)
    return found, ""


SIZES = [1, 6, 30]


@pytest.mark.parametrize("data", CASES, ids=range(len(CASES)))
def test_parts_are_judged_as_the_whole(data: bytes, in_parts: Callable[[int], None]) -> None:
    in_parts(0)
    whole, body_whole = told(data), cut_out(data)
    for size in SIZES:
        in_parts(size)
        assert told(data) == whole, size
        assert cut_out(data) == body_whole, size


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SIZES), texts | spoilt)
@example(6, b'{"a":{"":0},"t":1}')
def test_any_text_is_judged_as_the_whole(size: int, data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        set_ = in_parts.__wrapped__(patch)  # type: ignore[attr-defined]
        set_(0)
        whole, body_whole = told(data), cut_out(data)
        set_(size)
        assert told(data) == whole
        assert cut_out(data) == body_whole
        try:
            record = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        if isinstance(record, dict | list):
            assert large_json.depth_of(data) <= large_json.loads(data)[1] <= MAX_NESTING


@given(st.sampled_from(SIZES), st.lists(st.sampled_from([*MARKED, "{", "}", '"', "\\", "é"]), max_size=12))
def test_any_row_of_tokens_is_judged_as_the_whole(size: int, tokens: list[str]) -> None:
    data = "".join(tokens).encode()
    with pytest.MonkeyPatch.context() as patch:
        set_ = in_parts.__wrapped__(patch)  # type: ignore[attr-defined]
        set_(0)
        whole, body_whole = told(data), cut_out(data)
        set_(size)
        assert told(data) == whole
        assert cut_out(data) == body_whole


def test_what_is_large_is_parsed_in_parts() -> None:
    for shape in json_memory.SHAPES.values():
        data = shape(1 << 20)
        assert large_json.has_many_values(data) or data.count(b'"') < 10
    for data in (b'{"t":1,"x":[' + b"1," * 2000 + b"1]}", b'{"t":1,"x":"' + b"x" * (1 << 20) + b'"}'):
        assert not large_json.has_many_values(data)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by /proc, on Linux")
def test_many_small_values_take_little_memory() -> None:
    size = 600_000
    grown = json_memory.grown(size)
    assert len(grown) == 2 * len(json_memory.SHAPES)
    # Copies of what came in, and a text of it where it is wrong; objects of its values would be thirty times as much.
    assert sum(grown.values()) < 32, grown
