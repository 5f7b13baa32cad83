"""Gateways with ticks in every place that a read may meet, and what a model of them knows."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from tests.simulation.reads_model import Run, Tick, World
from tests.support.harness import Harness
from tick_gateway.errors import InboxFull

PLACES: Final[dict[str, dict[str, Any]]] = {
    "memory": {},
    "evicted": {"ring": 60},
    "dropped": {"inbox": 4},
    "open block": {"ring": 2, "block_bytes": 1 << 24},
    "closed blocks": {"ring": 2, "block_bytes": 1024, "segment_bytes": 6000},
    "large blocks": {"ring": 20, "block_bytes": 500_000},
    "memory and disk": {"ring": 50, "block_bytes": 2000, "segment_bytes": 12_000},
    "restarted": {"ring": 40, "block_bytes": 1024, "segment_bytes": 6000},
    "deleted": {"ring": 2, "block_bytes": 1024, "segment_bytes": 2500},
}
"""Where ticks lie, by the settings that bring them there; those with blocks keep history."""

START: Final = 1_800_000_000_000  # 2027-01-15T08:00:00Z


class Place:
    """A gateway under a clock that stands still, and the model of what was published to it."""

    def __init__(self, name: str, seed: int, directory: Path) -> None:
        self.name = name
        self.settings = dict(PLACES[name])
        if "block_bytes" in self.settings:
            self.settings |= {"data": str(directory), "fsync": "never"}
        self.random = Random(f"{name} {seed}")
        self.world = World()
        self.harness = self._new_house()
        self.ms = START
        self.size = 2500 if name == "large blocks" else 0

    def clock(self) -> SimpleNamespace:
        """What stands for the module ``time`` in the bus."""
        return SimpleNamespace(
            time=lambda: self.ms / 1000, time_ns=lambda: self.ms * 1_000_000, strftime=time.strftime,
            gmtime=time.gmtime, monotonic=time.monotonic,
        )  # fmt: skip

    async def fill(self) -> None:
        """Publish some runs."""
        random = self.random
        for number in range(random.randint(1, 4)):
            run = self.world.runs[f"r{number}"] = Run(f"r{number}")
            if number:
                list(self.world.runs.values())[-2].over = True
            await self._publish(run, random.choice((1, 7, 40, 90, 200)), random.choice((0, 0, 1, 17)))
        if random.random() < 0.5:
            self.harness.runtime.bus.end_run(run.id)
            run.over = True
            await self.harness.settle()

    async def _publish(self, run: Run, count: int, t: int) -> None:
        random, step = self.random, self.random.choice((1, 1, 3, 0))
        left = count
        while left > 0:
            some = min(random.choice((1, 3, 20, 60)), left)
            left -= some
            dropping = self.name == "dropped" and random.random() < 0.3 and bool(run.ticks)
            ticks: list[Tick] = []
            for _ in range(some):
                ticks.append(Tick(t, tick_of(random, t, self.size), self.ms))
                t += 1 if dropping else step or random.randint(1, 9)
            self._hand_over(run, ticks, drop=dropping)
            await self.harness.settle()
            if run.ticks[-1].dropped:  # those behind would tell that a hole is a gap
                t = run.ticks[-1].t + 1
            self.ms += random.choice((0, 1, 400, 70_000))

    def _hand_over(self, run: Run, ticks: list[Tick], *, drop: bool) -> None:
        def publish() -> None:
            for tick in ticks:
                try:
                    self.harness.gateway.publish(tick.data, run=run.id)
                except InboxFull:
                    tick.gone = tick.dropped = True

        run.ticks += ticks
        if drop:  # the loop stands still meanwhile, so that nobody makes room
            thread = threading.Thread(target=publish)
            thread.start()
            thread.join()
        else:
            publish()

    def _new_house(self) -> Harness:
        harness = Harness(**self.settings)
        harness.wait_beyond_tip(0.01)
        return harness

    async def restart(self) -> None:
        """Shut the gateway down, take a file away where the place is so named, and begin anew."""
        taken = await self._chosen() if self.name == "deleted" else []
        await self.harness.stop()
        for path in taken:
            path.unlink()
        self.harness = self._new_house()
        await self.harness.__aenter__()
        if self.random.random() < 0.7 and not self.world.newest.over:
            await self._publish(self.world.newest, 30, self.world.newest.ticks[-1].t + 1)

    async def _chosen(self) -> list[Path]:
        """Some files that are not the last of their runs, whose ticks are gone from now on."""
        listed = (await self.harness.json("/segments"))["segments"]
        found: list[Path] = []
        for run in self.world.runs.values():
            mine = [one for one in listed if one["run"] == run.id and one["sealed"]][:-1]
            for one in self.random.sample(mine, self.random.randint(0, min(2, len(mine)))):
                found.append(Path(self.settings["data"]) / run.id / one["name"])
                for tick in run.ticks:
                    tick.gone = tick.gone or one["first"] <= tick.t <= one["last"]
        return found

    def forget(self) -> None:
        """Mark what memory alone held and holds no more."""
        if "data" not in self.settings and "ring" in self.settings:
            ticks = [tick for run in self.world.runs.values() for tick in run.ticks if not tick.dropped]
            for tick in ticks[: -self.settings["ring"]]:
                tick.gone = True


@asynccontextmanager
async def place(name: str, seed: int, directory: Path) -> AsyncIterator[Place]:
    """A gateway with ticks in it."""
    found = Place(name, seed, directory)
    with (
        patch("tick_gateway.bus.tick_bus.time", found.clock()),
        patch("tick_gateway.history.local.commit_pipeline.LAG_SECONDS", 30.0),  # a machine that is busy is no slow disk
        patch("tick_gateway.server.body_index._BETWEEN", 700),
        patch("tick_gateway.server.body_index._SEEK_POINTS", 9),
        patch("tick_gateway.history.block_index._PAGE", 3),
        patch("tick_gateway.history.block_index._PAGES", 4),
    ):
        await found.harness.__aenter__()
        try:
            await found.fill()
            if name in ("restarted", "deleted"):
                await found.restart()
            found.forget()
            yield found
        finally:
            await found.harness.__aexit__()


def tick_of(random: Random, t: int, size: int) -> bytes:
    """A tick of some shape, with white space that no re-encoding would leave."""
    agents: list[Any] = [
        {"id": number, "x": random.randint(-99, 99) / 4, "pos": {"lat": number, "lon": -1.5}}
        for number in range(random.randint(0, 2))
    ]
    if random.random() < 0.2:
        agents.append(7)
    record = {"x": t / 2, "agents": agents, "s": "é/\\", "none": None} | ({"pad": "p" * size} if size else {})
    return b'{"t" :%d, %s' % (t, json.dumps(record).encode()[1:])
