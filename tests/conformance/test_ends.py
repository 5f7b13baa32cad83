"""How things end: a run while its readers are live, a stream by its own end, the gateway by a shutdown."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.harness import OpenHarness

from ..support.async_client import Closed, WebSocket, request
from ..support.events import End, Reset, notices, ticks
from ..support.harness import Harness
from ..support.readers.streams import SSEReader

# ---- a change of run, live ----


async def test_a_change_of_run_under_a_live_reader(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(10), "A")
    reader = await harness.read(flavour, from_t="A:4")
    events = await reader.until(9, "A")
    for run in ("B", "C"):
        harness.publish(range(5), run)
        events += await reader.until(4, run)
    harness.ledger.check(events, after=("A", 4))
    complete = True if reader.kind == "stream" else None
    assert [(event.run, event.complete) for event in notices(events) if isinstance(event, Reset)] == [
        ("B", complete),
        ("C", complete),
    ]
    assert reader.position == "C:4"


async def test_several_runs_in_one_flush(harness: Harness, flavour: str) -> None:
    await harness.publish_all(range(3), "A")
    reader = await harness.read(flavour, from_t="A:-1")
    events = await reader.until(2)
    harness.publish(range(3, 6), "A")
    harness.publish(range(3), "B")
    harness.publish(range(1), "C")
    harness.publish(range(3), "D")
    events += await reader.until(2, "D")
    harness.ledger.check(events, after=("A", -1))


async def test_a_run_that_is_ended_goes_on_as_another(harness: Harness, flavour: str) -> None:
    """Without run=R the end of a run is no end: the reader waits for the next one."""
    await harness.publish_all(range(5), "A")
    reader = await harness.read(flavour, from_t="A:-1")
    events = await reader.until(4)
    await harness.end_run("A")
    harness.publish(range(3), "B")
    events += await reader.until(2, "B")
    harness.ledger.check(events, after=("A", -1))


async def test_ending_a_run_that_nobody_knows(harness: Harness) -> None:
    await harness.publish_all(range(5))
    response = await request(harness.port, "/runs/nobody/end", method="POST")
    assert (response.status, (await response.json())["error"]) == (404, "not_found")


async def test_ending_a_run_twice(harness: Harness) -> None:
    await harness.publish_all(range(5))
    await harness.end_run("A")
    await harness.end_run("A")


async def test_a_run_that_was_ended_takes_no_more_ticks(harness: Harness) -> None:
    await harness.publish_all(range(5))
    await harness.end_run("A")
    response = await request(harness.port, "/publish", method="POST", headers={"Tick-Run": "A"}, body=b'{"t":5}')
    assert (response.status, (await response.json())["error"]) == (409, "run_closed")


# ---- the ends of streams ----


async def test_a_final_end_is_written_once_and_the_connection_closed(harness: Harness, stream: str) -> None:
    await harness.publish_all(range(5), "A")
    await harness.publish_all(range(5), "B")
    for parameters, reason in (({"run": "A"}, "run"), ({"from_t": "A:-1", "limit": 5}, "limit")):
        reader = await harness.read(stream, **parameters)
        events = await reader.rest()
        assert notices(events) == [End(reason, "A:4")]
        assert ticks(events) == [0, 1, 2, 3, 4]
        assert reader.ended
        assert reader.response is not None
        assert await asyncio.wait_for(reader.response.reader.read(), 30) == b"", "the gateway closed the connection"


async def test_shutdown_says_where_each_reader_stands(harness: Harness, stream: str) -> None:
    await harness.publish_all(range(5))
    reader = await harness.read(stream, from_t="A:-1")
    events = await reader.until(4)
    events += await harness.shut(reader)
    assert events[-1] == End("shutdown", "A:4")
    assert reader.ended
    harness.ledger.check(events, after=("A", -1))


async def test_what_was_published_before_a_shutdown_is_delivered(harness: Harness, stream: str) -> None:
    await harness.publish_all(range(5))
    reader = await harness.read(stream, from_t="A:-1")
    events = await reader.until(4)
    harness.publish(range(5, 50))
    events += await harness.shut(reader)
    harness.ledger.check(events, after=("A", -1))
    assert ticks(events) == list(range(50))


@pytest.mark.parametrize("parameters", [{"from_t": "A:99"}, {"tail": 0, "limit": 3}, {"tail": 0, "batch": 9}])
async def test_shutdown_reaches_readers_that_wait(harness: Harness, stream: str, parameters: dict[str, object]) -> None:
    await harness.publish_all(range(5))
    reader = await harness.read(stream, **parameters)
    events = await harness.shut(reader)
    position = parameters.get("from_t", "A:4")
    assert [event for event in events if isinstance(event, End)] == [End("shutdown", str(position))]


async def test_shutdown_on_an_empty_bus(harness: Harness, stream: str) -> None:
    reader = await harness.read(stream, tail=0)
    events = await harness.shut(reader)
    assert events[-1] == End("shutdown", None)


async def test_a_reader_that_does_not_read_does_not_hold_up_a_shutdown(open_harness: OpenHarness, stream: str) -> None:
    harness = await open_harness(small=True, drain_timeout=0.2)
    await harness.publish_all([0])
    await harness.read(stream, tail=0)
    await harness.until(lambda: bool(harness.sessions))
    while not all(session.state.blocked for session in harness.sessions):
        await harness.publish_all([harness.ledger.tip[1] + 1], size=20_000)
    await asyncio.wait_for(harness.stop(), 30)
    assert not harness.sessions


async def test_shutdown_answers_a_poll_that_waits(harness: Harness) -> None:
    await harness.publish_all(range(5))
    polling = asyncio.create_task(harness.json("/poll?last_t=A:4&timeout=300"))
    await harness.until(lambda: harness.asked > 0)
    await asyncio.wait_for(harness.stop(), 30)
    body = await polling
    assert (body["status"], body["position"]) == ("timeout", "A:4")


async def test_shutdown_answers_a_pull_beyond_the_tip(harness: Harness) -> None:
    await harness.publish_all(range(5))
    pulling = asyncio.create_task(harness.json("/incremental?from_t=A:99"))
    await harness.until(lambda: harness.asked > 0)
    await asyncio.wait_for(harness.stop(), 30)
    assert await pulling == []


# ---- Server-Sent Events: ids ----


async def test_only_a_final_end_has_the_id_end(harness: Harness) -> None:
    """EventSource comes back with the last id after any end: a shutdown's lets it go on, a final one stops it."""
    await harness.publish_all(range(5), "A")
    reader = await harness.read("sse", from_t="A:2", limit=1)
    assert isinstance(reader, SSEReader)
    await reader.rest()  # the reader checks the ids: `end` for limit and run, else the position
    response = await harness.get("/sse?from_t=A:2&limit=1", Last_Event_ID="end")
    assert (response.status, await response.read()) == (204, b"")
    response = await harness.get("/stream?Last-Event-ID=end", Accept="text/event-stream")
    assert (response.status, await response.read()) == (204, b"")
    live = await harness.read("sse", from_t="A:-1")
    events = await live.until(4)
    events += await harness.shut(live)
    assert (events[-1], live.position) == (End("shutdown", "A:4"), "A:4")


# ---- WebSocket: close codes ----


@pytest.mark.parametrize(
    ("query", "code", "reason"), [("from_t=A:-1&limit=2", 1000, "limit A:1"), ("run=A", 1000, "run A:4")]
)
async def test_the_close_code_of_a_stream_that_is_done(harness: Harness, query: str, code: int, reason: str) -> None:
    await harness.publish_all(range(5), "A")
    await harness.publish_all(range(5), "B")
    closed = await _closed(await WebSocket.connect(harness.port, f"/ws/stream?{query}"))
    assert (closed.code, closed.reason) == (code, reason)


async def test_the_close_code_of_a_shutdown(harness: Harness) -> None:
    await harness.publish_all(range(5))
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=1")
    _, closed = await asyncio.gather(harness.stop(), _closed(socket))
    assert (closed.code, closed.reason) == (1001, "shutdown A:4")


async def test_a_client_that_closes_is_answered(harness: Harness) -> None:
    await harness.publish_all(range(5))
    socket = await WebSocket.connect(harness.port, "/ws/stream?tail=1")
    await socket.message()
    socket.send(b"\x03\xe8bye", 0x8)
    closed = await _closed(socket)
    assert (closed.code, closed.reason) == (1000, "bye")
    await harness.until(lambda: not harness.sessions)


async def test_when_full_a_websocket_is_told_after_the_handshake(open_harness: OpenHarness) -> None:
    """A browser cannot read a refused handshake."""
    harness = await open_harness(max_connections=1)
    await harness.publish_all(range(5))
    await harness.read("ndjson", tail=1)
    await harness.until(lambda: bool(harness.sessions))
    assert (await _closed(await WebSocket.connect(harness.port, "/ws/stream?tail=1"))).code == 1013


async def test_when_full_server_sent_events_come_back_later(open_harness: OpenHarness) -> None:
    """EventSource cannot read an error status, and gives up on it for ever."""
    harness = await open_harness(max_connections=1)
    await harness.publish_all(range(5))
    await harness.read("ndjson", tail=1)
    await harness.until(lambda: bool(harness.sessions))
    response = await harness.get("/sse")
    assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    lines = (await response.read()).decode().split("\n")
    retry, event, data, *rest = lines
    assert int(retry.removeprefix("retry: ")) >= 10_000
    assert event == "event: overloaded"
    assert json.loads(data.removeprefix("data: "))["notice"] == "overloaded"
    assert rest == ["", ""]


@pytest.mark.parametrize("path", ["/ndjson", "/stream"])
async def test_when_full_ndjson_is_refused(open_harness: OpenHarness, path: str) -> None:
    harness = await open_harness(max_connections=1)
    await harness.publish_all(range(5))
    await harness.read("ndjson", tail=1)
    await harness.until(lambda: bool(harness.sessions))
    response = await harness.get(path)
    assert (response.status, (await response.json())["error"]) == (503, "overloaded")
    assert int(response.headers["Retry-After"]) > 0


async def test_when_full_pulls_go_on(open_harness: OpenHarness, pull: str) -> None:
    harness = await open_harness(max_connections=1)
    await harness.publish_all(range(5))
    await harness.read("ndjson", tail=1)
    await harness.until(lambda: bool(harness.sessions))
    harness.ledger.check(await (await harness.read(pull, from_t="A:-1")).until(4), after=("A", -1))


async def _closed(socket: WebSocket) -> Closed:
    async with asyncio.timeout(30):
        while True:
            try:
                await socket.message()
            except Closed as closed:
                return closed
