"""The built-in flocking simulation as a source, for a first try and for tests."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

import click

from ..runtime import Runtime
from ..settings import Settings
from .base import Source, SourceTask


class Demo(SourceTask):
    """Publishes ``rate`` ticks per second of ``agents`` boids, padded to ``size`` bytes."""

    alone: ClassVar[str] = (
        "runs a simulation of its own (demo) and takes no other ticks: they would come to lie between its own; publish "
        "to one without a simulation (tick-gateway serve)"
    )

    def __init__(self, settings: Settings, *, rate: float, agents: int, size: int, seed: int) -> None:
        super().__init__()
        self._rate, self._agents, self._size, self._seed = rate, agents, size, seed

    async def publish(self, runtime: Runtime) -> None:
        """See ``SourceTask.publish``; without end."""
        from .boids import Flock, padded

        flock = Flock(agents=self._agents, seed=self._seed)
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            record = flock.step()
            runtime.bus.publish(padded(record, self._size) if self._size else record)
            due = max(due + 1 / self._rate, loop.time() - 1.0)  # after a stall, catch up by at most a second
            await asyncio.sleep(max(due - loop.time(), 0))


SOURCE: Final = Source(
    "demo",
    command="demo",
    options=(
        click.Option(
            ["--rate"], type=click.FloatRange(0.01, 10_000), default=20.0, show_default=True, help="ticks per second"
        ),
        click.Option(
            ["--agents"], type=click.IntRange(1, 10_000), default=50, show_default=True, help="how many boids fly"
        ),
        click.Option(
            ["--bytes", "size"],
            type=click.IntRange(0, 1 << 22),
            default=0,
            show_default=True,
            help="pad ticks to so many bytes",
        ),
        click.Option(["--seed"], type=int, default=1, show_default=True, help="the same seed, the same flight"),
    ),
    make=Demo,
)
