"""Long-poll: bodies for one tick and for many, waiting, and the clients that know no positions."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time

import pytest

from ...support.async_client import elements, members
from ...support.harness import Harness, tick
from ...support.pulled import next_target, told_beside


async def test_a_poll_for_one_tick(harness: Harness) -> None:
    await harness.publish_all(range(5))
    response = await harness.get("/poll?last_t=A:2")
    found = members((await response.read()).decode())
    assert found.pop("data").encode() == tick("A", 3), "byte for byte as published"
    assert {name: json.loads(value) for name, value in found.items()} == {"t": 3, "next_t": 4, "position": "A:3"}
    assert response.headers["Tick-Next"] == "A:3"
    assert next_target(response, "/poll") == "/poll?from_t=A:3"
    assert response.headers["Content-Type"] == "application/json"


async def test_a_poll_for_many(harness: Harness) -> None:
    await harness.publish_all(range(5))
    response = await harness.get("/poll?last_t=A:1&limit=2")
    found = members((await response.read()).decode())
    assert [one.encode() for one in elements(found.pop("ticks"))] == [tick("A", 2), tick("A", 3)]
    assert {name: json.loads(value) for name, value in found.items()} == {"t": 3, "next_t": 4, "position": "A:3"}
    assert next_target(response, "/poll") == "/poll?from_t=A:3&limit=2"


@pytest.mark.parametrize("limit", ["", "&limit=1", "&limit=9"])
@pytest.mark.parametrize("seconds", [0, 0.1])
async def test_a_poll_to_which_nothing_came(harness: Harness, limit: str, seconds: float) -> None:
    await harness.publish_all(range(5))
    began = time.monotonic()
    response = await harness.get(f"/poll?last_t=A:4&timeout={seconds}{limit}")
    assert time.monotonic() - began >= seconds, "it has to wait for a tick"
    assert await response.json() == {"status": "timeout", "next_t": 4, "position": "A:4"}
    assert response.headers["Tick-Next"] == "A:4"
    bare = await harness.json(f"/poll?last_t=4&timeout={seconds}{limit}")
    assert bare == {"status": "timeout", "next_t": 4, "position": "A:4"}


async def test_a_poll_on_an_empty_bus(harness: Harness) -> None:
    assert await harness.json("/poll?last_t=0&timeout=0") == {"status": "timeout", "next_t": 0, "position": None}
    assert (await harness.json("/poll?last_t=A:7&timeout=0"))["position"] == "A:7"


async def test_a_poll_without_a_position_begins_at_the_first_tick(harness: Harness) -> None:
    await harness.publish_all(range(5))
    assert (await harness.json("/poll"))["t"] == 0


@pytest.mark.parametrize("start", ["last_t", "from_t"])
async def test_the_original_client_is_never_answered_with_tick_0(harness: Harness, start: str) -> None:
    """It loops on `if (data.t)`, and would ask for the same tick for ever."""
    await harness.publish_all([0, 1, 2], "A")
    assert (await harness.json(f"/poll?{start}=0"))["t"] == 1
    assert (await harness.json(f"/poll?{start}=0&limit=1"))["t"] == 1
    assert (await harness.json(f"/poll?{start}=99"))["t"] == 1, "beyond the tip: reset to the first tick"
    await harness.publish_all([0, 1], "B")
    assert (await harness.json(f"/poll?{start}=2"))["t"] == 1, "the simulation has started over"
    await harness.publish_all([0], "C")
    body = await harness.json(f"/poll?{start}=2&timeout=0")
    assert body["status"] == "timeout"
    assert "data" not in body
    await harness.publish_all([1], "C")
    assert (await harness.json(f"/poll?{start}=2"))["t"] == 1


async def test_whoever_knows_positions_gets_tick_0(harness: Harness) -> None:
    await harness.publish_all([0, 1, 2])
    for query in ("last_t=A:-1", "last_t=A:-1&limit=9", "tail=9", "last_t=99&limit=9", "last_t=Z:7", "run=A"):
        body = await harness.json(f"/poll?{query}")
        assert body["ticks"][0]["t"] == 0 if "ticks" in body else body["t"] == 0


async def test_the_original_clients_loop_meets_every_tick_but_0(harness: Harness) -> None:
    await harness.publish_all(range(10))
    met: list[int] = []
    last = 0
    while last < 9:
        body = await harness.json(f"/poll?last_t={last}&timeout=5")
        assert body["next_t"] == body["t"] + 1
        met.append(last := body["t"])
    assert met == list(range(1, 10))


async def test_many_pollers_at_one_position_get_the_same(harness: Harness) -> None:
    await harness.publish_all(range(5))
    polls = [asyncio.create_task(harness.get("/poll?last_t=A:4&timeout=60")) for _ in range(50)]
    await harness.until(lambda: harness.asked == 50)
    harness.publish([5])
    bodies = {await (await poll).read() for poll in polls}
    assert len(bodies) == 1
    assert json.loads(bodies.pop())["t"] == 5


async def test_pollers_of_every_kind_at_once(harness: Harness) -> None:
    await harness.publish_all(range(5))
    queries = ["last_t=A:4", "last_t=4", "last_t=A:4&limit=9", "tail=0", "last_t=A:4&every=2", "last_t=A:9&limit=3"]
    polls = [asyncio.create_task(harness.json(f"/poll?{query}&timeout=60")) for query in queries]
    await harness.until(lambda: harness.asked == len(queries))
    await harness.publish_all(range(5, 30))
    found = [await poll for poll in polls]
    assert [body["t"] if "data" in body else body["ticks"][0]["t"] for body in found] == [5, 5, 5, 5, 6, 10]


async def test_a_poll_for_many_on_a_fast_stream_ends_in_time(harness: Harness) -> None:
    """It may gather ticks for some milliseconds, but never past its timeout."""
    await harness.publish_all(range(5))
    position, found = "A:4", list[int]()
    for t in range(5, 60):
        harness.publish([t])
        body = await harness.json(f"/poll?last_t={position}&limit=100&timeout=0.02")
        position = body["position"]
        found += [one["t"] for one in body.get("ticks", [])]
    while found[-1] < 59:
        body = await harness.json(f"/poll?last_t={position}&limit=100&timeout=0.02")
        position = body["position"]
        found += [one["t"] for one in body.get("ticks", [])]
    assert found == list(range(5, 60))


async def test_a_poll_passes_over_what_its_view_leaves_out(harness: Harness) -> None:
    await harness.publish_all(range(1, 10))
    assert await harness.json("/poll?last_t=A:1&every=10&timeout=0") == {
        "status": "timeout",
        "next_t": 1,
        "position": "A:9",
    }
    polling = asyncio.create_task(harness.json("/poll?last_t=A:1&every=10&timeout=60"))
    await harness.until(lambda: harness.asked == 2)
    await harness.publish_all(range(10, 15))
    assert (await polling)["t"] == 10


@pytest.mark.parametrize(
    "target", ["/poll?last_t=A:4&timeout=300", "/poll?last_t=A:4&limit=9&timeout=300", "/incremental?from_t=A:99"]
)
async def test_nobody_waits_for_a_client_that_is_gone(harness: Harness, target: str) -> None:
    """Whoever asks and leaves, again and again, holds a request each time: they must not pile up to the timeout."""
    harness.set_patience(beyond_tip_seconds=300.0, half_closed_seconds=0.1)
    harness.wait_beyond_tip(300.0)
    await harness.publish_all(range(5))
    waiters = harness.runtime.fanout.waiters
    gone = [await asyncio.open_connection("127.0.0.1", harness.port) for _ in range(20)]
    stays = asyncio.create_task(harness.get(target))
    for _, writer in gone:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
    await harness.until(lambda: len(waiters) > 20)
    for number, (_, writer) in enumerate(gone):
        if number % 2:  # its kernel resets the connection; else it ends one side of it, as those do who read on
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
    await harness.until(lambda: len(waiters) < 3)
    await harness.publish_all(range(5, 101))
    assert (await stays).status == 200


async def test_a_poll_that_waits_tells_of_one_change_of_run(harness: Harness) -> None:
    """A view may leave out all of the run after it, while the poll waits for more."""
    await harness.publish_all(range(1, 5), "A")
    await harness.publish_all(range(1, 5), "B")
    polling = asyncio.create_task(harness.get("/poll?last_t=A:4&every=10&timeout=60"))
    await harness.until(lambda: harness.asked == 1)
    await harness.publish_all(range(1, 15), "C")
    assert told_beside(await polling) == ("B", None, "B", "B:4")
    assert told_beside(await harness.get("/poll?last_t=B:4&every=10")) == ("C", None, "C", "C:10")
