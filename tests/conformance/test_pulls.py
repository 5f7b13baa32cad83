"""Long-poll and incremental in their own forms: bodies, Tick-Next and Link, limits, runs, waiting."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from pathlib import Path
from urllib.parse import urljoin

import pytest

from tests.support.faulty_disk import Disk
from tick_gateway.history.local import commit as pipeline

from ..support.async_client import Response, elements, members
from ..support.events import Gap, Tick, ticks
from ..support.harness import Harness, tick
from .conftest import OpenHarness


def _next(response: Response, path: str) -> str:
    """Where the header ``Link`` sends the client, from the address that it asked."""
    found = re.fullmatch(r'<([^>]+)>; rel="next"', response.headers["Link"])
    assert found is not None, response.headers["Link"]
    return str(urljoin(path, found[1]))


# ---- the bodies of /poll ----


async def test_a_poll_for_one_tick(harness: Harness) -> None:
    await harness.publish_all(range(5))
    response = await harness.get("/poll?last_t=A:2")
    found = members((await response.read()).decode())
    assert found.pop("data").encode() == tick("A", 3), "byte for byte as published"
    assert {name: json.loads(value) for name, value in found.items()} == {"t": 3, "next_t": 4, "position": "A:3"}
    assert response.headers["Tick-Next"] == "A:3"
    assert _next(response, "/poll") == "/poll?from_t=A:3"
    assert response.headers["Content-Type"] == "application/json"


async def test_a_poll_for_many(harness: Harness) -> None:
    await harness.publish_all(range(5))
    response = await harness.get("/poll?last_t=A:1&limit=2")
    found = members((await response.read()).decode())
    assert [one.encode() for one in elements(found.pop("ticks"))] == [tick("A", 2), tick("A", 3)]
    assert {name: json.loads(value) for name, value in found.items()} == {"t": 3, "next_t": 4, "position": "A:3"}
    assert _next(response, "/poll") == "/poll?from_t=A:3&limit=2"


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


# ---- waiting ----


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


# ---- runs ----


async def test_a_pull_never_crosses_a_run(harness: Harness) -> None:
    await harness.publish_all(range(5), "A")
    await harness.publish_all(range(5), "B")
    response = await harness.get("/incremental?from_t=A:1")
    assert [one["t"] for one in await response.json()] == [2, 3, 4]
    assert (response.headers["Tick-Run"], response.headers["Tick-Next"]) == ("A", "B:-1")
    assert response.headers["Tick-Reset"] == "B"
    assert "Tick-Gap" not in response.headers
    response = await harness.get("/poll?last_t=A:1&limit=99")
    body = await response.json()
    assert ([one["t"] for one in body["ticks"]], body["reset"], body["position"]) == ([2, 3, 4], "B", "B:-1")
    assert (response.headers["Tick-Next"], response.headers["Tick-Reset"]) == ("B:-1", "B")
    response = await harness.get("/poll?last_t=A:3")
    body = await response.json()
    assert (body["t"], body["next_t"], body["reset"], body["position"]) == (4, 5, "B", "B:-1")


async def test_a_pull_from_the_end_of_an_older_run(harness: Harness) -> None:
    await harness.publish_all(range(5), "A")
    await harness.publish_all(range(5), "B")
    response = await harness.get("/incremental?from_t=A:4")
    assert [one["t"] for one in await response.json()] == [0, 1, 2, 3, 4]
    assert (response.headers["Tick-Run"], response.headers["Tick-Next"]) == ("B", "B:4")
    assert response.headers["Tick-Reset"] == "B"


async def test_a_pull_tells_of_one_change_of_run(harness: Harness, pull: str) -> None:
    """From an old run's end, where the run after it is over too: it is named before the next one is."""
    for run in ("A", "B", "C"):
        await harness.publish_all(range(2), run)
    reader = harness.reader(pull, from_t="A:1")
    harness.ledger.check(await (await reader.connect()).until(1, "C"), after=("A", 1))


async def test_a_pull_says_all_that_is_gone(open_harness: OpenHarness) -> None:
    harness = await open_harness(ring=5)
    await harness.publish_all(range(50), "A")
    response = await harness.get("/incremental?from_t=A:3&limit=2")
    assert [one["t"] for one in await response.json()] == [45, 46]
    assert (response.headers["Tick-Gap"], response.headers["Tick-Next"]) == ("after=3;next=45", "A:46")
    await harness.publish_all(range(10), "B")
    response = await harness.get("/poll?last_t=A:3&limit=2")
    assert await response.json() == {
        "status": "timeout",
        "next_t": 3,
        "position": "B:-1",
        "gap": [{"after": 3, "next": None}],
        "reset": "B",
    }
    assert _told(response) == ("A", "after=3;next=", "B", "B:-1")
    response = await harness.get("/poll?last_t=B:-1&limit=2")
    body = await response.json()
    assert (body["gap"], "reset" in body) == ([{"after": -1, "next": 5}], False)
    assert _told(response) == ("B", "after=-1;next=5", None, "B:6")
    assert [one["t"] for one in body["ticks"]] == [5, 6]


def _told(response: Response) -> tuple[str | None, ...]:
    return tuple(response.headers.get(f"Tick-{name}") for name in ("Run", "Gap", "Reset", "Next"))


@pytest.mark.parametrize("path", ["/incremental?from_t=", "/poll?last_t=", "/poll?limit=9&last_t="])
async def test_an_answer_holds_ticks_and_gaps_of_one_run(open_harness: OpenHarness, path: str) -> None:
    """However many runs are gone: whose gap it is, and what comes before or behind a change of run, is never open."""
    harness = await open_harness(ring=2)
    for run, count in (("A", 6), ("B", 3), ("C", 1), ("D", 3)):
        await harness.publish_all(range(count), run)
    for position, told in (
        ("A:2", ("A", "after=2;next=", "B", "B:-1")),
        ("A:5", ("B", None, "B", "B:-1")),  # what is gone of B is told with the change to C
        ("B:-1", ("B", "after=-1;next=", "C", "C:-1")),
        ("B:2", ("C", None, "C", "C:-1")),
        ("C:-1", ("C", "after=-1;next=", "D", "D:-1")),
        ("gone:7", ("D", "after=-1;next=1", "D", "D:1" if path == "/poll?last_t=" else "D:2")),
        ("D:-1", ("D", "after=-1;next=1", None, "D:1" if path == "/poll?last_t=" else "D:2")),
    ):
        response = await harness.get(path + position)
        assert (position, _told(response)) == (position, told)
        numbers = re.findall(r'"t":(\d+)[, ]', (await response.read()).decode())
        assert bool(numbers) == (position[0] in "Dg"), "an answer that is cut short does not wait for a tick"


async def test_runs_that_are_gone_one_after_another(open_harness: OpenHarness, flavour: str) -> None:
    harness = await open_harness(ring=2)
    await harness.publish_all(range(3), "A")
    reader = await harness.read(flavour, from_t="A:1")
    events = await reader.until(2)
    for run, count in (("A", 6), ("B", 3), ("C", 1), ("D", 3)):
        harness.publish(range(3 if run == "A" else 0, count), run)
    events += await reader.until(2, "D")
    harness.ledger.check(events, after=("A", 1))


async def test_runs_that_pass_while_the_disk_stands_still(
    open_harness: OpenHarness, pull: str, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers get them from memory, which holds few, and later from history."""
    monkeypatch.setattr(pipeline, "LAG_SECONDS", 0.01)
    harness = await open_harness(data=str(tmp_path), ring=2, block_bytes=1024)
    await harness.publish_all(range(3), "A")
    reader = await harness.read(pull, from_t="A:1")
    events = await reader.until(2)
    disk.gate.clear()
    for run, count in (("A", 6), ("B", 3), ("C", 1), ("D", 3)):
        harness.publish(range(3 if run == "A" else 0, count), run)
    try:
        events += await reader.until(2, "D")
    finally:
        disk.mend()
    harness.ledger.check(events, after=("A", 1))
    assert sum(isinstance(event, Gap) for event in events) == 4
    await harness.settle()
    events = await (await harness.read(pull, from_t="A:1")).until(2, "D")
    harness.ledger.check(events, after=("A", 1))
    assert not any(isinstance(event, Gap) for event in events)


async def test_a_poll_that_waits_tells_of_one_change_of_run(harness: Harness) -> None:
    """A view may leave out all of the run after it, while the poll waits for more."""
    await harness.publish_all(range(1, 5), "A")
    await harness.publish_all(range(1, 5), "B")
    polling = asyncio.create_task(harness.get("/poll?last_t=A:4&every=10&timeout=60"))
    await harness.until(lambda: harness.asked == 1)
    await harness.publish_all(range(1, 15), "C")
    assert _told(await polling) == ("B", None, "B", "B:4")
    assert _told(await harness.get("/poll?last_t=B:4&every=10")) == ("C", None, "C", "C:10")


async def test_an_incremental_pull_of_a_run_that_is_over_stays_at_its_end(harness: Harness) -> None:
    await harness.publish_all(range(5), "A")
    await harness.publish_all(range(5), "B")
    response = await harness.get("/incremental?run=A&from_t=A:2")
    assert [one["t"] for one in await response.json()] == [3, 4]
    assert response.headers["Tick-Next"] == "A:4"
    assert await (await harness.get("/incremental?run=A&from_t=A:4")).json() == []


# ---- amounts ----


async def test_the_default_limit_of_incremental_is_a_thousand(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.publish_all(range(1500))
    response = await harness.get("/incremental")
    assert [one["t"] for one in await response.json()] == list(range(1000))
    assert response.headers["Tick-Next"] == "A:999"
    assert _next(response, "/incremental") == "/incremental?from_t=A:999"
    assert len(await harness.json("/incremental?limit=1200")) == 1200
    assert len(await harness.json("/incremental?from_t=A:999")) == 500


async def test_a_pull_ends_at_8_mib(open_harness: OpenHarness, pull: str) -> None:
    harness = await open_harness()
    await harness.publish_all(range(24), size=500_000)
    reader = await harness.read(pull, from_t="A:-1", limit=1000)
    events = [await reader.next()]
    assert reader.response is not None
    size = int(reader.response.headers["Content-Length"])
    assert size <= (8 << 20) + 500_200, "at the first tick beyond 8 MiB at the latest"
    events += await reader.until(23)
    harness.ledger.check(events, after=("A", -1))


async def test_the_formats_of_incremental(harness: Harness) -> None:
    await harness.publish_all(range(3))
    array = b"[" + b",".join(tick("A", t) for t in range(3)) + b"]"
    lines = b"".join(tick("A", t) + b"\n" for t in range(3))
    for query, accept, expected in (
        ("", "*/*", array),
        ("", "application/x-ndjson", lines),
        ("", "application/json", array),
        ("?format=ndjson", "application/json", lines),
        ("?format=json", "application/x-ndjson", array),
    ):
        response = await harness.get(f"/incremental{query}", Accept=accept)
        assert await response.read() == expected
        media_type = "application/json" if expected is array else "application/x-ndjson"
        assert response.headers["Content-Type"] == media_type


async def test_the_link_keeps_the_other_parameters(harness: Harness, pull: str) -> None:
    await harness.publish_all(range(30))
    reader = await harness.read(pull, tail=20, every=3, fields="x,s", stamp=1)
    events = await reader.until(27)
    assert ticks(events) == list(range(0, 30, 3))
    assert all(json.loads(event.data)["data"].keys() == {"t", "x", "s"} for event in events if isinstance(event, Tick))
