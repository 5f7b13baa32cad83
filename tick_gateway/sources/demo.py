"""The built-in flocking simulation as a source, for a first look and for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ..runtime import Runtime

DEMO: Final = (
    "runs a simulation of its own (demo) and takes no other ticks: they would come to lie between its own; publish to "
    "one without a simulation (tick-gateway serve)"
)


def demo_source(*, rate: float, agents: int, size: int, seed: int) -> Callable[[Runtime], Awaitable[None]]:
    """A source that publishes ``rate`` ticks per second of ``agents`` boids, padded to ``size`` bytes."""

    async def source(runtime: Runtime) -> None:
        from .flock import Flock, padded

        flock = Flock(agents=agents, seed=seed)
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            record = flock.step()
            runtime.bus.publish(padded(record, size) if size else record)
            due = max(due + 1 / rate, loop.time() - 1.0)  # after a stall, catch up at most a second
            await asyncio.sleep(max(due - loop.time(), 0))

    return source
