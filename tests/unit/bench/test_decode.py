"""What a gateway answers, cut into pieces anywhere."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.bench.decode import Body, Broken, Chunks, Frames, Head, Lines, parse_head
from tick_gateway.bench.hearing import Answer, Watch
from tick_gateway.bench.speech import Speech
from tick_gateway.wire.framing import LAST_CHUNK, chunk
from tick_gateway.wire.websocket import frame

PIECES = st.lists(st.binary(max_size=300), min_size=1, max_size=8)
CUTS = st.lists(st.integers(0, 5000), max_size=12)


def cut(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The data in pieces."""
    places = sorted({0, len(data), *(at for at in cuts if at < len(data))})
    for begin, end in pairwise(places):
        yield data[begin:end]


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
    chunks = Chunks()
    data = b"".join(map(chunk, pieces)) + LAST_CHUNK
    assert b"".join(map(chunks.feed, cut(data, cuts))) == b"".join(pieces)
    assert chunks.ended


def test_chunks_take_extensions_and_refuse_what_is_none() -> None:
    assert Chunks().feed(b"3;name=value\r\nabc\r\n") == b"abc"
    for wrong in (b"xyz\r\nabc", b"1" * 2000):
        with pytest.raises(Broken):
            Chunks().feed(wrong)


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
    body = Body(Head(200, {"content-encoding": name, **length}))
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
    body = Body(Head(200, {"content-encoding": name, "transfer-encoding": "chunked"}))
    assert [body.feed(chunk(data)) for data in flushed(name, pieces)] == pieces


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
def test_what_is_not_encoded_so_is_refused(name: str) -> None:
    with pytest.raises(Broken):
        Body(Head(200, {"content-encoding": name})).feed(b"\xff" * 100)


def test_a_coding_that_nobody_asked_for() -> None:
    with pytest.raises(Broken, match="br"):
        Body(Head(200, {"content-encoding": "br"}))


def test_heads() -> None:
    found = parse_head(b"HTTP/1.1 200 OK\r\nTick-Next: r:1\r\nX:y\r\n\r\nrest")
    assert found == (Head(200, {"tick-next": "r:1", "x": "y"}), b"rest")
    assert parse_head(b"HTTP/1.1 200 OK\r\nTick") is None
    for wrong in (b"SSH-2.0\r\n\r\n", b"a" * 70_000):
        with pytest.raises(Broken):
            parse_head(wrong)


@given(st.lists(st.text("ab\n", max_size=20), max_size=20))
def test_lines_are_whole(pieces: list[str]) -> None:
    lines, text = Lines(), "".join(pieces).encode()
    given_ = [lines.feed(piece.encode()) for piece in pieces]
    assert b"".join(given_) == text[: text.rfind(b"\n") + 1]
    assert all(not piece or piece.endswith(b"\n") for piece in given_)


# ---- WebSocket ----


def deflated(messages: list[bytes], takeover: bool) -> bytes:
    """Frames as permessage-deflate has them (RFC 7692, section 7.2.1)."""
    coder, out = zlib.compressobj(wbits=-15), []
    for message in messages:
        data = coder.compress(message) + coder.flush(zlib.Z_SYNC_FLUSH)
        framed = frame(1, data.removesuffix(b"\x00\x00\xff\xff"))
        out.append(bytes([framed[0] | 0x40]) + framed[1:])
        if not takeover:
            coder = zlib.compressobj(wbits=-15)
    return b"".join(out)


@given(PIECES, CUTS)
def test_frames(messages: list[bytes], cuts: list[int]) -> None:
    frames = Frames()
    data = b"".join(frame(1, message) for message in messages)
    assert [found for piece in cut(data, cuts) for found in frames.feed(piece)] == messages


@pytest.mark.parametrize("takeover", [True, False])
@given(messages=PIECES, cuts=CUTS)
def test_deflated_frames(takeover: bool, messages: list[bytes], cuts: list[int]) -> None:
    frames, data = Frames(deflate=True, takeover=takeover), deflated(messages, takeover)
    assert [found for piece in cut(data, cuts) for found in frames.feed(piece)] == messages


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_every_form_of_a_length(size: int) -> None:
    assert Frames().feed(frame(1, b"x" * size)) == [b"x" * size]


def test_fragments_and_control_frames_between_them() -> None:
    frames = Frames()
    data = b"\x01\x02ab" + frame(9, b"ping") + b"\x80\x01c" + frame(8, b"\x03\xe9bye")
    assert frames.feed(data) == [b"abc"]
    assert (frames.answers, frames.closed) == ([b"ping"], 1001)


def test_frames_that_a_server_may_not_send() -> None:
    for wrong in (b"\x81\x81abcd", bytes([0x80 | 0x41, 1, 0])):
        with pytest.raises(Broken):
            Frames().feed(wrong)


# ---- answers as a whole ----


def tick(t: int, ts: int = 0) -> bytes:
    return b'{"t":%d,"ts":%d,"agents":[{"id":0,"t":7}]}' % (t, ts)


@given(CUTS)
def test_a_stream_is_counted_tick_by_tick(cuts: list[int]) -> None:
    watch = Watch(after=-1, every=1)
    answer = Answer(Speech("h", "/ndjson", False, "identity", "x"), watch)
    lines = b"".join(chunk(tick(t, 1000) + b"\n") for t in (0, 1, 2, 2, 5, 6))
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + lines
    for piece in cut(data, cuts):
        answer.feed(piece, 3000)
    assert (watch.ticks, watch.lost, watch.repeated, watch.next) == (5, 2, 1, 7)
    assert watch.latency.count == 4, "the run's first tick was there before"
    assert watch.latency.largest == 2000


def test_a_tick_counts_when_all_of_it_came() -> None:
    watch = Watch(after=4, every=5)
    answer = Answer(Speech("h", "/sse", False, "identity", "x"), watch)
    answer.feed(b"HTTP/1.1 200 OK\r\n\r\ndata: " + tick(5), 1)
    assert watch.ticks == 0
    answer.feed(b"\n\ndata: " + tick(10) + b"\n", 1)
    assert (watch.ticks, watch.lost, watch.next) == (2, 0, 15)


def test_a_pull_says_where_to_go_on() -> None:
    watch = Watch(after=-1, every=1)
    body = b"[" + tick(0) + b"," + tick(1) + b"]"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nTick-Next: r:1\r\n\r\n" % len(body)
    answer = Answer(Speech("h", "/incremental", True, "identity", "x"), watch)
    answer.feed(head + body[:-1], 1)
    assert (answer.position, watch.ticks) == ("", 0)
    answer.feed(body[-1:], 1)
    assert (answer.position, watch.ticks) == ("r:1", 2)


def test_a_handshake() -> None:
    watch = Watch(after=-1, every=1)
    speech = Speech("h", "/ws/stream", False, "deflate", "x")
    assert b"permessage-deflate" in speech.request("r:-1") and b"Upgrade: websocket" in speech.request("r:-1")
    answer = Answer(speech, watch)
    answer.feed(b"HTTP/1.1 101 S\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 1)
    assert answer.coding == "deflate"
    answer.feed(deflated([tick(0), tick(1)], takeover=True) + frame(9, b"?"), 1)
    assert watch.ticks == 2
    assert list(answer.replies()) == [b"\x8a\x81\0\0\0\0?"]
    with pytest.raises(Broken, match="1001"):
        answer.feed(frame(8, b"\x03\xe9"), 1)


@pytest.mark.parametrize("path", ["/ws/stream", "/ndjson", "/poll"])
def test_errors_are_told(path: str) -> None:
    with pytest.raises(Broken, match="503"):
        Answer(Speech("h", path, False, "identity", "x"), Watch(-1, 1)).feed(b"HTTP/1.1 503 No\r\n\r\n", 1)


def test_what_is_asked() -> None:
    speech = Speech("h:1", "/poll", True, "zstd", "application/json", (("fields", "ts,agents.x"), ("limit", "9")))
    assert speech.request("r:5").split(b"\r\n") == [
        b"GET /poll?from_t=r:5&fields=ts,agents.x&limit=9 HTTP/1.1",
        b"Host: h:1",
        b"Accept: application/json",
        b"Accept-Encoding: zstd",
        b"",
        b"",
    ]
    assert speech.spoken and not Speech("h", "/ws/stream", False, "zstd", "x").spoken
