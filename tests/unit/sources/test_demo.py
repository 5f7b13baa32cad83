"""The demo's pace by a clock in the test's hand, and its ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import orjson
import pytest

from tick_gateway.settings import Settings
from tick_gateway.sources.boids import Flock
from tick_gateway.sources.demo import Demo


class Stop(Exception):
    """The test has seen enough."""


class Clock:
    """The loop's time: it moves while the demo sleeps, and where the machine is busy."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.end = 0.0
        self.stall: Callable[[], None] = lambda: None
        loop = SimpleNamespace(time=lambda: self.now)
        patch.setattr(
            "tick_gateway.sources.demo.asyncio", SimpleNamespace(get_running_loop=lambda: loop, sleep=self.sleep)
        )

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds
        self.stall()
        if self.now >= self.end:
            raise Stop


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def fly(clock: Clock, seconds: float, *, rate: float, size: int = 0, seed: int = 1) -> list[tuple[float, bytes]]:
    """What it publishes in so many seconds, and when."""
    clock.end = clock.now + seconds - 1e-6
    runtime = SimpleNamespace(bus=SimpleNamespace(publish=lambda record: found.append((clock.now, _line(record)))))
    found: list[tuple[float, bytes]] = []
    task = Demo(Settings(), rate=rate, agents=3, size=size, seed=seed)
    with pytest.raises(Stop):
        asyncio.run(task.run(runtime))  # type: ignore[arg-type]
    assert task.over
    return found


def _line(record: object) -> bytes:
    return record if isinstance(record, bytes) else orjson.dumps(record)


@pytest.mark.parametrize("rate", [0.5, 20.0, 1000.0])
def test_so_many_ticks_a_second(clock: Clock, rate: float) -> None:
    times = [at for at, _ in fly(clock, 10, rate=rate)]
    assert times == pytest.approx([1000.0 + number / rate for number in range(round(10 * rate))])


def test_after_a_stall_it_catches_up_by_at_most_a_second(clock: Clock) -> None:
    def stall() -> None:
        if clock.now == pytest.approx(1002.0) and not stalled:
            stalled.append(clock.now)
            clock.now += 60.0

    stalled: list[float] = []
    clock.stall = stall
    times = [at for at, _ in fly(clock, 70, rate=10)]
    burst = [at for at in times if at == pytest.approx(1062.0)]
    assert stalled and 10 <= len(burst) <= 12
    assert [at for at in times if at > 1062.05] == pytest.approx([1062.1 + n / 10 for n in range(79)], abs=0.11)


def test_its_ticks_are_the_flock_s(clock: Clock) -> None:
    flock = Flock(agents=3, seed=5)
    expected = [orjson.dumps(flock.step()) for _ in range(5)]
    assert [data for _, data in fly(clock, 0.5, rate=10, seed=5)] == expected
    other = [data for _, data in fly(clock, 0.5, rate=10, seed=6)]
    assert other != expected


@pytest.mark.parametrize("size", [600, 5000])
def test_padded_ticks(clock: Clock, size: int) -> None:
    assert {len(data) for _, data in fly(clock, 0.5, rate=10, size=size)} == {size}
