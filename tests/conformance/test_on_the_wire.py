"""SSE and NDJSON byte for byte, and the head of every answer: what proxies, browsers and old clients rely on."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.blocking_client import UPGRADE, ask
from tests.support.harness import OpenHarness
from tick_gateway.transports import TRANSPORTS

from ..support.async_client import Response, request
from ..support.harness import Harness, tick
from ..support.readers.base import PATIENCE

STREAMS = ["/sse", "/ndjson", "/stream", "/"]
PULLS = ["/poll?timeout=0", "/incremental", "/range", "/latest", "/ticks/3"]


async def _some(response: Response, size: int) -> bytes:
    """The first ``size`` bytes of a body, as they come in its chunks."""
    data = b""
    async with asyncio.timeout(PATIENCE):
        async for piece in response.pieces():
            data += piece
            if len(data) >= size:
                return data
    return data


# ---- Server-Sent Events ----


async def test_the_first_bytes_of_server_sent_events_come_at_once(harness: Harness) -> None:
    """Before any tick: else a browser does not say that the stream is open. One LF, never a blank line."""
    data = await _some(await harness.get("/sse?tail=0"), 1)
    assert data.startswith(b"retry: ")
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1


async def test_server_sent_events_byte_for_byte(harness: Harness) -> None:
    await harness.publish_all(range(3), "A")
    await harness.publish_all(range(2), "B")
    response = await harness.get("/sse?from_t=A:1&limit=3&hello=1")
    body = (await response.read()).decode()
    opening, rest = body.split("\n", 1)
    assert opening.startswith("retry: ")
    assert rest == (
        'event: hello\ndata: {"notice":"hello","run":"A","first":0,"tip":2}\n\n'
        f"data: {tick('A', 2).decode()}\nid: A:2\n\n"
        'event: reset\ndata: {"notice":"reset","run":"B","old":"A","complete":true}\nid: B:-1\n\n'
        f"data: {tick('B', 0).decode()}\nid: B:0\n\n"
        f"data: {tick('B', 1).decode()}\nid: B:1\n\n"
        'event: end\ndata: {"notice":"end","reason":"limit","position":"B:1"}\nid: end\n\n'
    )


async def test_a_gap_as_a_server_sent_event(open_harness: OpenHarness) -> None:
    harness = await open_harness(ring=2)
    await harness.publish_all(range(5))
    body = (await (await harness.get("/sse?from_t=A:0&limit=1&event=tick")).read()).decode()
    assert body.split("\n", 1)[1].startswith(
        'event: gap\ndata: {"notice":"gap","run":"A","after":0,"next":3}\nid: A:2\n\nevent: tick\ndata: {"t":3'
    )


async def test_a_batch_as_a_server_sent_event(harness: Harness) -> None:
    await harness.publish_all(range(3))
    body = (await (await harness.get("/sse?from_t=A:-1&limit=2&batch=2")).read()).decode()
    assert f"\ndata: [{tick('A', 0).decode()},{tick('A', 1).decode()}]\nid: A:1\n\n" in body


async def test_heartbeats_of_server_sent_events_are_no_events(harness: Harness) -> None:
    harness.set_flush_policy(sweep_interval=0.05)
    data = await _some(await harness.get("/sse?tail=0&heartbeat=1"), 13)
    assert data.split(b"\n", 1)[1] == b":\n"


# ---- NDJSON ----


async def test_ndjson_byte_for_byte(harness: Harness) -> None:
    await harness.publish_all(range(3), "A")
    await harness.publish_all(range(2), "B")
    response = await harness.get("/ndjson?from_t=A:1&limit=3&hello=1")
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert (await response.read()).decode() == (
        '{"notice":"hello","run":"A","first":0,"tip":2}\n'
        f"{tick('A', 2).decode()}\n"
        '{"notice":"reset","run":"B","old":"A","complete":true}\n'
        f"{tick('B', 0).decode()}\n{tick('B', 1).decode()}\n"
        '{"notice":"end","reason":"limit","position":"B:1"}\n'
    )


@pytest.mark.parametrize("path", ["/ndjson", "/sse", "/"])
async def test_streams_for_http_1_0_end_with_the_connection(harness: Harness, path: str) -> None:
    await harness.publish_all(range(3))
    response = await request(harness.port, f"{path}?from_t=A:-1&limit=3", version="1.0")
    assert "Transfer-Encoding" not in response.headers
    assert "Content-Length" not in response.headers
    assert response.headers["Connection"] == "close"
    assert (await response.read()).count(b'"run_of"') == 3


async def test_ticks_from_the_outside_cannot_break_the_framing(harness: Harness) -> None:
    """Line breaks between tokens become spaces; inside a string they are no JSON."""
    data = b' \r\n{"t":0,\r\n"a":\n"x\\ny\\r\\n\\nevent: end",\r "b":[1,\n\n2]\r\n}\n'
    response = await request(harness.port, "/publish?run=A", method="POST", body=b"[" + data + b"]")
    assert response.status == 200, await response.read()
    expected = b'{"t":0,  "a": "x\\ny\\r\\n\\nevent: end",  "b":[1,  2]  }'
    assert await (await harness.get("/ndjson?from_t=A:-1&limit=1")).read() == (
        expected + b'\n{"notice":"end","reason":"limit","position":"A:0"}\n'
    )
    body = await (await harness.get("/sse?from_t=A:-1&limit=1")).read()
    assert b"data: " + expected + b"\nid: A:0\n\nevent: end\ndata: " in body


# ---- heads ----


@pytest.mark.parametrize("path", STREAMS)
async def test_the_head_of_a_stream(harness: Harness, path: str) -> None:
    await harness.publish_all(range(5), "A")
    response = await harness.get(f"{path}?tail=1")
    headers = response.headers
    assert response.status == 200
    assert headers["Cache-Control"] == "no-store, no-transform"
    assert headers["X-Accel-Buffering"] == "no"
    assert headers["Connection"] == "close"
    sse = "text/event-stream; charset=utf-8"
    assert headers["Content-Type"] == (sse if path == "/sse" else "application/x-ndjson")
    assert headers["Tick-Run"] == "A"
    _open_to_all(response)


async def test_the_head_of_a_stream_on_an_empty_bus(harness: Harness) -> None:
    response = await harness.get("/ndjson")
    assert response.status == 200
    assert "Tick-Run" not in response.headers


@pytest.mark.parametrize(
    ("query", "run"),
    [("tail=1", "B"), ("from_t=A:2", "A"), ("from_t=2", "B"), ("run=A", "A"), ("from_t=Z:1", "B"), ("", "B")],
)
@pytest.mark.parametrize("path", ["/sse", "/ndjson", "/ws/stream"])
async def test_tick_run_is_the_run_of_the_first_tick(harness: Harness, path: str, query: str, run: str) -> None:
    await harness.publish_all(range(5), "A")
    await harness.publish_all(range(5), "B")
    assert (await harness.ask(f"{path}?{query}")).headers["Tick-Run"] == run


@pytest.mark.parametrize("path", PULLS)
async def test_the_head_of_a_pull(harness: Harness, path: str) -> None:
    await harness.publish_all(range(5), "A")
    response = await harness.get(path)
    assert response.status == 200, await response.read()
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Vary"] == "Accept, Accept-Encoding"
    assert response.headers["Tick-Run"] == "A"
    _open_to_all(response)
    await response.read()


@pytest.mark.parametrize("path", [*STREAMS, *PULLS, "/meta", "/runs", "/ws/stream"])
async def test_errors_can_be_read_by_every_origin(harness: Harness, path: str) -> None:
    response = await harness.get(path.partition("?")[0] + "?nonsense=1", Origin="https://elsewhere.example")
    assert response.status == 400
    assert (await response.json())["parameter"] == "nonsense"
    _open_to_all(response)


READABLE = (
    *STREAMS, *PULLS, "/meta", "/runs", "/segments", "/healthz", "/readyz", "/metrics", "/openapi.json", "/ticks/3",
)  # fmt: skip


@pytest.mark.parametrize("path", READABLE)
@pytest.mark.parametrize("coming", ["GET", "HEAD"])
async def test_what_can_be_read_can_be_read_by_every_page(harness: Harness, path: str, coming: str) -> None:
    await harness.publish_all(range(5))
    for headers in ({}, {"Accept": "text/html"}, {"Accept": "application/json"}):
        _open_to_all(await harness.get(path, method=coming, Origin="https://elsewhere.example", **headers))


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/nowhere", 404),
        ("/ticks/99", 404),
        ("/latest?run=nobody", 404),
        ("/ndjson?run=nobody", 404),
        ("/sse?run=nobody", 404),
        ("/segments/A/none", 404),
        ("/latest?limit=x", 400),
        ("/sse?limit=x", 400),
        ("/ws/stream", 426),
    ],
)
async def test_a_page_can_read_why_it_was_refused(harness: Harness, target: str, status: int) -> None:
    await harness.publish_all(range(5))
    response = await harness.get(target, Origin="https://elsewhere.example")
    assert response.status == status
    _open_to_all(response)
    refused = await harness.get(target.partition("?")[0], method="DELETE", Origin="https://elsewhere.example")
    assert refused.status == (404 if target == "/nowhere" else 405)
    _open_to_all(refused)


@pytest.mark.parametrize("path", READABLE)
async def test_options(harness: Harness, path: str) -> None:
    response = await harness.get(
        path,
        method="OPTIONS",
        Origin="https://elsewhere.example",
        Access_Control_Request_Method="GET",
        Access_Control_Request_Headers="last-event-id",
    )
    assert response.status in (200, 204)
    assert await response.read() == b""
    allowed = {name.strip() for name in response.headers["Access-Control-Allow-Headers"].split(",")}
    assert allowed == {
        "Last-Event-ID", "Authorization", "If-None-Match", "Cache-Control", "Content-Type", "X-Requested-With",
    }  # fmt: skip
    assert "GET" in response.headers["Access-Control-Allow-Methods"]
    assert response.headers["Access-Control-Allow-Origin"] == "*"


async def test_publishing_is_not_open_to_other_origins(harness: Harness) -> None:
    response = await request(
        harness.port, "/publish", method="POST", headers={"Origin": "https://elsewhere.example"}, body=b'{"t":0}'
    )
    assert response.status == 403
    assert "Access-Control-Allow-Origin" not in response.headers
    for path in ("/publish", "/ws/publish", "/runs/A/end"):
        for method in ("OPTIONS", "GET", "POST"):
            response = await harness.get(path, method=method, Origin="https://elsewhere.example")
            assert "Access-Control-Allow-Origin" not in response.headers, (path, method)


@pytest.mark.parametrize("path", [*STREAMS, *PULLS, "/meta", "/runs"])
async def test_head_gives_the_head_alone(harness: Harness, path: str) -> None:
    await harness.publish_all(range(5), "A")
    got = await harness.get(path)
    response = await harness.get(path, method="HEAD")
    assert response.status == 200
    assert response.headers["Content-Type"] == got.headers["Content-Type"]
    assert response.headers.get("Tick-Run") == got.headers.get("Tick-Run")
    if path != "/meta":  # it tells a rate, which changes
        assert response.headers.get("Content-Length") == got.headers.get("Content-Length"), "that of the answer to GET"
    got.close()
    response.writer.write_eof()
    assert await asyncio.wait_for(response.reader.read(), PATIENCE) == b"", "a body came"


async def test_head_of_a_websocket_is_refused(harness: Harness) -> None:
    assert (await harness.get("/ws/stream", method="HEAD")).status in (400, 405, 426)


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("PUT", "/publish", "accepted: POST (curl -T sends PUT, unless -X POST stands beside it)"),
        ("PUT", "/runs/A/end", "unless -X POST stands beside it"),
        ("POST", "/sse", "ticks are published by POST /publish"),
        ("PUT", "/ticks.ndjson", "ticks are published by POST /publish"),
        ("GET", "/publish", "accepted: POST"),
        ("GET", "/streem", "no such path; see /openapi.json; did you mean /stream?"),
        ("GET", "/metric", "did you mean /metrics?"),
        ("GET", "/ws", "did you mean /ws/stream?"),
        ("GET", "/ticks", "did you mean /ticks/{t}?"),
        ("GET", "/tick/5", "did you mean /ticks/{t}?"),
        ("GET", "/runs/", "did you mean /runs?"),
        ("GET", "/" + "x" * 5000, "see /openapi.json"),
        ("GET", "/sse?form_t=5", "lastEventId; did you mean from_t?"),
        ("GET", "/range?Fields=x", "did you mean fields?"),
        ("GET", "/poll?q=5", "accepted: from_t"),
        ("GET", "/latest?run=nobody", "no run nobody is known; see /runs"),
    ],
)
async def test_what_may_have_been_meant(harness: Harness, method: str, path: str, says: str) -> None:
    refused = await harness.get(path, method=method)
    message = json.loads(await refused.read())["message"]
    assert says in message and ("did you mean" in says or "did you mean" not in message)


@pytest.mark.parametrize(
    ("path", "status"),
    [*((path, 400) for path in ("/", "/stream", "/sse", "/ndjson", "/poll", "/latest")), ("/websocket", 404)],
)
async def test_a_websocket_where_there_is_none_is_told_where(harness: Harness, path: str, status: int) -> None:
    """It gets an answer that ends: clients read the body of a handshake that failed, and a stream's never ends."""
    await harness.publish_all(range(5))
    refused = await request(harness.port, path, headers=UPGRADE)
    message = json.loads(await refused.read())["message"]
    assert refused.status == status
    assert "/ws/stream, /ws/publish" in message


@pytest.mark.parametrize(
    ("version", "left_out", "says"),
    [
        ("1.1", ("Upgrade", "Connection"), "the header Upgrade must be websocket; a proxy in between"),
        ("1.1", ("Connection",), "the header Connection must name Upgrade; a proxy in between"),
        ("1.0", (), "a request of HTTP/1.1; a proxy in between"),
    ],
)
async def test_what_proxies_do_to_a_handshake_is_told(
    harness: Harness, version: str, left_out: tuple[str, ...], says: str
) -> None:
    headers = {name: value for name, value in UPGRADE.items() if name not in left_out}
    refused = await request(harness.port, "/ws/stream", headers=headers, version=version)
    message = json.loads(await refused.read())["message"]
    assert refused.status == 426
    assert says in message and message.endswith("docs/how-to/proxy.md")


async def test_an_upgrade_to_something_else_is_passed_over(harness: Harness) -> None:
    """RFC 9110, section 7.8; curl --http2 asks for h2c."""
    await harness.publish_all(range(5))
    assert (await harness.get("/latest", Upgrade="h2c", Connection="Upgrade")).status == 200


async def test_who_is_asked_is_said_once(harness: Harness) -> None:
    """RFC 9112, section 3.2."""
    for version, hosts, status in (("1.1", 0, 400), ("1.1", 2, 400), ("1.0", 0, 200), ("1.1", 1, 200)):
        head = f"GET /runs HTTP/{version}\r\n" + "Host: localhost\r\n" * hosts + "\r\n"
        assert (await asyncio.to_thread(ask, harness.port, head.encode())).status == status, (version, hosts)


async def test_a_websocket_without_a_handshake_is_told_so(harness: Harness) -> None:
    response = await harness.get("/ws/stream")
    assert response.status == 426
    assert response.headers["Upgrade"].lower() == "websocket"
    assert (await response.json())["error"] == "not_a_websocket"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_other_methods_are_not_allowed(harness: Harness, method: str) -> None:
    for transport in TRANSPORTS:
        response = await harness.get(transport.path, method=method)
        assert response.status == 405
        assert "GET" in response.headers["Allow"]
        assert json.loads(await response.read())["error"] == "method_not_allowed"


def _open_to_all(response: Response) -> None:
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    exposed = {name.strip() for name in response.headers["Access-Control-Expose-Headers"].split(",")}
    assert exposed == {
        "Tick-Run",
        "Tick-Next",
        "Tick-Gap",
        "Tick-Reset",
        "Link",
        "ETag",
        "Retry-After",
        "Accept-Ranges",
        "Content-Range",
    }
