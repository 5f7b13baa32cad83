"""Content codings of bodies: what comes out does not depend on how the bytes came in, and every step is bounded."""

from __future__ import annotations

import gzip
import itertools
import struct
import zlib
from collections.abc import Callable, Iterable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.encoded import bomb_of_blocks, encoded, encoded_open, gzipped, skippable, zstd
from tick_gateway.wire import codings
from tick_gateway.wire.decoding import MAX_STEP, MAX_WINDOW, DecodingError
from tick_gateway.wire.zstd_frame import MAGIC

CODINGS = list(codings.CODINGS)
decoder_of = codings.CODINGS.decoder_of
LINES = b"".join(b'{"t":%d,"x":%d}\n' % (t, t * t) for t in range(5000))


def run(coding: str, pieces: Iterable[bytes]) -> tuple[bytes, str]:
    """What comes out, and the error that ended it, where one did."""
    taker, out = decoder_of([coding]), bytearray()
    try:
        for piece in pieces:
            for step in taker.feed(piece):
                assert len(step) <= MAX_STEP
                out += step
        taker.end()
    except DecodingError as error:
        assert (error.status, error.code) == (400, "bad_body")
        return bytes(out), str(error)
    return bytes(out), ""


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    at = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(at)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


RUNS = {  # more than a step holds, and more than a slice
    "lines": LINES,
    "nothing": b"",
    "zeros": bytes(3 * MAX_STEP + 5),
    "noise": b"".join(zlib.crc32(b"%d" % i).to_bytes(4, "little") for i in range(40_000)),
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("name", RUNS)
def test_what_went_in_comes_out(coding: str, name: str) -> None:
    data = RUNS[name]
    for body in (encoded(coding, data), encoded(coding, data[:100], data[100:]), encoded(coding, data) * 3):
        assert run(coding, [body]) == (data * (3 if len(body) > 2 * len(encoded(coding, data)) else 1), "")
    assert run(coding, bytewise(encoded(coding, data[:70_000]))) == (data[:70_000], "")


@pytest.mark.parametrize("level", [-5, 1, 3, 19])
def test_frames_of_every_kind(level: int) -> None:
    sized = zstandard.ZstdCompressor(level=level).compress
    for data in (
        b"",
        b"x" * 5,
        LINES[:200],
        LINES[:300],
        bytes(70_000),
        RUNS["noise"][: 40_000 if level > 3 else None],
    ):
        body = sized(data) + skippable(b"seek me" * 5000, 14) + zstd(data, checksum=False, level=level) + skippable(b"")
        assert run("zstd", [body]) == run("zstd", cut(body, range(0, 10**6, 37))) == (data * 2, "")


some_bytes = st.binary(max_size=300) | st.sampled_from([b"a" * 400, LINES[:500], bytes(1000)])


@pytest.mark.parametrize("coding", CODINGS)
@given(st.lists(some_bytes, max_size=5), st.integers(1, 3), st.lists(st.integers(0, 10**6), max_size=12))
@settings(max_examples=60, deadline=None)
def test_it_does_not_depend_on_the_pieces(coding: str, parts: list[bytes], members: int, places: list[int]) -> None:
    body = encoded(coding, *parts) * members
    expected = (b"".join(parts) * members, "")
    assert run(coding, [body]) == run(coding, cut(body, places)) == run(coding, bytewise(body)) == expected


@pytest.mark.parametrize("coding", CODINGS)
@given(
    parts=st.lists(some_bytes, min_size=1, max_size=4),
    places=st.lists(st.integers(0, 10**6), max_size=8),
    at=st.integers(0, 10**6),
    noise=st.binary(min_size=1, max_size=6),
    kind=st.sampled_from(["cut", "change", "insert", "append"]),
)
@settings(max_examples=150, deadline=None)
def test_whatever_is_broken_is_told_and_what_came_before_is_given(
    coding: str, parts: list[bytes], places: list[int], at: int, noise: bytes, kind: str
) -> None:
    whole = encoded(coding, *parts)
    at %= len(whole)
    rest = {"cut": b"", "change": noise + whole[at + len(noise) :], "insert": noise + whole[at:]}.get(kind, b"")
    body = whole + noise if kind == "append" else whole[:at] + rest
    given_out, told = run(coding, cut(body, places))
    assert (given_out, told) == run(coding, [body]) == run(coding, bytewise(body))
    if kind in ("cut", "append"):
        original = b"".join(parts)
        assert given_out == original if kind == "append" else original.startswith(given_out)
        assert told or kind == "append" or at == 0  # what is appended may be the beginning of what may follow


@pytest.mark.parametrize("coding", CODINGS)
@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 300), max_size=4))
def test_anything_at_all_gives_bytes_or_the_documented_error(coding: str, noise: bytes, places: list[int]) -> None:
    for body in (noise, encoded(coding, b"{}\n")[:10] + noise, MAGIC + noise):
        assert run(coding, [body]) == run(coding, cut(body, places))


@pytest.mark.parametrize("coding", CODINGS)
def test_a_flush_is_out_at_once(coding: str) -> None:
    taker, out = decoder_of([coding]), b""
    pieces = [b'{"t":%d}\n' % t for t in range(50)]
    body = encoded(coding, *pieces)
    at, flushed = 0, 0
    for number in range(1, len(pieces) + 1):
        upto = len(encoded_open(coding, pieces[:number]))
        out += b"".join(taker.feed(body[at:upto]))
        at, flushed = upto, flushed + len(pieces[number - 1])
        assert len(out) == flushed


@pytest.mark.parametrize("coding", CODINGS)
def test_what_was_flushed_before_a_fault_is_given(coding: str) -> None:
    first = encoded_open(coding, [LINES])
    given_out, told = run(coding, [first + b"\xff\xff\xff\xff garbage"])
    assert given_out == LINES and "broken" in told
    assert run(coding, [first]) == (LINES, f"the {coding} data breaks off before its end")


def test_a_wrong_checksum_is_told_behind_the_data() -> None:
    for coding, back in (("gzip", 8), ("gzip", 1), ("zstd", 1)):
        body = bytearray(encoded(coding, LINES))
        body[-back] ^= 1
        given_out, told = run(coding, [bytes(body)])
        assert given_out == LINES and told.startswith(f"the {coding} data is broken"), told


@pytest.mark.parametrize(
    ("coding", "tail", "told"),
    [
        ("gzip", b"\n", "breaks off"),  # might have become the head of another member
        ("gzip", b"garbage", "something that is no gzip follows"),
        ("gzip", b"\0" * 512, "something that is no gzip follows"),
        ("gzip", zstd(b"x"), "something that is no gzip follows"),
        ("zstd", b"\n", "breaks off"),
        ("zstd", b"garbage", "something that is no zstd follows"),
        ("zstd", gzipped(b"x"), "something that is no zstd follows"),
        ("zstd", skippable(b"x" * 20)[:-1], "breaks off"),
    ],
)
def test_what_follows_the_data_is_an_error(coding: str, tail: bytes, told: str) -> None:
    given_out, error = run(coding, [encoded(coding, b"{}\n") + tail])
    assert given_out == b"{}\n" and told in error


def test_bodies_that_are_in_another_coding() -> None:
    assert "incorrect header check" in run("gzip", [b'{"t":1}\n'])[1]
    assert "incorrect header check" in run("gzip", [zlib.compress(b"x")])[1]
    assert "does not begin as a frame" in run("zstd", [b'{"t":1}\n'])[1]
    assert run("gzip", []) == run("zstd", []) == (b"", "")  # that an empty body is none is for others to say


def test_a_window_is_bounded() -> None:
    def framed(log: int, mantissa: int = 0) -> bytes:
        return MAGIC + bytes([0, log - 10 << 3 | mantissa]) + b"\x01\x00\x00"

    assert run("zstd", [framed(23)]) == (b"", "")
    for head in (framed(23, 1), framed(24), framed(31), framed(41, 7)):
        assert "--ultra" in run("zstd", [head])[1] and str(MAX_WINDOW) in run("zstd", [head])[1]
    single = MAGIC + b"\xe0" + struct.pack("<Q", MAX_WINDOW + 1)
    assert "needs a window of 8388609 bytes" in run("zstd", [single])[1]
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True)
    wide = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    assert "134217728" in run("zstd", [wide.compress(LINES) + wide.flush()])[1]


def test_a_dictionary_is_not_to_be_had() -> None:
    samples: list[bytes | bytearray | memoryview[int]] = [
        b'{"t":%d,"x":"%d"}' % (i, i * 7919 % 1000) for i in range(2000)
    ]
    trained = zstandard.train_dictionary(2000, samples)
    body = zstandard.ZstdCompressor(dict_data=trained).compress(LINES)
    assert str(trained.dict_id()) in run("zstd", [body])[1]


@pytest.mark.parametrize(
    ("coding", "make", "size"),
    [
        ("zstd", lambda: bomb_of_blocks(2000), 2000 * MAX_STEP),
        ("gzip", lambda: gzip.compress(bytes(100 << 20), 9), 100 << 20),
    ],
)
def test_a_bomb_goes_off_step_by_step(coding: str, make: Callable[[], bytes], size: int) -> None:
    taker, total, steps = decoder_of([coding]), 0, 0
    for step in taker.feed(make()):
        assert len(step) <= MAX_STEP
        total, steps = total + len(step), steps + 1
    taker.end()
    assert total == size and steps >= size // MAX_STEP


@pytest.mark.parametrize(
    ("coding", "member"), [("gzip", gzipped(b"")), ("zstd", zstd(b"")), ("zstd", skippable(b"")), ("zstd", b"")]
)
def test_work_without_output_is_done_in_steps_too(coding: str, member: bytes) -> None:
    """So that others have their turn: a step is a member, or a block."""
    body = member * 2000 if member else MAGIC + b"\0\0" + b"\0\0\0" * 2000 + b"\x01\0\0"
    taker: Callable[[bytes], Iterable[bytes]] = decoder_of([coding]).feed
    assert sum(1 for _ in taker(body)) >= 2000
