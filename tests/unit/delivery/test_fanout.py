"""When flushes come: at once after a quiet time, then at a pace that what they cost decides; and what a long round
leaves to others. On a clock and a loop that are moved by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.delivery.encoder import Variant
from tick_gateway.delivery.fanout import FanOut
from tick_gateway.delivery.flush import FlushPolicy
from tick_gateway.delivery.patience import Patience
from tick_gateway.delivery.session import Session
from tick_gateway.model.query import Query
from tick_gateway.model.view import View
from tick_gateway.reading.cursor import Cursor
from tick_gateway.reading.feed import Feed
from tick_gateway.wire.ndjson import NDJSONFraming

from ...simulation.loop import Clock, SteppedLoop
from ...simulation.wire import Wire

MS = 0.001
POLICY = FlushPolicy(25 * MS)
NEWEST = Cursor.of(Query(tail=0))


class Costly(Clock):
    """A clock on which each write to a reader takes time."""

    each = 0.0


class Costs(Wire):
    """A reader whose writes take the time that the clock says."""

    written: list[float]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        assert isinstance(self.loop.clock, Costly)
        self.loop.clock.now += self.loop.clock.each
        self.written.append(self.loop.clock.now)


class Scene:
    """A gateway below HTTP, with so many readers at the tip."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Costly()
        for module in ("bus.tick_bus", "delivery.fanout", "delivery.session"):
            monkeypatch.setattr(f"tick_gateway.{module}.time", self.clock)
        self.loop = SteppedLoop(self.clock)
        self.bus = TickBus()
        self.feed = Feed(self.bus)
        self.t = 0

    def begin(self, readers: int, policy: FlushPolicy = POLICY) -> None:
        self.fanout = FanOut(self.bus, self.feed, policy, Patience())
        self.loop.call_soon(self.fanout.start)
        self.loop.turn()
        self.publish()
        self.loop.settle()
        self.written: list[float] = []
        for _ in range(readers):
            session = Session(self.fanout, Variant(NDJSONFraming(False), View()), Query(tail=0), NEWEST)
            wire = Costs(self.loop, session)
            wire.written = self.written
            session.connection_made(wire)
        self.loop.advance(1.0)
        self.clock.now = round(self.clock.now)  # so that times below can be read

    def publish(self) -> None:
        self.bus.offer(self.t, b'{"t":%d}' % self.t)
        self.t += 1

    def stream(self, seconds: float, every: float = 1 * MS) -> list[float]:
        """Publish a tick every so often; returns when each flush wrote its last byte."""
        flushes: list[float] = []
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.publish()
            before = self.fanout.flushes
            self.loop.advance(every)
            if self.fanout.flushes > before:
                flushes.append(self.clock.now)
        return flushes


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(monkeypatch)
    yield scene
    scene.loop.close()


def test_the_first_tick_after_a_quiet_time_goes_out_at_once(scene: Scene) -> None:
    scene.begin(readers=3)
    for _ in range(5):
        scene.publish()
        now = scene.clock.now
        scene.loop.settle()
        assert scene.written[-3:] == [now] * 3
        scene.loop.advance(1.0)


def test_a_small_gateway_flushes_often(scene: Scene) -> None:
    scene.begin(readers=3)
    assert len(scene.stream(1.0)) == pytest.approx(200, abs=2), "every 5 ms"
    assert len(scene.written) <= 3 * 202


def test_the_interval_grows_with_what_a_round_costs(scene: Scene) -> None:
    """1 ms a round: 20 ms between two; 5 ms: no longer than flush_interval; 40 ms: 72, nearly half of it for others."""
    scene.begin(readers=10)
    found = []
    for each in (0.1, 0.5, 4.0):
        scene.clock.each = each * MS
        scene.stream(1.0)
        found.append(len(scene.stream(2.0)) / 2)
    assert found[0] == pytest.approx(50, abs=3)
    assert found[1] == pytest.approx(40, abs=3)
    assert found[2] == pytest.approx(1 / 0.072, abs=2)
    scene.clock.each = 0.0
    scene.stream(1.0)
    assert len(scene.stream(1.0)) >= 180, "and shrinks again"


@pytest.mark.parametrize(("each", "length"), [(0.0, 10), (0.1, 10), (0.5, 10), (0.1, 40)])
def test_a_fixed_interval_is_kept_to(scene: Scene, each: float, length: int) -> None:
    scene.begin(readers=10, policy=FlushPolicy(length * MS, fixed=True))
    scene.clock.each = each * MS
    scene.stream(1.0)
    assert len(scene.stream(2.0)) / 2 == pytest.approx(1000 / length, rel=0.1)


def test_a_fixed_interval_of_nothing_flushes_each_tick(scene: Scene) -> None:
    scene.begin(readers=2, policy=FlushPolicy(0.0, fixed=True))
    assert len(scene.stream(0.5)) == pytest.approx(500, abs=1)


def test_a_long_round_gives_way(scene: Scene) -> None:
    """Between two turns of the loop, a slice: accepts, pings and pulls wait for no more than that."""
    scene.begin(readers=200, policy=replace(POLICY, slice_sessions=16))
    scene.clock.each = 0.1 * MS
    scene.publish()
    most, turns = 0, 0
    while len(scene.written) < 200:
        before = len(scene.written)
        scene.loop.turn()
        most, turns = max(most, len(scene.written) - before), turns + 1
        assert turns < 1000
    assert most == 16


def test_who_catches_up_gives_way(scene: Scene) -> None:
    """Two milliseconds' worth of reading on, and then others have their turn."""
    scene.begin(readers=0)
    for _ in range(50):
        scene.publish()
    scene.loop.advance(1.0)
    scene.clock.each = 0.5 * MS
    query = Query(tail=50)
    for _ in range(40):
        session = Session(scene.fanout, Variant(NDJSONFraming(False), View()), query, Cursor.of(query))
        wire = Costs(scene.loop, session)
        wire.written = scene.written
        session.connection_made(wire)
    turns = 0
    while len(scene.written) < 40:
        before, turns = scene.clock.now, turns + 1
        scene.loop.turn()
        assert scene.clock.now - before <= 3 * MS
        assert turns < 1000
    assert turns >= 10


def test_many_views_give_way(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each projection takes a millisecond: between two turns of the loop, three of them and the one that was begun."""

    def project(data: bytes, fields: tuple[str, ...]) -> bytes:
        scene.clock.now += 1 * MS
        return data

    scene.begin(readers=0)
    monkeypatch.setattr("tick_gateway.model.view.project", project)
    for number in range(50):
        session = Session(scene.fanout, Variant(NDJSONFraming(False), View((f"m{number}",))), Query(tail=0), NEWEST)
        wire = Costs(scene.loop, session)
        wire.written = scene.written
        session.connection_made(wire)
    scene.loop.advance(1.0)
    scene.written.clear()
    scene.publish()
    for _ in range(100):
        before = scene.clock.now
        scene.loop.turn()
        assert scene.clock.now - before <= 4.5 * MS
    assert len(scene.written) == 50 and scene.fanout.encoder.projections == 50
