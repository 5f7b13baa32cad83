"""What is promised over HTTP, where history is behind it: publishing, reading from memory and disk, ranges, replay."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from tests import history_files
from tests.clients import CLIENTS, PATIENCE, ask, metric, post, reader
from tests.conformance.events import Event, Gap, Ledger, Reset, Tick, notices, ticks
from tests.conformance.house import House
from tests.conformance.raw import Response, WebSocket, request
from tests.conformance.talk import Talk
from tests.faulty_disk import Disk
from tests.made_history import BEGAN, tick_of, write
from tests.process import GatewayProcess, Running
from tick_gateway import Gateway
from tick_gateway.history import keeper

PYTHON = (sys.executable, "-m", "tick_gateway")
STEP = 5  # what looks like a hole to who counts by one is none
A, B = range(3, 3 + 200 * STEP, STEP), range(0, 150 * STEP, STEP)
RING = 20
SMALL: dict[str, Any] = {"ring": RING, "block_bytes": 1024, "segment_bytes": 4096, "fsync": "never"}
STREAMS = ("websocket", "sse", "ndjson", "ndjson-zstd")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other things is no slow disk."""
    monkeypatch.setattr(keeper, "LAG_SECONDS", 30.0)


class Scene:
    """A gateway on a history of two runs, A and B, of which memory has the last of B."""

    def __init__(self, house: House, ledger: Ledger) -> None:
        self.house = house
        self.port = house.port
        self.ledger = ledger

    async def publish(self, count: int) -> None:
        """Publish on in run B."""
        first = self.ledger.tip[1] + STEP
        more = range(first, first + count * STEP, STEP)
        answer = await post(self.port, (tick_of("B", t) for t in more), "B")
        assert (answer["accepted"], answer["stored"]) == (count, True), answer
        for t in more:
            self.ledger.note("B", t, tick_of("B", t))

    async def get(self, target: str, **headers: str) -> Response:
        return await self.house.get(target, **headers)

    def lines(self, run: str, low: int = 0, high: int = 1 << 60) -> list[bytes]:
        return [data for t, data in self.ledger.runs[run].items() if low <= t <= high]


@contextlib.asynccontextmanager
async def opened(directory: Path, ledger: Ledger, **settings: Any) -> AsyncIterator[Scene]:
    own: dict[str, Any] = {
        "data": str(directory),
        "ring": RING,
        "block_bytes": 1024,
        "segment_bytes": 4096,
        "fsync": "never",
    }
    async with House(**own | settings) as house:
        yield Scene(house, ledger)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    ledger = write(tmp_path / "history", {"A": A, "B": B})
    async with opened(tmp_path / "history", ledger) as found:
        await found.publish(30)  # some of what follows is on disk, in blocks of this process
        yield found


# ---- publishing ----


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Disk:
    return Disk(monkeypatch, tmp_path)


async def turns() -> None:
    """Let everything happen that can without the disk."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_post_is_answered_when_its_ticks_are_stored(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path / "history", Ledger()) as s:
        client = await reader("ndjson", s.port, tail=0).connect()
        disk.gate.clear()
        posting = asyncio.create_task(post(s.port, [tick_of("A", 1)], "A"))
        reading = asyncio.create_task(client.next())
        await s.house.until(lambda: disk.waiting)
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


async def test_an_ack_stands_for_what_is_stored(tmp_path: Path, disk: Disk) -> None:
    async with opened(tmp_path / "history", Ledger()) as s:
        publisher = await WebSocket.connect(s.port, "/ws/publish?run=A")
        publisher.send(tick_of("A", 1))
        assert json.loads(await publisher.message()) == {"ack": 1}
        disk.gate.clear()
        publisher.send(tick_of("A", 2))
        answering = asyncio.create_task(publisher.message())
        await s.house.until(lambda: disk.waiting)
        await turns()
        assert not answering.done()
        disk.gate.set()
        assert json.loads(await answering) == {"ack": 2}
        disk.break_()
        publisher.send(tick_of("A", 3))
        assert json.loads(await publisher.message()) == {"ack": 3, "stored": False}


async def test_without_history_an_ack_says_nothing_of_it() -> None:
    async with House() as house:
        publisher = await WebSocket.connect(house.port, "/ws/publish?run=A")
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


async def test_single_ticks(scene: Scene) -> None:
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


async def follow(scene: Scene, name: str, *, every: int = 1, **parameters: object) -> list[Event]:
    """Read to the tip, and of what is published then."""
    one = await reader(name, scene.port, every=every, **parameters).connect()
    events = await one.until(last(scene, every), "B")
    await scene.publish(2)
    events += await one.until(last(scene, every), "B")
    one.close()
    return events


def last(scene: Scene, every: int) -> int:
    """The newest tick that is shown."""
    return max(t for t in scene.ledger.numbers["B"] if t % every == 0)


@pytest.mark.parametrize("name", CLIENTS)
async def test_from_a_position_in_an_old_run_into_live(scene: Scene, name: str) -> None:
    after = scene.ledger.numbers["A"][40]
    events = await follow(scene, name, from_t=f"A:{after}")
    scene.ledger.check(events, after=("A", after))
    (reset,) = notices(events)
    assert isinstance(reset, Reset) and reset.run == "B" and reset.complete in (True, None)


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("tail", [0, 1, RING + 3, 100])
async def test_tail(scene: Scene, name: str, tail: int) -> None:
    want = scene.ledger.numbers["B"][-tail:] if tail else []
    one = await reader(name, scene.port, tail=tail).connect()
    events = await one.take(tail)
    if one.kind == "stream":
        await scene.house.until(lambda: len(scene.house.sessions) == 1)
        await scene.publish(2)
        want += scene.ledger.numbers["B"][-2:]
        events += await one.take(2)
    assert ticks(events) == want and not notices(events)
    one.close()


@pytest.mark.parametrize("name", CLIENTS)
async def test_since_a_time(scene: Scene, name: str) -> None:
    """The very tick that was received then is the first."""
    nth = 77
    moment = datetime.fromtimestamp((BEGAN + 10 * nth) / 1000, UTC).isoformat(timespec="milliseconds")
    events = await follow(scene, name, since=moment)
    first = scene.ledger.numbers["A"][nth]
    scene.ledger.check(events, after=("A", first - STEP))
    assert ticks(events)[0] == first


@pytest.mark.parametrize("name", CLIENTS)
async def test_an_old_run_to_its_end(scene: Scene, name: str) -> None:
    one = await reader(name, scene.port, run="A").connect()
    events = await one.rest() if name != "incremental" else await one.until(A[-1]) + [await one.next()]
    assert [event.data for event in events if isinstance(event, Tick)] == scene.lines("A")
    assert one.position == f"A:{A[-1]}"
    one.close()


@pytest.mark.parametrize("name", CLIENTS)
async def test_backlog_leaves_out_what_is_older(scene: Scene, name: str) -> None:
    events = await follow(scene, name, from_t=f"B:{B[10]}", backlog=60)
    scene.ledger.check(events, after=("B", B[10]))
    first = scene.ledger.numbers["B"][-62]  # two more came since
    assert notices(events) == [Gap("B", B[10], first)]
    assert ticks(events) == scene.ledger.numbers["B"][-62:]


def only(*names: str) -> Callable[[bytes], bytes]:
    """What ``fields`` makes of a tick."""
    return lambda data: json.dumps({k: v for k, v in json.loads(data).items() if k in names}).encode()


@pytest.mark.parametrize("name", CLIENTS)
async def test_views(scene: Scene, name: str) -> None:
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


# ---- ranges ----


async def frames_of(port: int, target: str) -> list[bytes]:
    """The zstd frames of an answer, as they come."""
    async with (
        ClientSession(auto_decompress=False) as session,
        session.get(f"http://127.0.0.1:{port}{target}", headers={"Accept-Encoding": "zstd"}) as answer,
    ):
        assert answer.headers["Content-Encoding"] == "zstd"
        body = await answer.read()
    found: list[bytes] = []
    while body:
        decoder = zstandard.ZstdDecompressor().decompressobj()
        decoder.decompress(body)
        assert decoder.eof, "a frame is cut off"
        found.append(body[: len(body) - len(decoder.unused_data)])
        body = decoder.unused_data
    return found


def plain(frames: Iterable[bytes]) -> list[bytes]:
    """The lines in frames."""
    return b"".join(zstandard.ZstdDecompressor().decompressobj().decompress(one) for one in frames).splitlines()


EDGES = [
    (None, None), (0, None), (None, 600), (3, 3), (0, 2), (4, 7), (43, 444), (44, 443), (700, 10_000), (998, 998),
    (10_000, 20_000),
]  # fmt: skip


@pytest.mark.parametrize("run", ["A", "B", None])
@pytest.mark.parametrize(("t0", "t1"), EDGES)
async def test_ranges(scene: Scene, run: str | None, t0: int | None, t1: int | None) -> None:
    asked = {"t0": t0, "t1": t1, "run": run}
    query = "&".join(f"{name}={value}" for name, value in asked.items() if value is not None)
    want = scene.lines(run or "B", t0 or 0, 1 << 60 if t1 is None else t1)
    lines = await scene.get(f"/range?{query}")
    assert (lines.status, lines.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert (await lines.read()).splitlines() == want and "Tick-Gap" not in lines.headers
    array = await scene.get(f"/range?{query}", Accept="application/json")
    assert array.headers["Content-Type"] == "application/json"
    assert await array.read() == b"[" + b",".join(want) + b"]"
    coded = await scene.get(f"/range?{query}", Accept_Encoding="gzip, zstd")
    assert coded.headers["Content-Encoding"] == "zstd"
    assert (await coded.read()).splitlines() == want
    few = await scene.get(f"/range?{query}&limit=7", Accept_Encoding="zstd")
    assert (await few.read()).splitlines() == want[:7]


@pytest.mark.parametrize("coding", ["identity", "zstd"])
async def test_ranges_whose_edges_are_those_of_blocks(scene: Scene, coding: str) -> None:
    """Or lie just beside them, in the holes of ``t``."""
    path = history_files.segments(Path(scene.house.gateway.settings.data), "A")[0]
    ends = [
        json.loads(history_files.decoded(path, frame)[-1])["t"]
        for frame in history_files.frames(path)
        if not frame.skippable
    ]
    edges = [end + beside for end in ends[:2] for beside in (-STEP, -1, 0, 1, STEP - 1, STEP, STEP + 1)]
    for t0 in edges:
        for t1 in (t for t in edges if t >= t0):
            answer = await scene.get(f"/range?run=A&t0={t0}&t1={t1}", Accept_Encoding=coding)
            assert (await answer.read()).splitlines() == scene.lines("A", t0, t1), (t0, t1)
            assert "Tick-Gap" not in answer.headers


async def test_whole_blocks_go_out_as_they_lie_on_disk(scene: Scene) -> None:
    """And the two at the edges are cut."""
    first, *middle, last = await frames_of(scene.port, "/range?run=A&t0=43&t1=644")
    directory = Path(scene.house.gateway.settings.data)
    on_disk = [
        path.read_bytes()[frame.at : frame.at + frame.size]
        for path in history_files.segments(directory, "A")
        for frame in history_files.frames(path)
        if not frame.skippable
    ]
    at = on_disk.index(middle[0])
    assert len(middle) > 10 and middle == on_disk[at : at + len(middle)]
    assert first not in on_disk and last not in on_disk
    assert plain([first, *middle, last]) == scene.lines("A", 43, 644)


async def test_answers_that_never_change(scene: Scene) -> None:
    """Those alone whose URL names the run, and whose end is stored."""
    tip = scene.ledger.tip[1]
    lasting = [f"/range?run=A&t1={A[-1]}", f"/range?run=A&t1={A[-1] + 999}", f"/range?run=B&t0=5&t1={tip}",
               "/ticks/3?run=A", f"/ticks/{tip}?run=B"]  # fmt: skip
    passing = ["/range", "/range?run=A", "/range?t0=5&t1=10", f"/range?run=B&t1={tip + 1}", "/ticks/5", "/latest?run=A"]
    tags: list[str] = []
    for target in lasting:
        for headers in ({}, {"Accept": "application/json"}, {"Accept_Encoding": "zstd"}):
            answer = await scene.get(target, **headers)
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable", target
            assert set(answer.headers["Vary"].split(", ")) == {"Accept", "Accept-Encoding"}
            tag = answer.headers["ETag"]
            body = await answer.read()
            same = await scene.get(target, If_None_Match=tag, **headers)
            assert (same.status, same.headers["ETag"], await same.read()) == (304, tag, b"")
            other = await scene.get(target, If_None_Match='"other"', **headers)
            assert (other.status, await other.read()) == (200, body)
            tags += [tag] if target.startswith("/range") else []
    assert len(set(tags)) == len(tags), "another form, another tag"
    for target in passing:
        answer = await scene.get(target)
        assert answer.headers["Cache-Control"] == "no-store" and "ETag" not in answer.headers, target
        await answer.read()


async def test_an_answer_with_a_gap_is_not_for_ever(tmp_path: Path) -> None:
    ledger = write(tmp_path / "history", {"A": A, "B": B})
    history_files.segments(tmp_path / "history", "A")[1].unlink()
    (tmp_path / "history" / "A" / "index").unlink()
    async with opened(tmp_path / "history", ledger) as s:
        for headers in ({}, {"Accept_Encoding": "zstd"}):
            answer = await s.get(f"/range?run=A&t1={A[-1]}", **headers)
            assert answer.headers["Cache-Control"] == "no-store" and "ETag" not in answer.headers
            assert re.fullmatch(r"after=\d+;next=\d+", answer.headers["Tick-Gap"])
            await answer.read()


# ---- replay ----


class Clock:
    """The time of sessions: it moves when the test says."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr("tick_gateway.session.time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def stands(scene: Scene, t: int) -> None:
    """Wait until the one stream stands at a tick, and make sure that it stays there."""

    def there() -> bool:
        position = scene.house.sessions[0].position
        return position is not None and position.t >= t

    await scene.house.until(there)
    await scene.house.until(lambda: not scene.house.sessions[0].queued)
    position = scene.house.sessions[0].position
    assert position is not None and position.t == t


@pytest.mark.parametrize("name", STREAMS)
async def test_replay_at_the_recorded_pace(tmp_path: Path, clock: Clock, name: str) -> None:
    """A tick every 10 ms, at twenty times that pace: 2 ticks a millisecond, over blocks and files; then live."""
    ledger = write(tmp_path / "history", {"B": B})
    async with opened(tmp_path / "history", ledger) as s:
        one = await reader(name, s.port, from_t="B:-1", speed=20).connect()
        events = await one.take(1)
        await stands(s, B[0])
        for due in (1, 2, 50, 51, 120):
            clock.now = 1000.0 + due * 0.0005 + 0.0001
            events += await one.until(B[due])
            await stands(s, B[due])
        clock.now += 10.0
        events += await one.until(B[-1])
        await s.house.until(lambda: s.house.sessions[0].live)
        await s.publish(3)
        events += await one.until(s.ledger.tip[1])
        s.ledger.check(events, after=("B", -1))
        assert not notices(events)
        one.close()


async def test_replay_with_pause_resume_and_seek(tmp_path: Path, clock: Clock) -> None:
    ledger = write(tmp_path / "history", {"A": A, "B": B})
    async with opened(tmp_path / "history", ledger) as s:
        talk = await Talk.open(s.house, "from_t=A:-1&speed=1&hello=1")
        await talk.tick(A[0])
        clock.now += 0.1001
        await talk.tick(A[10])
        talk.say(op="pause", id=1)
        assert (await talk.reply(ok=1))["at"] == f"A:{A[10]}"
        clock.now += 60
        await turns()
        talk.say(op="resume", id=2)
        resumed = await talk.reply(ok=2)
        assert resumed["at"] == f"A:{A[10]}"
        await talk.tick(A[11])
        await stands(s, A[11])
        clock.now += 0.0501
        await talk.tick(A[16])
        await stands(s, A[16])
        talk.say(op="seek", id=3, from_t=f"A:{A[150]}", speed=10)
        await talk.reply(ok=3)
        await talk.tick(A[151])
        clock.now += 0.0101
        await talk.tick(A[161])
        await stands(s, A[161])
        talk.say(op="seek", id=4, from_t=f"B:{B[20]}")
        sought = await talk.reply(ok=4)
        assert sought["at"] == f"B:{B[20]}"
        await talk.tick(B[-1])
        await s.publish(1)
        await talk.tick(s.ledger.tip[1])
        assert ticks(talk.behind(sought)) == s.ledger.numbers["B"][21:]
        first = talk.before(resumed)
        assert ticks(first) == list(A[:11]), "the pause is not made up for"
        talk.socket.close()


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
            port = int((gateway.url or "").rstrip("/").rpartition(":")[2])
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


async def test_a_shutdown_in_the_middle_of_a_range(tmp_path: Path) -> None:
    """Who was being answered from disk is cut off, and nothing is logged with a traceback."""
    write(tmp_path / "history", {"B": range(20_000)}, together=500, block_bytes=1 << 16, segment_bytes=1 << 20)
    with GatewayProcess("serve", "--data", str(tmp_path / "history"), "--drain-timeout", "0.2") as gateway:
        slow = await request(gateway.port, "/range?run=B", small=True)
        pieces = slow.pieces()
        assert await anext(pieces)
        assert await asyncio.to_thread(gateway.terminate) == 0
        with pytest.raises((EOFError, OSError)):
            async for _ in pieces:
                continue
