"""Ticks that are sent again, long after memory let go of them: history says whether they are the same."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import history_files
from tests.support.async_client import WebSocket, request
from tests.support.events import Ledger
from tests.support.made_history import STEP, A, Served, made, opened, tick_of, turns
from tests.support.requests import post
from tick_gateway import Gateway
from tick_gateway.bus import tick_bus
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.errors import Conflict, NotServing, TickError
from tick_gateway.history import resent_ticks as resent
from tick_gateway.history.archive import Archive

pytestmark = pytest.mark.usefixtures("patient")
WAYS = pytest.mark.parametrize("way", ["http", "websocket", "in process"])


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Served]:
    async with made(tmp_path / "history") as found:
        yield found


async def answered(s: Served, run: str, *lines: bytes) -> dict[str, Any]:
    """The answer to a body of ticks, whatever its status."""
    response = await request(s.port, f"/publish?run={run}", method="POST", body=b"\n".join(lines))
    answer: dict[str, Any] = json.loads(await response.read())
    return answer


async def said(s: Served, way: str, run: str, line: bytes) -> str:
    """What the gateway says of a tick: ``duplicate``, or the code of an error."""
    if way == "in process":
        try:
            taken = await asyncio.to_thread(s.harness.runtime.bus.publish, line, run=run)
        except TickError as error:
            return error.code
        assert not taken
        return "duplicate"
    if way == "http":
        answer = await answered(s, run, line)
        assert answer["duplicates"] or not answer["stored"], "what was refused is not stored"
        return "duplicate" if answer["duplicates"] else str(answer["errors"][0]["error"])
    publisher = await WebSocket.connect(s.port, f"/ws/publish?run={run}")
    publisher.send(line)
    told = json.loads(await publisher.message())
    publisher.close()
    return "duplicate" if "ack" in told else str(told["error"])


@WAYS
@pytest.mark.parametrize("run", ["A", "B"], ids=["of an older run", "of the current run"])
async def test_the_same_bytes_are_a_duplicate_and_others_a_conflict(scene: Served, way: str, run: str) -> None:
    for t in scene.ledger.numbers[run][:: 40 if way == "websocket" else 7]:
        assert await said(scene, way, run, tick_of(run, t)) == "duplicate"
        assert await said(scene, way, run, b'{"t":%d,"other":1}' % t) == "conflict"


@WAYS
async def test_a_number_that_was_left_out_is_told_from_one_that_is_gone(scene: Served, way: str) -> None:
    assert await said(scene, way, "A", tick_of("A", A[50] + 1)) == "run_closed"
    assert await said(scene, way, "B", tick_of("B", scene.ledger.numbers["B"][3] + 1)) == "out_of_order"
    directory = Path(scene.harness.runtime.settings.data)
    history_files.segments(directory, "A")[0].unlink()
    assert await said(scene, way, "A", b'{"t":%d,"other":1}' % A[0]) == "duplicate", "nobody knows any more"
    answer = await post(scene.port, [b'{"t":%d,"other":1}' % A[0]], "A")
    assert answer["stored"] is False


async def test_it_is_looked_up_once_for_many(scene: Served) -> None:
    archive = scene.harness.runtime.feed.archive
    before = archive.loaded
    answer = await post(scene.port, [tick_of("A", t) for t in A], "A")
    assert (answer["duplicates"], answer["stored"]) == (len(A), True)
    assert archive.loaded - before <= len(archive.history(scene.harness.runtime.bus.runs["A"]).entries)
    lines = [tick_of("A", t) if t != A[77] else b'{"t":%d}' % t for t in A]
    answer = await answered(scene, "A", *lines)
    assert (answer["duplicates"], answer["refused"]) == (len(A) - 1, 1)
    assert answer["errors"][0]["line"] == 78 and answer["errors"][0]["error"] == "conflict"


async def test_the_block_that_is_still_written(tmp_path: Path) -> None:
    async with opened(tmp_path / "history", Ledger(), block_bytes=1 << 20, ring=5) as s:
        await post(s.port, [tick_of("A", t) for t in range(0, 100 * STEP, STEP)], "A")
        for t in (0, 40 * STEP):
            assert await said(s, "http", "A", tick_of("A", t)) == "duplicate"
            assert await said(s, "http", "A", b'{"t":%d,"other":1}' % t) == "conflict"
            assert await said(s, "http", "A", tick_of("A", t + 1)) == "out_of_order"


async def test_on_the_loop_s_own_thread_it_is_logged(scene: Served, caplog: pytest.LogCaptureFixture) -> None:
    publish = scene.harness.runtime.bus.publish
    assert publish(tick_of("A", A[0]), run="A") is False
    with caplog.at_level(logging.ERROR, "tick_gateway"):
        assert publish(b'{"t":%d,"other":1}' % A[0], run="A") is False
        async with asyncio.timeout(20.0):
            while not caplog.records:
                await turns()
    (record,) = caplog.records
    assert f"tick {A[0]} of run A" in record.getMessage()


@pytest.mark.parametrize("kind", ["in a thread", "asgi"])
def test_a_program_that_starts_over(tmp_path: Path, kind: str) -> None:
    """Under the name of a run that an earlier process stored: equal ticks are dropped, others refused."""
    settings: Any = {"port": 0, "host": "127.0.0.1", "data": tmp_path, "ring": 5, "publish_timeout": 60.0}
    with Gateway(**settings) as first:
        for t in range(50):
            first.publish({"t": t, "x": t}, run="A")
        for t in range(20):
            first.publish({"t": t}, run="B")
    again = Gateway(**settings)
    if kind == "asgi":
        again.asgi()
    again.start()
    try:
        for run, t in (("A", 3), ("A", 49)):
            assert again.publish({"t": t, "x": t}, run=run) is False
            with pytest.raises(Conflict):
                again.publish({"t": t, "x": -1}, run=run)
        with pytest.raises(Conflict):
            again.publish({"t": 1, "x": 1}, run="B")
    finally:
        again.close()


async def test_a_disk_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick is refused for now: nobody is told that it is stored, nor that it differs."""
    monkeypatch.setattr(resent, "_PATIENCE", 0.05)
    async with made(tmp_path / "history") as s:
        archive = s.harness.runtime.feed.archive
        monkeypatch.setattr(archive, "_elsewhere", lambda job, done: None)
        answer = await answered(s, "A", tick_of("A", A[0]))
        assert answer["error"] == "unreadable" and answer["duplicates"] == 0


async def test_runs_that_history_has_are_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that comes again after many others is the old run's, and no new one's."""
    monkeypatch.setattr(tick_bus, "_MAX_RUNS", 3)
    async with opened(tmp_path / "history", Ledger()) as s:
        for number in range(8):
            await post(s.port, [tick_of(f"R{number}", t) for t in range(30)], f"R{number}")
        assert await said(s, "http", "R0", tick_of("R0", 0)) == "duplicate"
        assert await said(s, "http", "R0", b'{"t":0}') == "conflict"
        assert await said(s, "http", "R0", tick_of("R0", 99)) == "run_closed"
    assert history_files.lines(tmp_path / "history", "R0") == [tick_of("R0", t) for t in range(30)]


def test_a_gateway_that_is_closed_before_it_can_look() -> None:
    bus = TickBus()
    bus.offer(3, b"")
    assert bus.current is not None
    bus.current.evicted = 10
    ticks = resent.ResentTicks(bus, Archive())

    async def start_on_the_loop() -> None:
        ticks.start()

    asyncio.run(start_on_the_loop())
    with ThreadPoolExecutor(1) as another, pytest.raises(NotServing, match="closed before"):
        another.submit(ticks.compare, None, 3, b"").result()
