"""What a gateway answers, cut into pieces anywhere."""

import gzip
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bench_wire import CUTS, cut, deflated
from tick_gateway.bench.decoders import (
    AnswerError,
    AnswerHead,
    BodyDecoder,
    ChunkedDecoder,
    WebSocketDecoder,
    WholeLines,
    content_decoder,
    parse_head,
)
from tick_gateway.wire.framing import LAST_CHUNK, chunk
from tick_gateway.wire.websocket import frame

PIECES = st.lists(st.binary(max_size=300), min_size=1, max_size=8)


def raw_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-15)
    return coder.compress(data) + coder.flush()


CODERS: dict[str, list[Callable[[bytes], bytes]]] = {
    "identity": [bytes],
    "gzip": [gzip.compress],
    "deflate": [zlib.compress, raw_deflate],
    "zstd": [zstandard.ZstdCompressor().compress],
}
CASES = [(name, coder) for name, coders in CODERS.items() for coder in coders]


@given(PIECES, CUTS)
def test_chunks(pieces: list[bytes], cuts: list[int]) -> None:
    chunks = ChunkedDecoder()
    data = b"".join(map(chunk, pieces)) + LAST_CHUNK
    assert b"".join(part for piece in cut(data, cuts) for part in chunks.feed(piece)) == b"".join(pieces)
    assert chunks.ended


def test_chunks_take_extensions_and_refuse_what_is_none() -> None:
    assert ChunkedDecoder().feed(b"3;name=value\r\nabc\r\n1\r\nd\r\n") == [b"abc", b"d"]
    for wrong in (b"xyz\r\nabc", b"1" * 2000, b"-1\r\n", b"\r\n", b"1\r\nabc"):
        with pytest.raises(AnswerError):
            ChunkedDecoder().feed(wrong)


@pytest.mark.parametrize("name, coder", CASES)
@given(pieces=PIECES, cuts=CUTS, chunked=st.booleans())
def test_bodies(
    name: str, coder: Callable[[bytes], bytes], pieces: list[bytes], cuts: list[int], chunked: bool
) -> None:
    """Frames of zstd and members of gzip may follow one another; deflate is one stream."""
    parts = list(map(coder, pieces)) if name in ("gzip", "zstd") else [coder(b"".join(pieces))]
    whole = b"".join(parts)
    data = b"".join(map(chunk, parts)) + LAST_CHUNK if chunked else whole
    length = {"transfer-encoding": "chunked"} if chunked else {"content-length": str(len(whole))}
    body = BodyDecoder(AnswerHead(200, {"content-encoding": name, **length}))
    assert body.coding == name
    assert b"".join(map(body.feed, cut(data, cuts))) == b"".join(pieces)
    assert body.ended


def flushed(name: str, pieces: list[bytes]) -> Iterator[bytes]:
    """One stream, of which each piece can be read as soon as its bytes are there."""
    if name == "zstd":
        frame_ = zstandard.ZstdCompressor().compressobj()
        for piece in pieces:
            yield frame_.compress(piece) + frame_.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        return
    coder = zlib.compressobj(wbits={"gzip": 31, "deflate": 15}[name])
    for index, piece in enumerate(pieces):
        yield coder.compress(piece) + coder.flush(zlib.Z_FULL_FLUSH if index % 2 else zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
@given(pieces=PIECES)
def test_what_was_flushed_is_there_at_once(name: str, pieces: list[bytes]) -> None:
    body = BodyDecoder(AnswerHead(200, {"content-encoding": name, "transfer-encoding": "chunked"}))
    assert [body.feed(chunk(data)) for data in flushed(name, pieces)] == pieces


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
def test_what_is_not_encoded_so_is_refused(name: str) -> None:
    with pytest.raises(AnswerError):
        BodyDecoder(AnswerHead(200, {"content-encoding": name})).feed(b"\xff" * 100)


def test_a_coding_that_nobody_asked_for() -> None:
    with pytest.raises(AnswerError, match="br"):
        BodyDecoder(AnswerHead(200, {"content-encoding": "br"}))


def test_heads() -> None:
    found = parse_head(b"HTTP/1.1 200 OK\r\nTick-Next: r:1\r\nX:y\r\n\r\nrest")
    assert found == (AnswerHead(200, {"tick-next": "r:1", "x": "y"}), b"rest")
    assert parse_head(b"HTTP/1.1 200 OK\r\nTick") is None
    for wrong in (b"SSH-2.0\r\n\r\n", b"a" * 70_000):
        with pytest.raises(AnswerError):
            parse_head(wrong)


@given(st.lists(st.text("ab\n", max_size=20), max_size=20))
def test_lines_are_whole(pieces: list[str]) -> None:
    lines, text = WholeLines(), "".join(pieces).encode()
    given_ = [lines.feed(piece.encode()) for piece in pieces]
    assert b"".join(given_) == text[: text.rfind(b"\n") + 1]
    assert all(not piece or piece.endswith(b"\n") for piece in given_)


# ---- WebSocket ----


@given(PIECES, CUTS)
def test_frames(messages: list[bytes], cuts: list[int]) -> None:
    frames = WebSocketDecoder()
    data = b"".join(frame(1, message) for message in messages)
    assert [found.payload for piece in cut(data, cuts) for found in frames.feed(piece)] == messages


@pytest.mark.parametrize("takeover", [True, False])
@given(messages=PIECES, cuts=CUTS)
def test_deflated_frames(takeover: bool, messages: list[bytes], cuts: list[int]) -> None:
    frames, data = WebSocketDecoder(deflate=True, takeover=takeover), deflated(messages, takeover)
    assert [found.payload for piece in cut(data, cuts) for found in frames.feed(piece)] == messages


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_every_form_of_a_length(size: int) -> None:
    assert WebSocketDecoder(strict=True).feed(frame(1, b"x" * size)) == [(1, b"x" * size)]


def test_fragments_and_control_frames_between_them() -> None:
    frames = WebSocketDecoder()
    data = b"\x01\x02ab" + frame(9, b"ping") + b"\x80\x01c" + frame(8, b"\x03\xe9bye")
    assert frames.feed(data) == [(9, b"ping"), (1, b"abc"), (8, b"\x03\xe9bye")]
    assert frames.closed


def test_frames_that_a_server_may_not_send() -> None:
    for wrong in (b"\x81\x81abcd", bytes([0x80 | 0x41, 1, 0])):
        with pytest.raises(AnswerError):
            WebSocketDecoder().feed(wrong)


# ---- what only the strict ones refuse ----


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


SKIPPABLE = b"\x50\x2a\x4d\x18\x01\x00\x00\x00x"


@pytest.mark.parametrize(
    ("coding", "data"),
    [("gzip", gzip.compress(b"a") + gzip.compress(b"b")), ("zstd", zstd(b"a") + SKIPPABLE + zstd(b"b"))],
    ids=["gzip", "zstd"],
)
def test_strict_codings(coding: str, data: bytes) -> None:
    assert content_decoder(coding).feed(data) == b"ab"
    with pytest.raises(AnswerError):
        content_decoder(coding, strict=True).feed(data)


@pytest.mark.parametrize("coding", CODERS)
def test_a_coding_is_whole_at_its_end_and_not_before(coding: str) -> None:
    data = CODERS[coding][0](b"some content")
    for end in range(len(data)):
        decoder = content_decoder(coding, strict=True)
        decoder.feed(data[:end])
        assert decoder.whole == (coding == "identity" or (coding == "zstd" and end == 0))
    decoder.feed(data[-1:])
    assert decoder.whole


@pytest.mark.parametrize("wrong", [b"1;x=y\r\na\r\n0\r\n\r\n", b"1\r\na\r\n0\r\n\r\nmore"])
def test_strict_chunks(wrong: bytes) -> None:
    assert ChunkedDecoder().feed(wrong) == [b"a"]
    with pytest.raises(AnswerError):
        ChunkedDecoder(strict=True).feed(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x01\x01a\x80\x01b",
        b"\x82\x01a",
        b"\xa1\x01a",
        b"\x81\x7e\x00\x01a",
        b"\x81\x7f" + bytes(7) + b"\x01a",
        b"\x81\x01\xff",
        b"\x89\x7e\x00\x7e" + bytes(126),
        b"\x88\x02\x03\xe8\x81\x01a",
    ],
    ids=[
        "fragments",
        "binary",
        "a reserved bit",
        "126 for 1",
        "127 for 1",
        "no UTF-8",
        "a long ping",
        "behind a close",
    ],
)
def test_strict_frames(wrong: bytes) -> None:
    assert WebSocketDecoder().feed(wrong)
    with pytest.raises(AnswerError):
        WebSocketDecoder(strict=True).feed(wrong)
