"""A process of readers: what they count, on each transport's kind of answer, without a gateway."""

from __future__ import annotations

import multiprocessing
import socket
import threading
from collections.abc import Callable

import pytest

from tick_gateway.bench.exchange import RequestBuilder
from tick_gateway.bench.readers import ReadCounts, ReaderPool, ReadJob
from tick_gateway.bench.stats import Histogram


def tick(t: int) -> bytes:
    return b'{"t":%d,"ts":1}' % t


def test_what_several_processes_saw_is_added_up() -> None:
    total = ReadCounts(begun=True, done=True)
    total.merge(ReadCounts(True, True, "gzip", 5, 1, 2, 100, 3, 0, "", Histogram([7]), Histogram([8]), [9]))
    total.merge(ReadCounts(True, False, "", 6, 0, 0, 200, 0, 1, "cut", Histogram([9]), Histogram(), []))
    assert (total.begun, total.done, total.coding, total.problem) == (True, False, "gzip", "cut")
    assert (total.ticks, total.lost, total.repeated, total.bytes, total.behind, total.cut) == (11, 1, 2, 300, 3, 1)
    assert (total.latency.count, total.first_tick.count, total.reached) == (2, 1, [9])


def read(requests: RequestBuilder, answers: list[bytes], until: int, clients: int = 1) -> ReadCounts:
    """What a pool counts, to whose connections somebody gives these answers, one to each request."""
    server = socket.create_server(("127.0.0.1", 0))
    mine, its = multiprocessing.Pipe()

    def talk(peer: socket.socket) -> None:
        with peer:
            for answer in answers:
                asked = b""
                while not asked.endswith(b"\r\n\r\n"):
                    if not (data := peer.recv(1 << 16)):
                        return
                    asked += data
                peer.sendall(answer)
            try:
                peer.recv(1)  # until it goes
            except ConnectionError:
                return

    def serve() -> None:
        for _ in range(clients):
            threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    address = int(socket.AF_INET), ("127.0.0.1", int(server.getsockname()[1]))
    job = ReadJob(None, address, requests, "r", -1, clients, clients, 1, 0.0, until)
    working = threading.Thread(target=ReaderPool(job, its).run, daemon=True)
    working.start()
    counts = ReadCounts()
    while not counts.done:
        assert mine.poll(60), "it says nothing"
        counts = mine.recv()
    mine.send(None)
    working.join(60)
    server.close()
    return counts


def body(*ts: int, separator: bytes = b"\n") -> bytes:
    return b"".join(tick(t) + separator for t in ts)


STREAM = b"HTTP/1.1 200 OK\r\n\r\n"
Made = Callable[..., bytes]


@pytest.mark.parametrize("clients", [1, 40])
def test_a_stream(clients: int) -> None:
    requests = RequestBuilder("h", "/ndjson", False, "identity", "x")
    counts = read(requests, [STREAM + body(0, 1, 2, 4, 4)], 4, clients)
    assert (counts.ticks, counts.lost, counts.repeated, counts.behind) == (4 * clients, clients, clients, 0)
    assert len(counts.reached) == clients and counts.cut == 0 and counts.coding == "identity"


def test_a_pull_asks_on_where_it_stands() -> None:
    def page(*ts: int) -> bytes:
        text = b"[" + b",".join(map(tick, ts)) + b"]"
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nTick-Next: r:%d\r\n\r\n%s" % (len(text), ts[-1], text)

    requests = RequestBuilder("h", "/incremental", True, "identity", "x")
    counts = read(requests, [page(0, 1), page(2), page(3, 4)], 4)
    assert (counts.ticks, counts.lost, counts.repeated) == (5, 0, 0)


def test_a_connection_that_fails_is_told_and_ends_its_part() -> None:
    requests = RequestBuilder("h", "/ndjson", False, "identity", "x")
    counts = read(requests, [b"HTTP/1.1 503 Busy\r\n\r\n"], 4)
    assert (counts.cut, counts.problem, counts.ticks) == (1, "the request was answered 503", 0)
