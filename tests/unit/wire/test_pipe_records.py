"""What a pipe's records are: lines, or JSON on several lines; however its bytes are cut."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.errors import BodyError
from tick_gateway.wire.pipe_records import Pipe

Found = list[tuple[int, bytes]]


def split(data: bytes, size: int = 0, max_record: int = 1000) -> tuple[Found, str]:
    """The records of what comes in pieces of so many bytes, and why its end was none."""
    pipe, found, error = Pipe(max_record), Found(), ""
    try:
        for at in range(0, len(data), size or len(data) or 1):
            found += pipe.feed(data[at : at + (size or len(data))])
        found += pipe.end()
    except BodyError as fault:
        error = str(fault)
    return [(number, bytes(data)) for number, data in found], error


CASES: dict[str, tuple[bytes, Found, str]] = {
    "nothing": (b"", [], ""),
    "blank": (b"\n \n\n", [], ""),
    "lines": (b'\n{"t":1}\n{"t":\n', [(2, b'{"t":1}'), (3, b'{"t":')], ""),
    "no newline at the end": (b'{"t":1}\n{"t":2}', [(1, b'{"t":1}'), (2, b'{"t":2}')], ""),
    "a pretty-printed object": (b'{\n  "t": 1\n}\n', [(1, b'{\n  "t": 1\n}')], ""),
    "several": (b'\n{ "t":\n1}\n{ "t":2\n}', [(2, b'{ "t":\n1}'), (4, b'{ "t":2\n}')], ""),
    "an array": (b'[{"t":1},{"t":2}]', [(1, b'{"t":1}'), (1, b'{"t":2}')], ""),
    "over several lines": (b'[\n  {"t":1},\n\n  {"t":2}\n]\n', [(2, b'{"t":1}'), (4, b'{"t":2}')], ""),
    "a mark before it": (b'\xef\xbb\xbf[\n{"t":1}]', [(2, b'{"t":1}')], ""),
    "and blank lines": (b'\xef\xbb\xbf \n[{"t":1}]', [(2, b'{"t":1}')], ""),
    "an empty array": (b"[]\n", [], ""),
    "arrays in a row": (b'[{"t":1}]\n[\n{"t":2}]{"t":3}', [(1, b'{"t":1}'), (3, b'{"t":2}'), (3, b'{"t":3}')], ""),
    "objects in a row": (b'{"t":1} {"t":2}\n{"t":3}', [(1, b'{"t":1}'), (1, b'{"t":2}'), (2, b'{"t":3}')], ""),
    "brackets in strings": (
        b'[{"t":1,"x":"]}\\"]\\\\"},{"t":2,"x":"\\\\"}]',
        [(1, b'{"t":1,"x":"]}\\"]\\\\"}'), (1, b'{"t":2,"x":"\\\\"}')],
        "",
    ),
    "arrays in objects": (b'[{"t":1,"x":[[],{}]}]', [(1, b'{"t":1,"x":[[],{}]}')], ""),
    "what is no object": (b'[{"t":1},\n 7, "x"]', [(1, b'{"t":1}'), (2, b'7, "x"')], ""),
    "something behind it": (b'[{"t":1}]\nx', [(1, b'{"t":1}'), (2, b"x")], ""),
    "closed once too often": (b'[{"t":1}]]\n}{"t":2}', [(1, b'{"t":1}'), (1, b"]\n}"), (2, b'{"t":2}')], ""),
    "a log in front": (b'[info] begun\n{"t":1}\n', [(1, b"[info] begun"), (2, b'{"t":1}')], ""),
    "an array of others": (b'[1]\n{"t":1}\n', [(1, b"[1]"), (2, b'{"t":1}')], ""),
    "an array without end": (b'[\n{"t":1}\n', [(2, b'{"t":1}')], "the array breaks off: it has no closing bracket"),
    "an object without end": (b'[{"t":1},\n{"t"', [(1, b'{"t":1}')], "the record that begins in line 2 breaks off"),
    "gzip": (gzip.compress(b'{"t":1}', mtime=0), [], "it is compressed with gzip: decompress it first (zcat), or POST"),
    "UTF-16": ('{"t":1}'.encode("utf-16"), [], "it is UTF-16 or UTF-32"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_it_makes_of(name: str) -> None:
    data, expected, reason = CASES[name]
    for size in range(len(data) + 1):
        found, error = split(data, size)
        assert found == expected and error.startswith(reason) and bool(error) == bool(reason), size


@given(
    values=st.lists(st.recursive(st.text(max_size=5), st.lists, max_leaves=4), max_size=6),
    indent=st.sampled_from([None, 0, 2]),
    as_array=st.booleans(),
    size=st.integers(1, 40),
)
def test_whatever_json_writes_comes_out(values: list[object], indent: int | None, as_array: bool, size: int) -> None:
    records = [{"t": t, "x": value} for t, value in enumerate(values)]
    text = json.dumps(records, indent=indent) if as_array else "\n".join(json.dumps(r, indent=indent) for r in records)
    found, error = split(text.encode(), size, 10_000)
    assert [json.loads(data) for _, data in found] == records and not error


@given(st.binary(max_size=60) | st.text('[]{}"\\,\n t1:').map(str.encode), st.integers(1, 9), st.integers(4, 90))
def test_nothing_is_held_beyond_its_bound(data: bytes, size: int, max_record: int) -> None:
    found, error = split(data, size, max_record)
    assert all(len(record) <= max_record + 1 for _, record in found)
    if not re.search(rb"[ \t\r\n,]{%d}" % max_record, data):  # so much that nobody waits for what is behind it
        assert (found, error) == split(data, 0, max_record), "it depends on how it was cut"


@pytest.mark.parametrize("form", [b'[\n{"t":1,"x":"%s"},{"t":2}]', b'{\n"t":1,"x":"%s"}\n{"t":2}'])
def test_a_record_that_is_too_long_costs_itself_alone(form: bytes) -> None:
    for size in (0, 1, 7, 64):
        found, error = split(form % (b'}"{' + b"[" * 300).replace(b'"', b'\\"'), size, 64)
        assert [len(data) for _, data in found] == [65, 7] and found[-1][1] == b'{"t":2}' and not error


def test_a_record_that_is_too_long_is_told_as_that_wherever_it_is_cut() -> None:
    """White space where it is cut must not make it one that is short enough, and broken."""
    record = b'{\n  "t": 1,\n  "x": 2\n}'
    for max_record in range(4, len(record)):  # more than the white space in it
        for size in (0, 1, 3):
            found, error = split(b"[" + record + b"]", size, max_record)
            assert [len(data) for _, data in found] == [max_record + 1] and not error
            assert found[0][1].strip() == found[0][1]


def test_what_stands_between_records_is_not_lost_behind_white_space() -> None:
    found, _ = split(b'[{"t":1},' + b" " * 100 + b'x,{"t":2}]', 0, 64)
    assert [data for _, data in found] == [b'{"t":1}', b"x", b'{"t":2}']
    for size in (0, 9):
        assert split(b"[" + b" " * 100 + b"x", size, 64)[0] == [(1, b"x")]


def test_a_record_that_breaks_off_is_told_by_its_first_line() -> None:
    for size in (0, 5):
        found, error = split(b'[\n{\n"t":1,\n"x":2,\n"y":3,', size, 8)
        assert [number for number, _ in found] == [2] and error == "the record that begins in line 2 breaks off"
