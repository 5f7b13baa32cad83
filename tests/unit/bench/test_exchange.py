"""A request for ticks and its answer, whole and in pieces."""

import pytest
from hypothesis import given

from tests.support.bench_wire import CUTS, cut, deflated
from tick_gateway.bench.decoders import AnswerError
from tick_gateway.bench.exchange import Answer, RequestBuilder, TickCounter
from tick_gateway.wire.framing import chunk
from tick_gateway.wire.websocket import frame


def tick(t: int, ts: int = 0) -> bytes:
    return b'{"t":%d,"ts":%d,"agents":[{"id":0,"t":7}]}' % (t, ts)


@given(CUTS)
def test_a_stream_is_counted_tick_by_tick(cuts: list[int]) -> None:
    counter = TickCounter(after=-1, every=1)
    answer = Answer(RequestBuilder("h", "/ndjson", False, "identity", "x"), counter)
    lines = b"".join(chunk(tick(t, 1000) + b"\n") for t in (0, 1, 2, 2, 5, 6))
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + lines
    for piece in cut(data, cuts):
        answer.feed(piece, 3000)
    assert (counter.ticks, counter.lost, counter.repeated, counter.next) == (5, 2, 1, 7)
    assert counter.latency.count == 4, "the run's first tick was there before"
    assert counter.latency.largest == 2000


def test_a_tick_counts_when_all_of_it_came() -> None:
    counter = TickCounter(after=4, every=5)
    answer = Answer(RequestBuilder("h", "/sse", False, "identity", "x"), counter)
    answer.feed(b"HTTP/1.1 200 OK\r\n\r\ndata: " + tick(5), 1)
    assert counter.ticks == 0
    answer.feed(b"\n\ndata: " + tick(10) + b"\n", 1)
    assert (counter.ticks, counter.lost, counter.next) == (2, 0, 15)


def test_a_pull_says_where_to_go_on() -> None:
    counter = TickCounter(after=-1, every=1)
    body = b"[" + tick(0) + b"," + tick(1) + b"]"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nTick-Next: r:1\r\n\r\n" % len(body)
    answer = Answer(RequestBuilder("h", "/incremental", True, "identity", "x"), counter)
    answer.feed(head + body[:-1], 1)
    assert (answer.position, counter.ticks) == ("", 0)
    answer.feed(body[-1:], 1)
    assert (answer.position, counter.ticks) == ("r:1", 2)


def test_a_handshake() -> None:
    counter = TickCounter(after=-1, every=1)
    requests = RequestBuilder("h", "/ws/stream", False, "deflate", "x", websocket=True)
    assert b"permessage-deflate" in requests.request("r:-1") and b"Upgrade: websocket" in requests.request("r:-1")
    answer = Answer(requests, counter)
    answer.feed(b"HTTP/1.1 101 S\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 1)
    assert answer.coding == "deflate"
    answer.feed(deflated([tick(0), tick(1)], takeover=True) + frame(9, b"?"), 1)
    assert counter.ticks == 2
    assert list(answer.replies()) == [b"\x8a\x81\0\0\0\0?"]
    with pytest.raises(AnswerError, match="1001"):
        answer.feed(frame(8, b"\x03\xe9"), 1)


@pytest.mark.parametrize("path", ["/ws/stream", "/ndjson", "/poll"])
def test_errors_are_told(path: str) -> None:
    with pytest.raises(AnswerError, match="503"):
        requests = RequestBuilder("h", path, False, "identity", "x", websocket=path.startswith("/ws/"))
        Answer(requests, TickCounter(-1, 1)).feed(b"HTTP/1.1 503 No\r\n\r\n", 1)


def test_what_is_asked() -> None:
    query = (("fields", "ts,agents.x"), ("limit", "9"))
    requests = RequestBuilder("h:1", "/poll", True, "zstd", "application/json", query=query)
    assert requests.request("r:5").split(b"\r\n") == [
        b"GET /poll?from_t=r:5&fields=ts,agents.x&limit=9 HTTP/1.1",
        b"Host: h:1",
        b"Accept: application/json",
        b"Accept-Encoding: zstd",
        b"",
        b"",
    ]
    assert requests.possible and not RequestBuilder("h", "/ws/stream", False, "zstd", "x", True).possible
