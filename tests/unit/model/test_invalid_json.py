"""Why bytes are no tick: the cause and, where there is one, the cure."""

from __future__ import annotations

import gzip
import re

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.model.invalid_json import explain, other_encoding, web_form


def explained(data: bytes, *, inside: bool = False) -> str:
    with pytest.raises(orjson.JSONDecodeError) as error:
        orjson.loads(data)
    return explain(data, error.value, inside=inside)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "it is empty"),
        (gzip.compress(b"{}", mtime=0), "compressed with gzip: decompress it first (zcat)"),
        (zstandard.ZstdCompressor().compress(b"{}"), "compressed with zstd: decompress it first (zstdcat)"),
        ('{"t":1}'.encode("utf-16"), "UTF-16 or UTF-32, not UTF-8"),
        ('{"t":1}'.encode("utf-32-be"), "UTF-16 or UTF-32, not UTF-8"),
        (b'{"t":1,"x":"\xe9"}', "not UTF-8, by byte 0xe9 at 12"),
        (b'{"t":1,"x":"\xed\xa0\x80"}', "a lone surrogate at byte 12"),
        (rb'{"t":1,"x":"\ud800"}', r"the escape \ud800 is a lone surrogate"),
        (b'{"t":1,"x":1e999}', "the number 1e999 is beyond 1.8e308"),
        (b'{"t":1,"x":-' + b"9" * 400 + b"}", "-9999999999999999999... (400 characters or more)"),
        (b'{"t":1,"x":NaN}', "NaN and Infinity are no JSON"),
        (b'{"t":1,"x":-Infinity}', "NaN and Infinity are no JSON"),
        (b"{'t':1}", "json.dumps makes JSON of it"),
        (b'{"t":1,"x":True}', "json.dumps makes JSON of it"),
        (b"t=1&x=2", "the encoding of web forms"),
        (b"%7B%22t%22%3A1%7D", "the encoding of web forms"),
        (b"--boundary", "a form in parts"),
        (b'{"t":1', "an object takes one line (jq -c)"),
        (b'"x": 1,', "an object takes one line (jq -c)"),
        (b"}", "an object takes one line (jq -c)"),
        (b'{"t":1}{"t":2}', "one tick a line, or a message"),
    ],
)
def test_the_cause_and_the_cure(data: bytes, told: str) -> None:
    assert told in explained(data)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"t":1,"x":NaN}', "NaN and Infinity are no JSON"),
        (b"{'t':1}", "publish the dict itself, or json.dumps of it"),
        (b'{"t":1', "a string is published as a tick's JSON"),
    ],
)
def test_a_program_of_ones_own_is_told_of_no_shells_tools(data: bytes, told: str) -> None:
    found = explained(data, inside=True)
    assert told in found and not re.search("jq|curl|zcat", found)


@pytest.mark.parametrize(
    ("head", "other"),
    [(b"", False), (b'{"t"', False), (b"\xef\xbb\xbf{", False), (b"\x1f\x8b\x08\0", True), (b"\x28\xb5\x2f\xfd", True),
     (b"\xff\xfe{\0", True), (b"\xfe\xff\0{", True), (b"{\0\"\0", True), (b"\0{\0\"", True)],
)  # fmt: skip
def test_text_in_utf_8_is_told_from_everything_else_by_four_bytes(head: bytes, other: bool) -> None:
    assert (other_encoding(head) is not None) == other


@pytest.mark.parametrize("text", ["{}", "[1]", '{"a=b":1}', "", " a=1"])
def test_what_is_no_form(text: str) -> None:
    assert web_form(text) == ""


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_that_the_parser_refuses_are_explained_in_a_sentence(data: bytes, inside: bool) -> None:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as error:
        told = explain(data, error, inside=inside)
        assert told and "\n" not in told and len(told) < 400
