"""Heads of requests with odd bytes in every header, on every route: each has an answer in the gateway's own form, none
is a fault of the gateway's, and none leaves a line in its log (the package's fixture compares it at the end)."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from tests.support.blocking_client import UPGRADE, Peer, Response, ask, request

from ...support.bad_input import STEAL, Bystander

ODD = (
    b"\x92", b"\xff\xfe", b"\xe2\x28\xa1", b"a:b:c", b"", b",", b";;=,;", b"[::1", b"]:80", b"[", b"http://", b"%00%ff",
    b"\x80" * 2000, b"W/", b'"', b"*;q=x", b"9" * 40, b"-1", b"=?utf-8?b?kg==?=", b"\tx\t", b"a b", b"\xc2\x85",
    b"100-continue, \x92", b"bytes=\xff-", b"{}", b"user@host@host:1", b"None", b"x" * 8000,
)  # fmt: skip

HEADERS = (
    "Host", "Expect", "Accept", "Accept-Encoding", "Accept-Charset", "If-None-Match", "If-Modified-Since", "If-Match",
    "If-Range", "If-Unmodified-Since", "Range", "Last-Event-ID", "Authorization", "Origin", "Referer", "Cookie",
    "Access-Control-Request-Method", "Access-Control-Request-Headers", "Content-Type", "Content-Encoding", "User-Agent",
    "Connection", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol", "Tick-Run", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
    "X-Forwarded-Prefix", "Via", "TE", "Trailer", "Date", "Content-Length", "Transfer-Encoding",
    "X-HTTP-Method-Override",
)  # fmt: skip

ENDING = "limit=1&tail=1&timeout=0"  # so that streams end at once
ACCEPTS = ("*/*", "application/json", "text/html", "text/event-stream")


def routes(bystander: Bystander) -> list[tuple[str, str]]:
    """Every method and path that there is, and one that there is not."""
    paths = ask(bystander.port, request("GET", "/openapi.json")).json()["paths"]
    found = [
        (method.upper(), path.replace("{t}", "0").replace("{run}", "bystander-1"))
        for path in paths
        for method in paths[path]
    ]
    return [*found, ("HEAD", "/latest"), ("OPTIONS", "/sse"), ("GET", "/nowhere"), ("DELETE", "/latest")]


def head(method: str, path: str, fields: list[tuple[str, bytes]]) -> bytes:
    """A request without a body; what is not said otherwise is as it should be."""
    said = {name.lower() for name, _ in fields}
    usual = {"Host": "localhost", "Connection": "close", "Accept": "application/json"}
    if path.startswith("/ws/"):
        usual |= UPGRADE
    if method == "POST":
        usual["Content-Length"] = "0"
    lines = [(name, value.encode()) for name, value in usual.items() if name.lower() not in said] + fields
    target = path if method == "POST" or "/ws/publish" in path else f"{path}?{ENDING}"
    return (
        f"{method} {target} HTTP/1.1\r\n".encode()
        + b"".join(b"%s: %s\r\n" % (n.encode(), v) for n, v in lines)
        + b"\r\n"
    )


def answer(bystander: Bystander, data: bytes) -> Response:
    """The answer's head and what comes behind it to the end of the connection, or of the time that matters here."""
    with Peer(bystander.port) as peer:
        peer.send(data)
        found = peer.head()
        while found.status == 100:
            found = peer.head()
        if found.status >= 400:
            length = int(found.headers.get("content-length", "0"))
            return found._replace(body=b"" if data.startswith(b"HEAD ") else peer.exactly(length))
        return found


def check(data: bytes, found: Response) -> None:
    """No fault of the gateway's; whatever is refused is said in JSON."""
    assert found.status < 500 or found.status == 501, (data, found)
    assert "aiohttp" not in found.headers.get("server", "") and "Python" not in found.headers.get("server", "")
    if found.status >= 400 and not data.startswith(b"HEAD "):
        assert found.headers["content-type"].startswith("application/json"), (data, found)
        told = json.loads(found.body)
        assert set(told) >= {"error", "message"} and told["message"] and len(found.body) < 2000, (data, found)


def cases(bystander: Bystander) -> Iterator[bytes]:
    """Each header with each odd value on some routes, and each route with each header."""
    chance = random.Random(22)
    there = routes(bystander)
    for name in HEADERS:
        for value in ODD:
            method, path = chance.choice(there)
            yield head(method, path, [(name, value)])
        for method, path in there:
            yield head(method, path, [(name, chance.choice(ODD)), ("Accept", chance.choice(ACCEPTS).encode())])
    for method, path in there:
        for name in ("Host", "Expect"):
            for value in ODD[:6]:
                yield head(method, path, [(name, value), ("Accept", b"application/json")])


def test_odd_bytes_in_every_header_of_every_route(bystander: Bystander) -> None:
    for data in cases(bystander):
        check(data, answer(bystander, data))


def test_heads_put_together_at_random(bystander: Bystander) -> None:
    chance, there = random.Random(2222), routes(bystander)
    for _ in range(300):
        method, path = chance.choice(there)
        fields = [(chance.choice(HEADERS), chance.choice(ODD) if chance.random() < 0.5 else chance.randbytes(5)
                   .translate(None, b"\r\n\0")) for _ in range(chance.randint(1, 6))]  # fmt: skip
        data = head(method, path, fields)
        check(data, answer(bystander, data))


# ---- what aiohttp would answer by itself ----


@pytest.mark.parametrize("path", ["/latest", "/", "/publish", "/ws/stream", "/nowhere"])
@pytest.mark.parametrize("expect", [b"\x92", b"200-maybe", b"100-continue, x", b"\xff" * 1000])
def test_what_cannot_be_expected(bystander: Bystander, path: str, expect: bytes) -> None:
    found = answer(bystander, head("GET", path, [("Expect", expect)]))
    assert (found.status, found.json()["error"]) == (417, "expectation_failed")


def test_continue(bystander: Bystander) -> None:
    with Peer(bystander.port) as peer:
        body = bystander.lines()
        peer.send(request("POST", "/publish", {"Expect": "100-Continue", "Content-Length": str(len(body))}))
        assert peer.head().status == 100
        assert peer.send(body).response().json()["accepted"] == 1


@pytest.mark.parametrize(
    ("codings", "status"),
    [
        (["gzip, chunked"], 501),
        (["deflate, chunked"], 501),
        (["x, chunked"], 501),
        (["gzip,gzip,chunked"], 501),
        (["gzip", "chunked"], 400),
    ],
)
def test_transfer_codings_that_are_not_there(bystander: Bystander, codings: list[str], status: int) -> None:
    fields = b"".join(b"Transfer-Encoding: %s\r\n" % coding.encode() for coding in codings)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(STEAL), STEAL.encode())
    for path in (b"/publish", b"/nowhere"):
        with Peer(bystander.port) as peer:
            peer.send(b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (path, fields), body)
            found = peer.response()
            assert (found.status, found.json()["error"]) == (
                status,
                "transfer_coding" if status == 501 else "bad_request",
            ), found
            assert peer.rest() == b"", "what follows is no request"


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /latest HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /publish HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["text", "NUL", "TLS", "a long header", "a long address", "no length"],
)
def test_what_is_no_http_is_told_so_in_json(bystander: Bystander, data: bytes) -> None:
    found = answer(bystander, data)
    check(data, found)
    assert (found.status, found.json()["error"]) == (400, "bad_request")
    assert "\n" not in found.json()["message"]
