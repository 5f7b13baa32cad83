"""History engines: which one a gateway is given, and what each promises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from tests.support.backend import Writer, line_of
from tests.support.harness import OpenHarness
from tests.support.requests import metric, post
from tick_gateway import history
from tick_gateway.bus.ring import Batch, Run
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.errors import Locked
from tick_gateway.history import ENGINES, HistoryEngine, open_history
from tick_gateway.history.archive import Archive
from tick_gateway.history.engine import EngineStatus, Progress
from tick_gateway.history.external.in_place import InPlace
from tick_gateway.history.local.store import Store
from tick_gateway.history.memory import MemoryAlone
from tick_gateway.settings import Settings

Opened = Callable[[], HistoryEngine]


def given(kind: type[HistoryEngine], folder: Path) -> tuple[Settings, Path | None]:
    """What makes a gateway choose an engine."""
    data, followed = folder / "data", folder / "followed"
    followed.mkdir(exist_ok=True)
    return {
        Store: (Settings(data=str(data)), None),
        InPlace: (Settings(), followed),
        MemoryAlone: (Settings(), None),
    }[kind]


@pytest.fixture(params=ENGINES, ids=lambda kind: kind.__name__)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens the same history, of one engine, with a bus of its own each time."""

    def opened() -> HistoryEngine:
        settings, followed = given(request.param, tmp_path)
        return open_history(settings, TickBus(), followed=followed)

    return opened


@pytest.mark.parametrize("kind", ENGINES, ids=lambda kind: kind.__name__)
def test_an_engine_is_chosen_by_what_is_given(kind: type[HistoryEngine], tmp_path: Path) -> None:
    settings, followed = given(kind, tmp_path)
    assert [engine for engine in ENGINES if engine.fits(settings, followed)] == [kind]
    engine = open_history(settings, TickBus(), followed=followed)
    assert type(engine) is kind
    engine.close()


def test_what_is_followed_is_brought_into_a_history_where_there_is_one(tmp_path: Path) -> None:
    engine = open_history(Settings(data=str(tmp_path / "data")), TickBus(), followed=tmp_path)
    assert isinstance(engine, Store)
    engine.close()


def test_what_was_published_can_be_read_once_it_is_settled(opened: Opened) -> None:
    """Whatever the engine: shown to readers, stored or not as it says, and nothing is taken twice."""
    news: list[int] = []

    async def life() -> None:
        engine = opened()
        bus = engine.bus
        bus.attach(lambda: None)
        engine.start(lambda: news.append(bus.tip.t if bus.tip is not None else -1))
        assert engine.idle
        before = engine.mark()
        for t in range(3):
            bus.offer(t, line_of(t), "A")
        assert await engine.settled(before) is engine.writes
        assert bus.tip is not None and (bus.tip.run, bus.tip.t) == ("A", 2)
        stored = engine.archive.stored
        assert (stored is not None and stored.t == 2) is engine.writes
        bus.offer(3, line_of(3), "A")
        await engine.drain(5.0)
        bus.collect()
        assert bus.tip.t == 3, "what is left is shown before it ends"
        assert engine.idle and engine.status().writing is engine.writes
        engine.close()

    asyncio.run(life())
    assert news == sorted(news)


def test_what_an_engine_stored_is_there_again(opened: Opened) -> None:
    async def life() -> None:
        engine = opened()
        engine.start(lambda: None)
        engine.bus.offer(1, line_of(1), "A")
        await engine.settled()
        await engine.drain(5.0)
        engine.close()

    asyncio.run(life())
    again = opened()
    assert ("A" in again.bus.runs) is again.writes
    again.close()


def test_what_lies_in_a_directory_is_there_from_the_start(tmp_path: Path) -> None:
    settings, followed = given(InPlace, tmp_path)
    assert followed is not None
    with Writer(followed / "a.jsonl") as writer:
        writer.write(*(line_of(t) for t in range(5)))
    told: list[tuple[int, int]] = []
    engine = open_history(settings, TickBus(), followed=followed, progress=lambda done, of: told.append((done, of)))
    (run,) = engine.bus.runs.values()
    assert (run.tip, engine.archive.first(run)) == (4, 0)
    assert told[-1][0] == told[-1][1] > 0
    engine.close()


def test_every_engine_says_where_ticks_are(opened: Opened) -> None:
    engine = opened()
    status = engine.status()
    assert status.history and not status.degraded and not status.unstored
    assert engine.describe()
    engine.release()
    engine.close()


def test_a_directory_is_kept_by_one(tmp_path: Path) -> None:
    settings, _ = given(Store, tmp_path)
    engine = open_history(settings, TickBus())
    assert engine.holds(str(settings.data)) and not engine.holds(str(tmp_path))
    with pytest.raises(Locked):
        open_history(settings, TickBus())
    engine.close()
    open_history(settings, TickBus()).close()


class Remote(HistoryEngine):
    """One that keeps ticks at an address; a file and a line are all that it takes."""

    writes = True

    def __init__(self, bus: TickBus) -> None:
        super().__init__(bus, Archive())
        self.calls: list[str] = []
        self.kept = 0
        self._shown: Callable[[], None] = lambda: None

    @classmethod
    def fits(cls, settings: Settings, followed: Path | None) -> bool:
        return str(settings.data).startswith("remote://")

    @classmethod
    def open(cls, settings: Settings, followed: Path | None, bus: TickBus, progress: Progress | None) -> Self:
        return cls(bus)

    def start(self, shown: Callable[[], None]) -> None:
        self.calls.append("start")
        self._shown = shown
        self.bus.divert(self._take)

    def _take(self, batches: list[Batch], ended: list[Run]) -> None:
        self.kept += sum(len(batch.ticks) for batch in batches)
        self.bus.show(batches)
        self._shown()

    async def settled(self, since: int = 0) -> bool:
        self.bus.collect()
        return True

    async def drain(self, seconds: float) -> None:
        self.calls.append("drain")
        self.bus.collect()

    def close(self) -> None:
        self.calls.append("close")

    def status(self) -> EngineStatus:
        return EngineStatus("far away", details={"servers": 3}, writing=True, bytes=7 * self.kept)

    def describe(self) -> str:
        return "every tick is kept far away"


async def test_another_engine_is_a_class_and_a_line(monkeypatch: pytest.MonkeyPatch, open_harness: OpenHarness) -> None:
    monkeypatch.setattr(history, "ENGINES", (Remote, *ENGINES))
    harness = await open_harness(data="remote://there")
    engine = harness.runtime.history
    assert isinstance(engine, Remote)
    reader = await harness.read("sse", from_t="A:-1")
    assert (await post(harness.port, [line_of(t) for t in range(3)], "A"))["stored"]
    await reader.until(2)
    health = await harness.json("/healthz")
    assert (health["status"], health["history"], health["servers"]) == ("ok", "far away", 3)
    assert await metric(harness.port, "tick_gateway_history_bytes") == 21
    assert await metric(harness.port, "tick_gateway_history_ok") == 1
    await harness.stop()
    assert engine.calls == ["start", "drain", "close"] and engine.kept == 3
