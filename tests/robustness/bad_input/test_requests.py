"""Requests and lines that are none, at a gateway that others read: each is told what is wrong with it."""

from __future__ import annotations

import re

import pytest

from tests.support.blocking_client import UPGRADE, Peer, ask, request
from tests.support.frames import BINARY, TEXT, frame

from ...support.bad_input import STEAL, Bystander
from ...support.bad_lines import REFUSED

# ---- queries ----

READING = ("/ndjson", "/sse", "/stream", "/ws/stream", "/poll", "/incremental", "/range", "/latest", "/meta", "/runs")

BAD_QUERIES = [
    *(f"from_t={value}" for value in (
        "", "abc", "1.5", "1e3", "-2", "+1", "%201", "0x1", "01", "9007199254740992", "9" * 40, "run:", ":1", "a%20b:1",
        "%D9%A1", "%FF", "run:%FF", "NaN", "Infinity", "true", "null", "run:1:2:x",
    )),
    "last_t=x", "tail=-1", "tail=x", "tail=1.0", "tail=", "limit=0", "limit=-1", "limit=x", "every=0", "every=1.5",
    "batch=0", "batch=1001", "batch=x", "backlog=-1", "speed=0", "speed=-1", "speed=nan", "speed=inf", "speed=1e9",
    "timeout=-1", "timeout=x", "timeout=301", "heartbeat=0", "lag=later", "stamp=2", "hello=yes", "event=gap",
    "event=", "event=a%20b", "event=a%0Aid:x", "format=xml", "since=yesterday", "since=2026-13-01T00:00:00Z",
    "since=2026-01-01", "since=9999999999", "fields=a..b", "fields=.",
    "fields=" + ",".join(f"a{i}" for i in range(65)), "fields=" + ".".join("a" * 17),
    "run=", "run=%FF", "run=a/b", "run=-a", "run=" + "a" * 65, "t0=5&t1=4", "t0=-1",
    "run=a&from_t=b:1", "from_t=1&from_t=2", "from_t=1&tail=2", "tail=1&since=2026-01-01T00:00:00Z", "unknown=1",
    "FROM_T=1", "from-t=1", "%FF=1", "=1", "from_t[]=1",
]  # fmt: skip


@pytest.mark.parametrize("path", READING)
def test_bad_parameters(bystander: Bystander, path: str) -> None:
    headers = UPGRADE if path == "/ws/stream" else {}
    with Peer(bystander.port) as peer:
        for query in BAD_QUERIES:
            answer = peer.send(request("GET", f"{path}?{query}", headers)).response()
            assert answer.status == 400, (query, answer)
            told = answer.json()
            assert set(told) == {"error", "message", "parameter"} and told["message"], (query, told)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ndjson?run=nobody", 404),
        ("/sse?run=nobody", 404),
        ("/poll?run=nobody", 404),
        ("/latest?run=nobody", 404),
        ("/range?run=nobody", 404),
        ("/ticks/abc", 400),
        ("/ticks/-1", 400),
        ("/ticks/1.0", 400),
        ("/ticks/9007199254740992", 400),
        ("/ticks/%FF", 400),
        ("/ticks/%00", 400),
        ("/ticks/%D9%A1", 400),
        ("/ticks/9007199254740991", 404),
        ("/ticks/", 404),
        ("/ticks/1/2", 404),
        ("/nowhere", 404),
        ("//", 404),
        ("/../../etc/passwd", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/%00", 404),
        ("/" + "a/" * 2000, 404),
        ("/client.js/../../x", 404),
    ],
)
def test_paths(bystander: Bystander, path: str, status: int) -> None:
    answer = ask(bystander.port, request("GET", path))
    assert answer.status == status, answer
    assert answer.json()["message"] and "Traceback" not in answer.body.decode()


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "PATCH", "TRACE", "POST", "CONNECT", "PROPFIND", "get", "NONSENSE"]
)
def test_methods(bystander: Bystander, method: str) -> None:
    for path in ("/latest", "/ndjson", "/ws/stream", "/"):
        answer = ask(bystander.port, request(method, path))
        assert answer.status in (400, 404, 405), answer
        if answer.status == 405:
            assert answer.headers["allow"]


def test_a_position_that_an_event_source_brings_is_never_refused(bystander: Bystander) -> None:
    for value in ("abc", "1.5", "run:", "\udcff\udcfe", ":", "9" * 100, "a b", '"'):
        with Peer(bystander.port) as peer:
            peer.send(request("GET", "/sse", {"Last-Event-ID": value}))
            assert peer.head().status == 200
            assert b"event: reset" in peer.until(b"\n\n") + peer.until(b"\n\n")


# ---- requests that are no HTTP, or would be read differently by others ----

POST = "POST /publish HTTP/1.1\r\nHost: localhost\r\n"
NOT_HTTP: dict[str, str | bytes] = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x01" * 64,
    "nothing but line ends": "\r\n" * 20 + "x\r\n\r\n",
    "binary": bytes(range(256)) + b"\r\n\r\n",
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": "GET /latest HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "HTTP/1.x": "GET /latest HTTP/1.x\r\nHost: localhost\r\n\r\n",
    "a path that is none": "GET latest HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a raw byte in the path": b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a raw byte in the query": b"GET /latest?run=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a URL that is none": "GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no Host": "GET /latest HTTP/1.1\r\n\r\n",
    "two Hosts": "GET /latest HTTP/1.1\r\nHost: localhost\r\nHost: example.org\r\n\r\n",
    "a space before the colon": "GET /latest HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "a header without a name": "GET /latest HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n",
    "a header without a colon": "GET /latest HTTP/1.1\r\nHost: localhost\r\nnonsense\r\n\r\n",
    "a header over two lines": "GET /latest HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    "NUL in a header": "GET /latest HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    "a lone CR in a header": "GET /latest HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
    "500 headers": "GET /latest HTTP/1.1\r\nHost: localhost\r\n" + "".join(f"X-{i}: a\r\n" for i in range(500)),
    "a long header": "GET /latest HTTP/1.1\r\nHost: localhost\r\nX: " + "a" * 100_000 + "\r\n\r\n",
    "a long header name": "GET /latest HTTP/1.1\r\nHost: localhost\r\n" + "a" * 100_000 + ": x\r\n\r\n",
    "a long query": "GET /latest?" + "a" * 100_000 + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a long method": "A" * 100_000 + " / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "both lengths": POST + f"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{POST}\r\n{STEAL}",
    "both lengths, turned": POST + f"Transfer-Encoding: chunked\r\nContent-Length: 36\r\n\r\n{STEAL}",
    "two lengths": POST + f"Content-Length: 5\r\nContent-Length: 36\r\n\r\n{STEAL}",
    "a list of lengths": POST + f"Content-Length: 36, 36\r\n\r\n{STEAL}",
    "a negative length": POST + f"Content-Length: -36\r\n\r\n{STEAL}",
    "a signed length": POST + f"Content-Length: +36\r\n\r\n{STEAL}",
    "a length in hexadecimal": POST + f"Content-Length: 0x24\r\n\r\n{STEAL}",
    "a length with a space": POST + f"Content-Length: 3 6\r\n\r\n{STEAL}",
    "a length beyond 64 bits": POST + f"Content-Length: 18446744073709551652\r\n\r\n{STEAL}",
    "an empty length": POST + f"Content-Length: \r\n\r\n{STEAL}",
    "an unknown transfer coding": POST + f"Transfer-Encoding: xchunked\r\n\r\n{STEAL}",
    "chunked, and not at last": POST + f"Transfer-Encoding: chunked, gzip\r\n\r\n24\r\n{STEAL}\r\n0\r\n\r\n",
    "a tab before chunked": POST + f"Transfer-Encoding:\x0bchunked\r\n\r\n24\r\n{STEAL}\r\n0\r\n\r\n",
    "chunks that end in LF": POST + f"Transfer-Encoding: chunked\r\n\r\n24\n{STEAL}\n0\n\n",
    "no chunk size": POST + f"Transfer-Encoding: chunked\r\n\r\n\r\n{STEAL}\r\n0\r\n\r\n",
    "a chunk size that is none": POST + f"Transfer-Encoding: chunked\r\n\r\nzz\r\n{STEAL}\r\n0\r\n\r\n",
    "a negative chunk size": POST + f"Transfer-Encoding: chunked\r\n\r\n-24\r\n{STEAL}\r\n0\r\n\r\n",
    "a chunk size in 0x": POST + f"Transfer-Encoding: chunked\r\n\r\n0x24\r\n{STEAL}\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": POST + f"Transfer-Encoding: chunked\r\n\r\n10000000000000024\r\n{STEAL}\r\n0\r\n",
    "a chunk that is too long": POST + f"Transfer-Encoding: chunked\r\n\r\n10\r\n{STEAL}\r\n0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_HTTP)
def test_requests_that_are_no_http(bystander: Bystander, name: str) -> None:
    data = NOT_HTTP[name]
    with Peer(bystander.port) as peer:
        peer.send(data if isinstance(data, bytes) else data.encode("latin-1"))
        answer = peer.head()
        assert 400 <= answer.status < 500, answer
        peer.half_close()
        rest = peer.rest()
        assert not re.search(rb"HTTP/1\.\d \d{3} ", rest), "one answer, and the connection ends"


@pytest.mark.parametrize("version", ["0.9", "2.0", "3.0"])
def test_versions_that_are_not_spoken(bystander: Bystander, version: str) -> None:
    with Peer(bystander.port) as peer:
        peer.send(request("GET", "/latest", version=version))
        assert peer.head().status in (400, 505)


def test_without_a_version_nothing_is_served(bystander: Bystander) -> None:
    with Peer(bystander.port) as peer:
        peer.send(b"GET /latest\r\n\r\n")
        assert peer.head().status in (400, 505)


def test_what_follows_a_stream_is_no_request(bystander: Bystander) -> None:
    """Neither a request nor anything else that comes behind one that is answered by a stream is carried out."""
    stolen = request("POST", "/publish", {}, STEAL.encode())
    for path in ("/ndjson", "/sse", "/stream", "/"):
        with Peer(bystander.port) as peer:
            peer.send(request("GET", path) + stolen, stolen)
            assert peer.head().status == 200
            peer.until(b'"good":true}')
            peer.send(stolen)
            bystander.check()


def test_a_body_of_a_get_is_passed_over(bystander: Bystander) -> None:
    with Peer(bystander.port) as peer:
        for _ in range(3):
            assert peer.send(request("GET", "/latest", {}, b"POST /publish HTTP/1.1\r\n\r\n")).response().status == 200


def test_headers_that_are_odd_and_allowed(bystander: Bystander) -> None:
    odd = {
        "Accept": "\udcff,;q=x,*/*;q=7,text/\0".replace("\0", ""),
        "Accept-Encoding": "gzip;q=nan, zstd;;;, \udcfe",
        "Content-Type": "\udcff/; charset=\udcfe",
        "If-None-Match": '"' + "x" * 5000 + '"',
        "Range": "bytes=5-1,x",
        "Cookie": "=;=;" * 500,
        "Connection": "keep-alive, Upgrade, nonsense",
        "X-Empty": "",
    }
    for path in ("/latest", "/meta", "/range", "/incremental", "/runs", "/openapi.json", "/metrics", "/healthz"):
        with Peer(bystander.port) as peer:
            assert peer.send(request("GET", path, odd)).head().status == 200
    answer = ask(bystander.port, request("POST", "/publish", {"Content-Type": "\udcff; a=\udcfe"}, bystander.lines()))
    assert answer.json()["accepted"] == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Expect": "200-maybe"}, 417),
        ({"Content-Encoding": "br"}, 415),
        ({"Content-Encoding": "deflate"}, 415),
        ({"Content-Encoding": "gzip"}, 400),
        ({"Content-Encoding": "zstd"}, 400),
        ({"Content-Encoding": "\udcff"}, 415),
        ({"Tick-Run": "\udcff"}, 400),
        ({"Tick-Run": "a" * 65}, 400),
    ],
)
def test_headers_of_a_publisher(bystander: Bystander, headers: dict[str, str], status: int) -> None:
    assert ask(bystander.port, request("POST", "/publish", headers, STEAL.encode())).status == status


# ---- lines ----


@pytest.mark.parametrize(("line", "reason"), REFUSED, ids=[repr(line[:30]) for line, _ in REFUSED])
def test_lines_that_are_no_tick(bystander: Bystander, line: bytes, reason: str) -> None:
    if reason == "at most":
        line = line.replace(b"xxx", b"x" * 15_000)  # more than the default of max_tick
    status = 413 if reason == "at most" else 422
    answer = ask(bystander.port, bystander.post(bystander.lines() + line + b"\n" + bystander.lines()))
    assert answer.status == status, answer
    told = answer.json()
    assert (told["accepted"], told["refused"], told["errors"][0]["line"]) == (2, 1, 2) and reason in told["message"]
    with Peer(bystander.port) as peer:
        peer.open("/ws/publish")
        kind = BINARY if reason == "UTF-8" else TEXT
        peer.send(frame(kind, bystander.ticks()[0]))
        if reason == "at most":
            peer.send(frame(BINARY, line)[:100])  # its length says enough
            assert peer.close_frame().code == 1009
            return
        peer.send(frame(kind, line))
        peer.send(frame(TEXT, bystander.ticks()[0]))
        messages = [peer.frame().json()]
        while "error" not in messages[-1]:
            messages.append(peer.frame().json())
        assert reason in messages[-1]["message"] and messages[-1]["number"] == 2
