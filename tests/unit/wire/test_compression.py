"""Compression made once for everybody: what is shared and what is standalone, put together, is one body."""

from __future__ import annotations

import gzip
import subprocess
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.bench.decoders import content_decoder
from tick_gateway.model.notices import End, Gap
from tick_gateway.model.tick import Position
from tick_gateway.model.view import Payload
from tick_gateway.wire.body import BodyFraming
from tick_gateway.wire.compression import DeflateCompressor, GzipCoding, ZstdCoding, ZstdFrameCompressor
from tick_gateway.wire.framing import joined
from tick_gateway.wire.ndjson import NDJSONFraming
from tick_gateway.wire.sse import SSEFraming
from tick_gateway.wire.zstd_frame import MAGIC

from ...support.needs import program

END = End("limit", Position("r", 9))


def body(framing: BodyFraming, count: int, *, shared: bool) -> tuple[bytes, bytes]:
    """A stream to its end, and what it says: pieces that stand alone, and where ``shared`` some of a shared stream."""
    plain = type(framing)(False)
    stream = framing.shared()
    assert stream is not None
    told, said = framing.opening, plain.opening.data
    data, content = told.data, told.content
    for number in range(count):
        payloads = [Payload(number, b'{"t":%d,"same":"%s"}' % (number, b"x" * 50))]
        if shared and number % 3:
            before = stream.content
            data += stream.messages("r", payloads)
            content += stream.content.after(before)
            if number % 3 == 2:
                stream.cut()
        else:
            piece = joined([framing.messages("r", payloads), framing.heartbeat, framing.notice(Gap("r", 1, 5))])
            data, content = data + piece.data, content + piece.content
        said += plain.messages("r", payloads).data
        if not (shared and number % 3):
            said += plain.heartbeat.data + plain.notice(Gap("r", 1, 5)).data
    return data + framing.closing(END, content), said


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
@pytest.mark.parametrize("framing", [NDJSONFraming(False, GzipCoding()), SSEFraming(False, GzipCoding(9))])
def test_a_stream_ends_whole(framing: BodyFraming, count: int, shared: bool) -> None:
    data, said = body(framing, count, shared=shared)
    assert gzip.decompress(data) == said
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert decoder.decompress(data) == said
    assert (decoder.eof, decoder.unused_data) == (True, b"")


def test_the_gzip_command_reads_it() -> None:
    data, said = body(NDJSONFraming(False, GzipCoding()), 20, shared=True)
    run = subprocess.run([program("gzip"), "-t"], input=data, capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (0, b"")
    assert subprocess.run([program("gzip"), "-dc"], input=data, capture_output=True, check=True).stdout == said


@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize("make", [GzipCoding, ZstdCoding])
def test_codings_are_values(make: type[GzipCoding | ZstdCoding], level: int) -> None:
    """Readers of equal ones share their bytes."""
    assert make(level) == make(level) and hash(make(level)) == hash(make(level)) and make(level) != make(level + 1)
    assert len({GzipCoding(level), ZstdCoding(level)}) == 2


def inflate(data: bytes) -> bytes:
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data)


def unframe(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(MAGIC + data)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.booleans()), min_size=1, max_size=20))
def test_what_follows_a_cut_refers_to_nothing_before_it(pieces: list[tuple[bytes, bool]]) -> None:
    """So that a reader who joins there can decode it."""
    for compressor, decode in ((DeflateCompressor(6), inflate), (ZstdFrameCompressor(3), unframe)):
        section, said = b"", b""
        for data, cuts in pieces:
            if cuts:
                compressor.cut()
                section, said = b"", b""
            section, said = section + compressor.add(data), said + data
            assert decode(section) == said, "each piece can be decoded as soon as it is there"


def test_a_section_that_remembers_is_smaller() -> None:
    tick = b'{"t":1,"agents":[' + b",".join(b'{"x":%d}' % (n * 7919 % 1000) for n in range(100)) + b"]}"
    for compressor in (DeflateCompressor(3), ZstdFrameCompressor(3)):
        first, second = compressor.add(tick), compressor.add(tick)
        compressor.cut()
        assert len(second) < len(first) // 4 and len(compressor.add(tick)) >= len(first) - len(MAGIC)


@pytest.mark.parametrize("coding", [GzipCoding(), ZstdCoding()])
def test_a_body_in_steps_is_the_body_as_a_whole(coding: GzipCoding | ZstdCoding) -> None:
    text = b'{"t":1}\n' * 5000
    stream = coding.stream()
    data = b"".join([stream.compress(text[at : at + 999]) for at in range(0, len(text), 999)]) + stream.flush()
    for body in (data, coding.whole(text)):
        decoder = content_decoder(coding.name, strict=True)
        assert decoder.feed(body) == text and decoder.whole
