"""Histories that were not published but written: ticks with receive times of the test's choice.

``made`` serves one in this process: two runs, of which memory has the end of the second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.support.async_client import Response
from tests.support.events import Ledger
from tests.support.harness import Harness, tick
from tests.support.requests import post
from tick_gateway.bus.ring import Batch, Run
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.model.tick import PublishedTick

BEGAN = 1_700_000_000_000
"""When the first tick of a made history was received, ms since the epoch: 2023-11-14T22:13:20Z."""


def tick_of(run: str, t: int) -> bytes:
    """A tick of which no re-encoding would leave the bytes as they are, and compression leaves something."""
    return tick(run, t)[:-1] + f',"pad":"{sha256(b"%d" % t).hexdigest()}"}}'.encode()


def write(
    directory: Path,
    runs: Mapping[str, Iterable[int]],
    *,
    step_ms: int = 10,
    together: int = 5,
    block_bytes: int = 1024,
    segment_bytes: int = 4096,
) -> Ledger:
    """Write runs of these numbers, one after another; the last one is not over.

    Args:
        step_ms: what lies between two receive times.
        together: ticks that are written at once.
    """
    ledger = Ledger()
    recorder = Recorder(directory, Limits(block_bytes=block_bytes, segment_bytes=segment_bytes, fsync="never"))
    at = BEGAN
    for seq, (name, numbers) in enumerate(runs.items()):
        ts = list(numbers)
        run = Run(name, seq, ts[0], at)
        for begin in range(0, len(ts), together):
            some = [
                PublishedTick(t, tick_of(name, t), at + step_ms * i) for i, t in enumerate(ts[begin : begin + together])
            ]
            at += step_ms * len(some)
            recorder.write([Batch(run, some, sum(len(one.data) for one in some), False, begin)])
            for one in some:
                ledger.note(name, one.t, one.data)
        if name != list(runs)[-1]:
            run.tip = ts[-1]
            recorder.end(run)
    recorder.close()
    return ledger


# ---- and a gateway on one ----

STEP = 5  # what looks like a hole to who counts by one is none
A, B = range(3, 3 + 200 * STEP, STEP), range(0, 150 * STEP, STEP)
RING = 20
SMALL: dict[str, Any] = {"ring": RING, "block_bytes": 1024, "segment_bytes": 4096, "fsync": "never"}


class Served:
    """A gateway on a history of two runs, A and B, of which memory has the last of B."""

    def __init__(self, harness: Harness, ledger: Ledger) -> None:
        self.harness = harness
        self.port = harness.port
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
        return await self.harness.get(target, **headers)

    def lines(self, run: str, low: int = 0, high: int = 1 << 60) -> list[bytes]:
        return [data for t, data in self.ledger.runs[run].items() if low <= t <= high]


@contextlib.asynccontextmanager
async def opened(directory: Path, ledger: Ledger, **settings: Any) -> AsyncIterator[Served]:
    async with Harness(**{"data": str(directory)} | SMALL | settings) as harness:
        yield Served(harness, ledger)


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
