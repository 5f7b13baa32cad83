"""A gateway with history in this process: two runs, of which memory has the end of the second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.clients import post
from tests.support.events import Ledger
from tests.support.house import House
from tests.support.made_history import tick_of, write
from tests.support.raw import Response

STEP = 5  # what looks like a hole to who counts by one is none
A, B = range(3, 3 + 200 * STEP, STEP), range(0, 150 * STEP, STEP)
RING = 20
SMALL: dict[str, Any] = {"ring": RING, "block_bytes": 1024, "segment_bytes": 4096, "fsync": "never"}
STREAMS = ("websocket", "sse", "ndjson", "ndjson-zstd")


class Served:
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
async def opened(directory: Path, ledger: Ledger, **settings: Any) -> AsyncIterator[Served]:
    own: dict[str, Any] = {
        "data": str(directory),
        "ring": RING,
        "block_bytes": 1024,
        "segment_bytes": 4096,
        "fsync": "never",
    }
    async with House(**own | settings) as house:
        yield Served(house, ledger)


async def turns() -> None:
    """Let everything happen that can without the disk."""
    for _ in range(50):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def made(directory: Path) -> AsyncIterator[Served]:
    """A gateway on two runs that were stored before it, and some ticks that are stored by itself."""
    async with opened(directory, write(directory, {"A": A, "B": B})) as found:
        await found.publish(30)
        yield found
