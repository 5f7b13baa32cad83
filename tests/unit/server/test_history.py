"""What is promised over HTTP, where history is behind it: publishing, runs, streams and pulls over memory and disk."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.support import history_files
from tests.support.async_client import WebSocket
from tests.support.blocking_client import port_of
from tests.support.events import Event, Gap, Ledger, Reset, Tick, notices, ticks
from tests.support.faulty_disk import Disk
from tests.support.gateway_process import GatewayProcess, Running
from tests.support.harness import Harness
from tests.support.made_history import BEGAN, RING, STEP, A, B, Served, made, opened, tick_of, turns, write
from tests.support.reconnecting import CLIENTS, PATIENCE, reader
from tests.support.requests import ask, metric, post
from tick_gateway import Gateway

PYTHON = (sys.executable, "-m", "tick_gateway")
pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Served]:
    async with made(tmp_path / "history") as found:
        yield found


# ---- publishing ----


async def test_a_post_is_answered_when_its_ticks_are_stored(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path / "history", Ledger()) as s:
        client = await reader("ndjson", s.port, tail=0).connect()
        disk.gate.clear()
        posting = asyncio.create_task(post(s.port, [tick_of("A", 1)], "A"))
        reading = asyncio.create_task(client.next())
        await s.harness.until(lambda: disk.waiting)
        await turns()
        assert not posting.done() and not reading.done(), "before it is stored, nobody is told of it"
        assert (await ask(s.port, "/meta"))["tip"] is None
        disk.gate.set()
        assert (await posting)["stored"] is True
        event = await reading
        assert isinstance(event, Tick) and event.t == 1
        assert (await ask(s.port, "/meta"))["stored"] == 1
    assert history_files.lines(tmp_path / "history", "A") == [tick_of("A", 1)]


async def test_stored_is_said_of_what_is_stored(tmp_path: Path, disk: Disk) -> None:
    """Also of duplicates: who sends again what the disk did not take is not told that it did."""
    async with opened(tmp_path / "history", Ledger()) as s:
        first, second = [tick_of("A", t) for t in range(10)], [tick_of("A", t) for t in range(10, 20)]
        assert (await post(s.port, first, "A"))["stored"] is True
        disk.break_()
        assert (await post(s.port, second, "A"))["stored"] is False
        disk.mend()
        async with asyncio.timeout(PATIENCE):
            t = 20
            while not (await post(s.port, [tick_of("A", t)], "A"))["stored"]:
                t += 1
        again = [await post(s.port, some, "A") for some in (first, second, first + second)]
        assert [answer["duplicates"] for answer in again] == [10, 10, 20]
        assert [answer["stored"] for answer in again] == [True, False, False]


async def test_stored_is_said_of_a_body_as_a_whole(tmp_path: Path, disk: Disk) -> None:
    """Its first ticks met a disk that took nothing; that it takes the last ones does not make up for that."""
    async with opened(tmp_path / "history", Ledger()) as s:
        incoming, writer = await asyncio.open_connection("127.0.0.1", s.port)

        def send(data: bytes) -> None:
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))

        head = "POST /publish?run=A HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        disk.break_()
        send(tick_of("A", 1) + b"\n")
        pipeline = s.harness.store.pipeline
        await s.harness.until(lambda: pipeline.unstored == 1)
        disk.mend()
        async with asyncio.timeout(PATIENCE):
            t = 2
            while not (await post(s.port, [tick_of("A", t)], "A"))["stored"]:
                t += 1
        send(tick_of("A", t + 1) + b"\n")
        writer.write(b"0\r\n\r\n")
        answer = await incoming.readuntil(b"}")
        assert json.loads(answer[answer.index(b"{") :]) == {
            "run": "A", "accepted": 2, "duplicates": 0, "tip": t + 1, "stored": False,
        }  # fmt: skip
        writer.close()


async def test_an_ack_stands_for_what_is_stored(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path / "history", Ledger()) as s:
        publisher = await WebSocket.connect(s.port, "/ws/publish?run=A")
        publisher.send(tick_of("A", 1))
        assert json.loads(await publisher.message()) == {"ack": 1}
        disk.gate.clear()
        publisher.send(tick_of("A", 2))
        answering = asyncio.create_task(publisher.message())
        await s.harness.until(lambda: disk.waiting)
        await turns()
        assert not answering.done()
        disk.gate.set()
        assert json.loads(await answering) == {"ack": 2}
        disk.break_()
        publisher.send(tick_of("A", 3))
        assert json.loads(await publisher.message()) == {"ack": 3, "stored": False}


async def test_without_history_an_ack_says_nothing_of_it() -> None:
    async with Harness() as harness:
        publisher = await WebSocket.connect(harness.port, "/ws/publish?run=A")
        publisher.send(tick_of("A", 1))
        assert json.loads(await publisher.message()) == {"ack": 1}


# ---- what there is ----


async def test_every_run_outlives_the_gateway(tmp_path: Path) -> None:
    ledger = Ledger()
    lives: list[list[tuple[str, list[int]]]] = [
        [("A", list(A[:70]))],
        [("A", list(A[70:])), ("B", list(B[:70]))],
        [("B", list(B[70:]))],
        [],
    ]
    for life in lives:
        async with opened(tmp_path / "history", ledger) as s:
            for run, numbers in life:
                await post(s.port, (tick_of(run, t) for t in numbers), run)
                for t in numbers:
                    ledger.note(run, t, tick_of(run, t))
            now = list(ledger.numbers)[-1]
            found = (await ask(s.port, "/runs"))["runs"]
            told = [(one["run"], one["first"], one["last"], one["count"], one["ended"]) for one in found]
            assert told == [(run, ts[0], ts[-1], len(ts), run != now) for run, ts in ledger.numbers.items()]
            meta = await ask(s.port, "/meta")
            ts = ledger.numbers[now]
            assert [meta[name] for name in ("run", "first", "tip", "stored")] == [now, ts[0], ts[-1], ts[-1]]


async def test_single_ticks(scene: Served) -> None:
    """The newest, and any by its number, of any run; from memory, from the open block, from disk."""
    newest = await scene.get("/latest")
    assert await newest.read() == scene.lines("B")[-1] and newest.headers["Tick-Run"] == "B"
    assert await (await scene.get("/latest?run=A")).read() == scene.lines("A")[-1]
    assert (
        await (await scene.get("/latest?run=A&every=50")).read()
        == scene.ledger.runs["A"][max(t for t in A if t % 50 == 0)]
        if any(t % 50 == 0 for t in A)
        else True
    )
    for run in ("A", "B"):
        for t in scene.ledger.numbers[run][::17]:
            one = await scene.get(f"/ticks/{t}?run={run}")
            assert (one.status, await one.read()) == (200, scene.ledger.runs[run][t])
            assert one.headers["Tick-Next"] == f"{run}:{t}"
            hole = await scene.get(f"/ticks/{t + 1}?run={run}")
            assert hole.status == 404 and (await hole.json())["error"] == "not_found"
    t = scene.ledger.numbers["B"][3]
    assert await (await scene.get(f"/ticks/{t}")).read() == scene.ledger.runs["B"][t], "of the current run"
    assert await (await scene.get(f"/ticks/{t}?fields=x")).json() == {"t": t, "x": 1.5}


# ---- streams and pulls: memory and disk are one ----


async def follow(scene: Served, name: str, *, every: int = 1, **parameters: object) -> list[Event]:
    """Read to the tip, and of what is published then."""
    one = await reader(name, scene.port, every=every, **parameters).connect()
    events = await one.until(last(scene, every), "B")
    await scene.publish(2)
    events += await one.until(last(scene, every), "B")
    one.close()
    return events


def last(scene: Served, every: int) -> int:
    """The newest tick that is shown."""
    return max(t for t in scene.ledger.numbers["B"] if t % every == 0)


@pytest.mark.parametrize("name", CLIENTS)
async def test_from_a_position_in_an_old_run_into_live(scene: Served, name: str) -> None:
    after = scene.ledger.numbers["A"][40]
    events = await follow(scene, name, from_t=f"A:{after}")
    scene.ledger.check(events, after=("A", after))
    (reset,) = notices(events)
    assert isinstance(reset, Reset) and reset.run == "B" and reset.complete in (True, None)


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("tail", [0, 1, RING + 3, 100])
async def test_tail(scene: Served, name: str, tail: int) -> None:
    want = scene.ledger.numbers["B"][-tail:] if tail else []
    one = await reader(name, scene.port, tail=tail).connect()
    events = await one.take(tail)
    if one.kind == "stream":
        await scene.harness.until(lambda: len(scene.harness.sessions) == 1)
        await scene.publish(2)
        want += scene.ledger.numbers["B"][-2:]
        events += await one.take(2)
    assert ticks(events) == want and not notices(events)
    one.close()


@pytest.mark.parametrize("name", CLIENTS)
async def test_since_a_time(scene: Served, name: str) -> None:
    """The very tick that was received then is the first."""
    nth = 77
    moment = datetime.fromtimestamp((BEGAN + 10 * nth) / 1000, UTC).isoformat(timespec="milliseconds")
    events = await follow(scene, name, since=moment)
    first = scene.ledger.numbers["A"][nth]
    scene.ledger.check(events, after=("A", first - STEP))
    assert ticks(events)[0] == first


@pytest.mark.parametrize("name", CLIENTS)
async def test_an_old_run_to_its_end(scene: Served, name: str) -> None:
    one = await reader(name, scene.port, run="A").connect()
    events = await one.rest() if name != "incremental" else await one.until(A[-1]) + [await one.next()]
    assert [event.data for event in events if isinstance(event, Tick)] == scene.lines("A")
    assert one.position == f"A:{A[-1]}"
    one.close()


@pytest.mark.parametrize("name", CLIENTS)
async def test_backlog_leaves_out_what_is_older(scene: Served, name: str) -> None:
    events = await follow(scene, name, from_t=f"B:{B[10]}", backlog=60)
    scene.ledger.check(events, after=("B", B[10]))
    first = scene.ledger.numbers["B"][-62]  # two more came since
    assert notices(events) == [Gap("B", B[10], first)]
    assert ticks(events) == scene.ledger.numbers["B"][-62:]


def only(*names: str) -> Callable[[bytes], bytes]:
    """What ``fields`` makes of a tick."""
    return lambda data: json.dumps({k: v for k, v in json.loads(data).items() if k in names}).encode()


@pytest.mark.parametrize("name", CLIENTS)
async def test_views(scene: Served, name: str) -> None:
    """``every``, ``fields`` and ``batch`` over disk are what they are over memory."""
    events = await follow(scene, name, from_t="B:-1", every=10, batch=7)
    shown = [t for t in scene.ledger.numbers["B"] if t % 10 == 0]
    assert ticks(events) == shown
    sizes = [
        sum(isinstance(e, Tick) and e.message == n for e in events)
        for n in {e.message for e in events if isinstance(e, Tick)}
    ]
    assert max(sizes) == 7
    one = await reader(name, scene.port, from_t="B:-1", fields="x,run_of").connect()
    seen = [event for event in await one.until(scene.ledger.tip[1]) if isinstance(event, Tick)]
    one.close()
    wanted = [{"t": t, "run_of": "B", "x": 1.5} for t in scene.ledger.numbers["B"]]
    assert [json.loads(tick.data) for tick in seen] == wanted


# ---- many at once, and how the gateway is started ----


@pytest.mark.parametrize("bound", [20 * 1024, 1 << 20], ids=["four-blocks", "all"])
async def test_many_who_catch_up_share_what_is_read(tmp_path: Path, bound: int) -> None:
    """A block is read once, where the cache has room for all; where it has not, still far from once for each reader."""
    ledger = write(tmp_path / "history", {"B": B})
    async with opened(tmp_path / "history", ledger, history_cache=bound) as s:
        blocks = sum(
            not frame.skippable
            for path in history_files.segments(tmp_path / "history", "B")
            for frame in history_files.frames(path)
        )
        before = await metric(s.port, "tick_gateway_history_loads_total")
        kinds = [name for name in CLIENTS if name != "ndjson-zstd"]  # that one takes them as they lie
        many = [await reader(kinds[i % len(kinds)], s.port, from_t="B:-1").connect() for i in range(30)]
        for events in await asyncio.gather(*(one.until(B[-1]) for one in many)):
            s.ledger.check(events, after=("B", -1))
        loads = await metric(s.port, "tick_gateway_history_loads_total") - before
        assert blocks > 10 and loads <= (blocks if bound > 1 << 16 else len(many) * blocks / 2), (blocks, loads)
        assert 0 < await metric(s.port, "tick_gateway_history_cached_bytes") <= bound
        for one in many:
            one.close()


async def test_a_mounted_gateway(tmp_path: Path) -> None:
    for start in (0, 100):
        gateway = Gateway(data=str(tmp_path / "history"))
        app = web.Application()
        gateway.mount(app, "/ticks")
        async with TestClient(TestServer(app, host="127.0.0.1")) as client:
            for t in range(start, start + 100):
                gateway.publish(tick_of("A", t), run="A")
            async with client.get("/ticks/poll", params={"last_t": f"A:{start + 98}"}) as answer:
                assert (await answer.json())["t"] == start + 99
            async with client.get("/ticks/range", params={"run": "A"}) as answer:
                assert (await answer.read()).splitlines() == [tick_of("A", t) for t in range(start + 100)]
    assert history_files.lines(tmp_path / "history", "A") == [tick_of("A", t) for t in range(200)]


async def test_a_gateway_in_a_thread_again_and_again(tmp_path: Path) -> None:
    """The same process lets the directory go and takes it again. The simulation goes on; then it starts over."""
    for number, ts in enumerate((range(50), range(50, 100), range(30))):
        with Gateway.in_thread(port=0, host="127.0.0.1", data=str(tmp_path / "history")) as gateway:
            for t in ts:
                gateway.publish({"t": t, "life": number})
            port = port_of(gateway)
            async with asyncio.timeout(PATIENCE):
                while (await ask(port, "/meta"))["stored"] != ts[-1]:
                    continue
            runs = (await ask(port, "/runs"))["runs"]
            assert [(one["last"], one["count"], one["ended"]) for one in runs] == (
                [(99, 100, True), (29, 30, False)] if number == 2 else [(ts[-1], ts[-1] + 1, False)]
            )


def test_the_demo_keeps_its_flights(tmp_path: Path) -> None:
    """Each start is a run of its own, and all of them can be read."""
    kept: list[tuple[str, int]] = []
    for _ in range(3):
        with GatewayProcess("demo", "--data", str(tmp_path / "history"), "--rate", "200", "--agents", "3") as gateway:
            command = [*PYTHON, "cat", gateway.url, "--from", "0", "--limit", "20", "--quiet"]  # from behind tick 0
            with Running(command) as cat:
                assert cat.wait() == 0, cat.report()
            runs = asyncio.run(ask(gateway.port, "/runs"))["runs"]
            assert [(one["run"], one["last"]) for one in runs[:-1]] == kept
            assert [one["ended"] for one in runs] == [True] * len(kept) + [False]
        run = runs[-1]["run"]
        flown = history_files.lines(tmp_path / "history", run)
        assert flown[1:21] == [line.encode() for line in cat.stdout.lines]
        kept.append((run, json.loads(flown[-1])["t"]))
