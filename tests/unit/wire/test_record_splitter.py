"""Publishers' bodies: what comes out does not depend on how the bytes came in."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.bad_lines import MARKED
from tick_gateway.errors import BodyError, Malformed, TickError, TooBig
from tick_gateway.model.tick import parse, shorten
from tick_gateway.wire import record_splitter as body_module
from tick_gateway.wire.codings import CODINGS
from tick_gateway.wire.decoding import DecodingError
from tick_gateway.wire.record_splitter import Line, LineSplitter, Records, values

MAX_LINE = 64

CASES: dict[str, tuple[bytes, list[tuple[int, bytes]]]] = {
    "empty": (b"", []),
    "one line": (b'{"t":1}\n', [(1, b'{"t":1}')]),
    "no newline at the end": (b'{"t":1}\n{"t":2}', [(1, b'{"t":1}'), (2, b'{"t":2}')]),
    "blank lines count and are left out": (b'\n \t\n{"t":1}\n\n{"t":2}\n\n', [(3, b'{"t":1}'), (5, b'{"t":2}')]),
    "CR LF": (b'{"t":1}\r\n\r\n{"t":2}\r\n', [(1, b'{"t":1}\r'), (3, b'{"t":2}\r')]),
    "only white space": (b" \n\t \r\n  ", []),
    "just as long as allowed": (b"a" * MAX_LINE + b"\nb\n", [(1, b"a" * MAX_LINE), (2, b"b")]),
    "too long": (b"a" * 500 + b"\nb\n", [(1, b"a" * (MAX_LINE + 1)), (2, b"b")]),
    "too long at the end": (b"b\n" + b"a" * 500, [(1, b"b"), (2, b"a" * (MAX_LINE + 1))]),
    "too long, twice": (
        b"a" * 70 + b"\n" + b"b" * 70 + b"\nc",
        [(1, b"a" * (MAX_LINE + 1)), (2, b"b" * (MAX_LINE + 1)), (3, b"c")],
    ),
    "no UTF-8": (b"\xff\xfe\n\x00\n", [(1, b"\xff\xfe"), (2, b"\x00")]),
}


def split(pieces: Sequence[bytes], max_line: int = MAX_LINE) -> list[tuple[int, bytes]]:
    lines = LineSplitter(max_line)
    found = [line for piece in pieces for line in lines.feed(piece)]
    return [(number, line) for number, line in [*found, *lines.end()]]


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "byte by byte"])
def test_lines(name: str, cut: Callable[[bytes], list[bytes]]) -> None:
    body, expected = CASES[name]
    assert split(cut(body)) == expected


pieces_of_lines = st.lists(st.text(alphabet='a{}" \t\r\n\n\n', max_size=100).map(str.encode), max_size=20)


@given(pieces_of_lines)
@example([b" aaaa", b"a" * MAX_LINE])  # white space before a long line does not count
def test_lines_do_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    lines = [line if len(line) <= MAX_LINE else shorten(line, MAX_LINE) for line in whole.split(b"\n")]
    expected = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    got = split(pieces)
    # A line of white space that is too long may come out or not; it is refused as no JSON or passed over.
    assert [line for line in got if line[1].strip()] == expected
    assert split([whole]) == got == split(bytewise(whole))


def test_pieces_of_blank_lines_count() -> None:
    pieces = [b"\n\n\n", b'{"t":1', b"\n\n\r\n \n\n  ", b'{"t":2}\n', b"\n" * 1000, b"\n", b'{"t":3}']
    assert split(pieces) == split([b"".join(pieces)]) == [(4, b'{"t":1'), (9, b'  {"t":2}'), (1011, b'{"t":3}')]


def test_an_unfinished_line_is_not_kept_beyond_the_bound() -> None:
    lines = LineSplitter(1000)
    for _ in range(1000):
        assert lines.feed(b"x" * 999) == []
    assert len(bytes(lines._partial)) == 1001
    (line,) = lines.feed(b"\n")
    with pytest.raises(TooBig):
        parse(line.data, 998)  # the gateway's bound for lines leaves room for CR LF


objects = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
).flatmap(lambda value: st.integers(0, 2**53 - 1).map(lambda t: {"t": t, "x": value}))

dumps = st.sampled_from(
    [
        lambda value: json.dumps(value),
        lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        lambda value: json.dumps(value, indent=2),
        lambda value: json.dumps(value, indent="\t", ensure_ascii=False).replace("\n", "\r\n"),
    ]
)


def surrogates(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


@given(st.lists(st.tuples(objects, dumps), min_size=1, max_size=5), st.sampled_from(["", " ", "\n", " \r\n\t"]))
def test_values_are_cut_out_byte_for_byte(records: list[tuple[object, Callable[[object], str]]], space: str) -> None:
    texts = [dump(value).encode("utf-8", "surrogatepass") for value, dump in records]
    texts = [text for text in texts if not surrogates(text.decode("utf-8", "surrogatepass"))] or [b"{}"]
    gap = space.encode()
    array = gap + b"[" + gap + (gap + b"," + gap).join(texts) + gap + b"]" + gap
    row = gap + gap.join(texts) + gap
    expected = list(enumerate(texts, 1))
    assert [tuple(line) for line in values(array)] == expected
    assert [tuple(line) for line in values(row)] == expected


@given(st.binary(max_size=60) | st.text(alphabet='[]{},:"t1 \n', max_size=40).map(str.encode))
def test_values_of_anything_give_records_or_a_body_error(body: bytes) -> None:
    given_out: list[Line] = []
    try:
        for line in values(body):
            given_out.append(line)
    except BodyError as error:
        assert error.status == 400 and str(error)
    for line in given_out:
        json.loads(line.data)


@pytest.mark.parametrize(
    ("body", "before"),
    [
        (b"", 0),
        (b" \n ", 0),
        (b"[", 0),
        (b"[1", 1),
        (b"[1,", 1),
        (b"[1,]", 1),
        (b"[,1]", 0),
        (b"[1 2]", 1),
        (b"[1] 2", 1),
        (b"[1]]", 1),
        (b"[1][2]", 1),
        (b'{"t":1},{"t":2}', 1),
        (b'{"t":1}x', 1),
        (b'{"t":1', 0),
        (b'{"t":1}\xff', 0),
        (b"[" * 100_000, 0),
        (b'{"t":' + b"[" * 100_000, 0),
    ],
)
def test_bodies_that_are_no_json(body: bytes, before: int) -> None:
    given_out = []
    with pytest.raises(BodyError) as caught:
        for line in values(body):
            given_out.append(line)
    assert len(given_out) == before
    assert caught.value.status == 400


def test_an_empty_array_holds_nothing() -> None:
    assert list(values(b" [ ] ")) == []


PRETTY = b'{\n  "t": 1,\n  "x": [\n    2\n  ]\n}\n'
NDJSON, JSON, NONE = "application/x-ndjson", "application/json", "application/octet-stream"
FORM = "application/x-www-form-urlencoded"  # of curl, whatever it sends
MARK = b"\xef\xbb\xbf"

DIGITS = b"9" * 5000

FORMS: list[tuple[str, bytes, list[bytes]]] = [
    (NDJSON, b'{"t":1}\n{"t":2}\n', [b'{"t":1}', b'{"t":2}']),
    (JSON, b'{"t":1}\n{"t":2}\n', [b'{"t":1}', b'{"t":2}']),
    (NONE, b'{"t":1}\n{"t":2}\n', [b'{"t":1}', b'{"t":2}']),
    (JSON, b'{"t":1}', [b'{"t":1}']),
    (NONE, b'{"t":1}', [b'{"t":1}']),
    (JSON, b'{"t":1} {"t":2}', [b'{"t":1}', b'{"t":2}']),
    (JSON, b'{"t":1} {"t":2}\n', [b'{"t":1}', b'{"t":2}']),
    (JSON, PRETTY, [PRETTY.strip()]),
    (NONE, PRETTY, [PRETTY.strip()]),
    (NONE, PRETTY * 2, [PRETTY.strip()] * 2),
    (NONE, PRETTY.replace(b"\n", b"\r\n"), [PRETTY.strip().replace(b"\n", b"\r\n")]),
    (JSON, b' [\n{"t":1} ,\n{"t":2}\n]', [b'{"t":1}', b'{"t":2}']),
    (NONE, b'\n\n[{"t":1},{"t":2}]', [b'{"t":1}', b'{"t":2}']),
    (NONE, b'{"t":1\n{"t":2}\n', [b'{"t":1', b'{"t":2}']),  # a bad line costs that line alone
    (NDJSON, b'[\n{"t":2}\n', [b"[", b'{"t":2}']),
    ("application/jsonlines", b'{\n{"t":2}\n', [b"{", b'{"t":2}']),
    ("application/vnd.tick+json", PRETTY, [PRETTY.strip()]),
    (NONE, b"", []),
    # What curl -d makes of a file: its line breaks are gone.
    (FORM, b'{"t":1}{"t":2}', [b'{"t":1}', b'{"t":2}']),
    (NONE, b'{"t":1} {"t":2}', [b'{"t":1}', b'{"t":2}']),
    (FORM, b'{  "t": 1,  "x": "a&b=%7B"}', [b'{  "t": 1,  "x": "a&b=%7B"}']),
    (FORM, b'{"t":1}' * 300, [b'{"t":1}'] * 300),
    (FORM, PRETTY, [PRETTY.strip()]),
    (FORM, b'[{"t":1},{"t":2}]', [b'{"t":1}', b'{"t":2}']),
    (FORM, b'{"t":1}\n{"t":2}\n', [b'{"t":1}', b'{"t":2}']),
    (FORM, b"t=1&x=2", [b"t=1&x=2"]),
    (NDJSON, b'{"t":1}{"t":2}', [b'{"t":1}{"t":2}']),
    # A byte order mark is the line's own until the line is looked at.
    (NONE, MARK + b'{"t":1}', [MARK + b'{"t":1}']),
    (NONE, MARK + b'{"t":1}\n{"t":2}\n', [MARK + b'{"t":1}', b'{"t":2}']),
    (NDJSON, MARK + b'{"t":1}\n{"t":2}\n', [MARK + b'{"t":1}', b'{"t":2}']),
    (JSON, MARK + b'{"t":1}', [b'{"t":1}']),
    (NONE, b"\n" + MARK + b"\r\n" + PRETTY, [PRETTY.strip()]),
    (JSON, MARK + PRETTY, [PRETTY.strip()]),
    (NONE, MARK + b' [{"t":1}]', [b'{"t":1}']),
    (FORM, MARK + b'{"t":1}{"t":2}', [b'{"t":1}', b'{"t":2}']),
    (NONE, MARK, [MARK]),
    # Numbers that the record is refused for, by itself.
    (NONE, b'[{"t":1},{"t":2,"x":%b},{"t":3}]' % DIGITS, [b'{"t":1}', b'{"t":2,"x":%b}' % DIGITS, b'{"t":3}']),
    (JSON, b'{"t":2,"x":%b}\n{"t":3}\n' % DIGITS, [b'{"t":2,"x":%b}' % DIGITS, b'{"t":3}']),
]


@pytest.mark.parametrize(("media_type", "body", "expected"), FORMS)
@pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "byte by byte"])
def test_the_form_of_a_body(
    media_type: str, body: bytes, expected: list[bytes], cut: Callable[[bytes], list[bytes]]
) -> None:
    records = Records(media_type, 1000, 6000)
    found = [line for piece in cut(body) for line in records.feed(piece)]
    assert [line.data for line in [*found, *records.end()]] == expected


@pytest.mark.parametrize("media_type", [NDJSON, JSON, NONE])
def test_lines_are_given_out_as_soon_as_they_are_whole(media_type: str) -> None:
    records = Records(media_type, 1000, 1000)
    assert records.feed(b'{"t"') == []
    assert records.feed(b':1}\n{"t":2') == [(1, b'{"t":1}')]
    assert records.feed(b"}\n") == [(2, b'{"t":2}')]
    assert list(records.end()) == []


bodies = st.lists(st.text(alphabet='{}[],:"t1 \n\ufeff', max_size=12) | st.sampled_from(MARKED), max_size=12).map(
    lambda parts: "".join(parts).encode()
)


def outcome(media_type: str, max_line: int, max_body: int, pieces: Iterable[bytes]) -> tuple[list[str], str]:
    """What becomes of a body's records, each with its number and in words, and of the body."""
    records, found = Records(media_type, max_line, max_body), list[str]()

    def take(lines: Iterable[Line]) -> None:
        for number, line in lines:
            try:
                found.append(f"{number}: {parse(line, max_line - 2)}")
            except TickError as error:
                found.append(f"{number}: {error}")

    try:
        for piece in pieces:
            take(records.feed(piece))
        take(records.end())
    except BodyError as error:
        return found, str(error)
    return found, ""


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Data in pieces of these sizes, again and again."""
    pieces, at = list[bytes](), 0
    for size in cycle(sizes):
        if at >= len(data):
            return pieces
        pieces.append(data[at : at + size])
        at += size
    return pieces


sizes_of_pieces = st.lists(st.integers(1, 30), min_size=1, max_size=8)


@settings(max_examples=400)
@given(
    st.sampled_from([NDJSON, JSON, NONE, FORM]),
    st.sampled_from([(3, 1000), (9, 1000), (40, 1000), (12, 30), (40, 16)]),
    bodies,
    sizes_of_pieces,
)
@example(JSON, (3, 1000), b"\nNaN\n", [1])
@example(JSON, (40, 1000), b'{"t": [11111111111,1111111111111111111111111111]}\n{}', [19, 30])
@example(NONE, (40, 1000), b"1" * 40 + b"," + b"1" * 40 + b"\n2", [30, 11])
@example(NONE, (9, 1000), b" " * 10 + b'\n[{"t":1}]', [4])  # the form is told, or is not, by white space alone
@example(NDJSON, (9, 1000), b'{"t":1}\n' + b" " * 12 + b"x\n", [1])
@example(NDJSON, (9, 1000), b'{"t":1}' + b" " * 12 + b'{"t":2}\n', [1])
@example(NDJSON, (9, 1000), b"\x0b" * 12 + b"x\n", [1])
@example(NONE, (40, 16), b'{"t":1,"x":2222222222}\n', [1])
@example(FORM, (40, 16), b'{"t":1,"x":2222222222}\n', [1])
def test_what_becomes_of_a_body_does_not_depend_on_the_pieces(
    media_type: str, limits: tuple[int, int], body: bytes, sizes: list[int]
) -> None:
    whole = outcome(media_type, *limits, [body])
    assert outcome(media_type, *limits, bytewise(body)) == whole
    assert outcome(media_type, *limits, cut(body, sizes)) == whole


@settings(max_examples=200)
@given(
    st.sampled_from(["gzip", "zstd"]),
    st.sampled_from([NDJSON, JSON, NONE, FORM]),
    bodies,
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    sizes_of_pieces,
    st.integers(0, 1 << 16) | st.none(),
)
def test_nor_in_a_coding_on_the_pieces_of_that(
    coding: str, media_type: str, body: bytes, flushes: list[int], sizes: list[int], flip: int | None
) -> None:
    packed = bytearray(compressed(coding, cut(body, flushes)))
    if flip is not None:
        packed[flip % len(packed)] ^= 1 << flip % 8

    def told(pieces: list[bytes]) -> tuple[tuple[list[str], str], str]:
        decoding, fault = CODINGS.decoder_of([coding]), ""

        def steps() -> Iterator[bytes]:
            nonlocal fault
            try:
                for piece in pieces:
                    yield from decoding.feed(piece)
                decoding.end()
            except DecodingError as error:
                fault = str(error)

        return outcome(media_type, 40, 1000, steps()), fault

    whole = told([bytes(packed)])
    assert told(bytewise(bytes(packed))) == whole
    assert told(cut(bytes(packed), sizes)) == whole


def compressed(coding: str, pieces: list[bytes]) -> bytes:
    """Pieces in a coding, each of them flushed."""
    if coding == "gzip":
        member = zlib.compressobj(wbits=31)
        return b"".join(member.compress(piece) + member.flush(zlib.Z_SYNC_FLUSH) for piece in pieces) + member.flush()
    packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    return b"".join(packer.compress(piece) + packer.flush(flush) for piece in pieces) + packer.flush()


def test_a_long_line_of_white_space_hides_nothing() -> None:
    """What stands behind it is part of the line, whose beginning alone would be a tick."""
    gap = b" " * 500
    for pieces in ([whole := b'{"t":1}' + gap + b'{"t":2}\n'], bytewise(whole)):
        ((number, line),) = split(pieces)
        assert number == 1
        with pytest.raises(TooBig):
            parse(line, MAX_LINE - 2)
    for pieces in ([whole := gap + b'{"t":1}' + gap + b"\n"], bytewise(whole)):
        assert [(number, line.strip()) for number, line in split(pieces)] == [(1, b'{"t":1}')]


@pytest.mark.parametrize("media_type", [NDJSON, JSON, NONE, FORM])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"t":1}\n{"t":2}\n'.encode("utf-16"), "UTF-16"),
        ('[{"t":1}]'.encode("utf-16-le"), "UTF-16"),
        ('{\n"t":1}'.encode("utf-16-be"), "UTF-16"),
        ('{"t":1}'.encode("utf-32"), "UTF-32"),
        (gzip.compress(b'{"t":1}', mtime=0), "compressed with gzip: decompress it first"),
        (zstandard.compress(b'{"t":1}'), "compressed with zstd: decompress it first"),
    ],
    ids=["UTF-16", "UTF-16-LE", "UTF-16-BE", "UTF-32", "gzip", "zstd"],
)
@pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "byte by byte"])
def test_what_is_no_utf8_is_named_once(
    media_type: str, body: bytes, words: str, cut: Callable[[bytes], list[bytes]]
) -> None:
    records = Records(media_type, 1000, 1000)
    with pytest.raises(BodyError, match=words) as caught:
        for piece in cut(body):
            assert records.feed(piece) == []
    assert caught.value.status == 415


@pytest.mark.parametrize("body", [b"t=1&x=2", b"%7B%22t%22%3A1%7D", b"--------------------------d74496d66958873e\r\n"])
def test_a_web_form_that_is_declared_as_json_is_named(body: bytes) -> None:
    records = Records(JSON, 1000, 1000)
    records.feed(body)
    with pytest.raises(BodyError, match=r"send .*curl: --data-binary"):
        list(records.end())


def test_lines_that_curl_joined_are_bounded_and_the_cure_is_named() -> None:
    records = Records(FORM, 100, 1000)
    records.feed(b'{"t":1}' * 100)
    with pytest.raises(BodyError, match=r"max_body.*curl: --data-binary") as caught:
        records.feed(b'{"t":1}' * 100)
    assert caught.value.status == 413


def test_brackets_without_end_are_named_and_what_came_before_stands() -> None:
    found = []
    with pytest.raises(BodyError, match="nested deeper than 512"):
        for line in values(b'[{"t":1},{"t":2,"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}]"):
            found.append(line)
    assert found == [(1, b'{"t":1}')]
    (line,) = values(b'{"t":1,"x":' + b"[" * 600 + b"]" * 600 + b"}")
    with pytest.raises(Malformed, match="nested deeper than 512"):
        parse(line.data, 10_000)


def test_json_is_bounded_as_a_whole_and_ndjson_is_not() -> None:
    records = Records(JSON, 100, 1000)
    for _ in range(100):
        records.feed(b"[" * 10)
    with pytest.raises(BodyError) as caught:
        records.feed(b"[")
    assert caught.value.status == 413
    with pytest.raises(BodyError):
        Records(JSON, 100, 1000).feed(b"[" * 1001)
    lines = Records(NDJSON, 100, 1000)
    assert sum(len(lines.feed(b'{"t":1}\n')) for _ in range(1000)) == 1000


def test_white_space_without_end_is_not_kept() -> None:
    records = Records(NONE, 100, 1000)
    for _ in range(1000):
        records.feed(b" " * 100)
    assert records.feed(b'\n{"t":1}\n') == [(2, b'{"t":1}')]
    assert sum(map(len, records._parts)) <= 200


@pytest.mark.parametrize("lead", [b"", MARK])
@pytest.mark.parametrize("media_type", [NDJSON, JSON, NONE, FORM])
def test_white_space_without_end_is_looked_at_once(
    monkeypatch: pytest.MonkeyPatch, media_type: str, lead: bytes
) -> None:
    """However many pieces it comes in: what was looked at before is not looked at again with each of them."""
    looked = 0
    really = body_module._without_mark

    def counting(data: bytes) -> bytes:
        nonlocal looked
        looked += len(data)
        return really(data)

    monkeypatch.setattr(body_module, "_without_mark", counting)
    records = Records(media_type, 1 << 20, 1 << 20)
    count = 2000
    for piece in [lead, *[b" \n"] * count, b'{"t"', *[b" "] * count, b":1}\n"]:
        records.feed(piece)
    # Once as it came, once more when the form is told.
    assert looked <= 2 * (len(lead) + 2 * count + 100) + count + (len(lead) + 1) * count
