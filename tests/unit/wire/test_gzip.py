"""gzip streams that are put together from pieces made once for everybody, and end with their trailer (RFC 1952)."""

from __future__ import annotations

import gzip
import subprocess
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.model.notices import End, Gap
from tick_gateway.model.tick import Position
from tick_gateway.model.view import Payload
from tick_gateway.wire.body import BodyFraming
from tick_gateway.wire.checksum import NOTHING, Checksum
from tick_gateway.wire.compression import GzipCoding
from tick_gateway.wire.framing import joined
from tick_gateway.wire.ndjson import NDJSONFraming
from tick_gateway.wire.sse import SSEFraming

from ...support.needs import program

END = End("limit", Position("r", 9))


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_checksums_are_put_together_and_taken_apart(a: bytes, b: bytes, c: bytes) -> None:
    whole = Checksum.of(a + b + c)
    assert (whole.crc, whole.size) == (zlib.crc32(a + b + c), len(a + b + c))
    assert Checksum.of(a) + Checksum.of(b) + Checksum.of(c) == whole
    assert Checksum.of(a) + (Checksum.of(b) + Checksum.of(c)) == whole
    assert whole.after(Checksum.of(a)) == Checksum.of(b + c)
    assert Checksum.of(a).followed_by(b + c) == whole
    assert NOTHING + whole == whole + NOTHING == whole.after(NOTHING) == whole
    assert whole.after(whole) == NOTHING


def test_checksums_of_long_streams() -> None:
    """Beyond the 4 GiB after which a gzip member's length begins anew."""
    block = b"\0" * (1 << 20)
    crc = 0
    for _ in range(64):
        crc = zlib.crc32(block, crc)
    part = Checksum(crc, 64 << 20)
    whole = NOTHING
    for _ in range(80):
        whole += part
    assert whole.size == 5 << 30
    assert whole.after(part) + part == part + whole.after(part) == whole
    assert GzipCoding().closing(whole)[-4:] == (1 << 30).to_bytes(4, "little")


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
