"""NDJSON in zstd frames: what each write holds, as decoders of different habits meet it."""

from __future__ import annotations

import subprocess

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.bench.decoders import ChunkedDecoder
from tick_gateway.model.notices import End, Gap
from tick_gateway.model.tick import Position
from tick_gateway.model.view import Payload
from tick_gateway.wire.checksum import NOTHING
from tick_gateway.wire.compression import ZstdCoding
from tick_gateway.wire.framing import LAST_CHUNK, joined
from tick_gateway.wire.ndjson import NDJSONFraming
from tick_gateway.wire.zstd_frame import MAGIC

from ...support.needs import program

CODED = NDJSONFraming(False, ZstdCoding())
BLOCK = zstandard.ZstdCompressor().compress(b'{"t":1}\n{"t":2}\n')


def writes(count: int) -> tuple[list[bytes], bytes]:
    """What is written to a reader, one call after another, and what it says."""
    made: list[tuple[bytes, bytes]] = [(CODED.opening.data, b"")]
    for number in range(count):
        choices: list[tuple[bytes, bytes]] = [
            (CODED.messages("r", [Payload(number, b'{"t":%d}' % number)]).data, b'{"t":%d}\n' % number),
            (CODED.heartbeat.data, b"\n"),
            (CODED.stored(BLOCK).data, b'{"t":1}\n{"t":2}\n'),
            (CODED.notice(Gap("r", 1, 5)).data, b'{"notice":"gap","run":"r","after":1,"next":5}\n'),
        ]
        made.append(choices[number % len(choices)])
    end = CODED.closing(End("limit", Position("r", 9)), NOTHING)
    return [data for data, _ in made] + [end], b"".join(text for _, text in made)


def decode(pieces: list[bytes]) -> bytes:
    """As a decoder that is made anew for each frame."""
    decoder, found = zstandard.ZstdDecompressor().decompressobj(), b""
    for piece in pieces:
        while piece:
            found += decoder.decompress(piece)
            piece = decoder.unused_data if decoder.eof else b""
            if decoder.eof:
                decoder = zstandard.ZstdDecompressor().decompressobj()
    return found


@pytest.mark.parametrize("count", range(6))
def test_frames_one_behind_the_other(count: int) -> None:
    data, text = writes(count)
    assert decode(data) == text


@given(st.integers(0, 6), st.integers(1, 40))
def test_however_it_is_cut(count: int, size: int) -> None:
    data, text = writes(count)
    whole = b"".join(data)
    assert decode([whole[at : at + size] for at in range(0, len(whole), size)]) == text


def test_no_write_but_the_last_ends_where_a_frame_does() -> None:
    """httpx 0.28 hands each read to its decoder, which fails on the one behind a frame's end."""
    data, text = writes(5)
    assert all(piece.endswith(MAGIC) for piece in data[:-1])
    decoder, found = zstandard.ZstdDecompressor().decompressobj(), b""
    for piece in data:
        found += decoder.decompress(piece)
        while decoder.eof and decoder.unused_data:
            rest = decoder.unused_data
            decoder = zstandard.ZstdDecompressor().decompressobj()
            found += decoder.decompress(rest)
    assert found == text


def test_the_zstd_command_reads_it() -> None:
    data, text = writes(5)
    assert (
        subprocess.run([program("zstd"), "-dc"], input=b"".join(data), capture_output=True, check=True).stdout == text
    )


def test_in_chunks() -> None:
    chunked = NDJSONFraming(True, ZstdCoding())
    end = chunked.closing(End("limit", None), NOTHING)
    assert end.endswith(LAST_CHUNK)
    pieces = [chunked.opening, chunked.messages("r", [Payload(5, b'{"t":5}')]), chunked.stored(BLOCK)]
    found = ChunkedDecoder(strict=True).feed(joined(pieces).data + end)
    assert decode(found) == b'{"t":5}\n{"t":1}\n{"t":2}\n'
    assert chunked.messages("r", []).data == b"", "no ticks, no frame"
