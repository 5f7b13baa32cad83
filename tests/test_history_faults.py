"""History under faults, with readers of every transport attached throughout.

In each: live goes on, /healthz and /metrics say what is wrong, what is missing from history is told as a gap, and
writing starts again by itself. Nothing is logged with a traceback.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import history_files
from tests.clients import CLIENTS, PATIENCE, Crowd, ask, metric, post, range_of, reader
from tests.conformance.events import Gap, Ledger, notices
from tests.conformance.house import House, tick
from tests.faulty_disk import Disk
from tick_gateway.history import keeper

RUN = "A"
RING = 40
SMALL = {"ring": RING, "block_bytes": 1024, "segment_bytes": 4096, "fsync": "never"}


class Scene:
    """A gateway, the readers that are attached to it, and what was published.

    Ticks are numbered in steps of five: what looks like a hole to who counts by one is none.
    """

    def __init__(self, port: int, directory: Path) -> None:
        self.port = port
        self.directory = directory
        self.crowd = Crowd(port, RUN)
        self.ledger = Ledger()
        self.unstored: list[int] = []  # of which the gateway said that they are not stored
        self._next = 3

    async def publish(self, count: int) -> bool:
        """POST so many ticks, and wait until all have them; returns whether they are stored, as the gateway says."""
        numbers = [self._next + 5 * i for i in range(count)]
        self._next = numbers[-1] + 5
        for t in numbers:
            self.ledger.note(RUN, t, tick(RUN, t))
        answer = await post(self.port, (tick(RUN, t) for t in numbers), RUN)
        assert (answer["accepted"], answer["tip"]) == (count, numbers[-1]), answer
        if not answer["stored"]:
            self.unstored += numbers
        if self.crowd.up.is_set():
            await self.crowd.reach(numbers[-1])
        return bool(answer["stored"])

    async def until_stored(self) -> None:
        """Publish until ticks are stored again."""
        async with asyncio.timeout(PATIENCE):
            while not await self.publish(1):
                continue
        await self.health("ok")

    async def health(self, status: str, *words: str) -> dict[str, Any]:
        health: dict[str, Any] = await ask(self.port, "/healthz")
        told = f"{health['history']} {health['damage']}"
        assert health["status"] == status and all(word in told for word in words), health
        ok = await metric(self.port, "tick_gateway_history_ok")
        assert ok == (health["history"] == "ok"), health
        return health

    async def forget(self) -> None:
        """Publish until memory has nothing of what was before."""
        assert await self.publish(2 * RING)

    async def read(self) -> None:
        """Read everything again on every transport: what is missing is told, and nothing else is."""
        have, told = await range_of(self.port, RUN)
        missing = gaps(self.ledger.numbers[RUN], {t_of(line) for line in have})
        header = ", ".join(f"after={gap.after};next={gap.next}" for gap in missing)
        assert (told or "") == header
        for name in CLIENTS:
            one = await reader(name, self.port, from_t=f"{RUN}:-1").connect()
            events = await one.until(self.ledger.tip[1])
            self.ledger.check(events, after=(RUN, -1))
            assert notices(events) == missing, name
            one.close()

    def missing(self, have: Iterable[bytes]) -> list[int]:
        found = {t_of(line) for line in have}
        return [t for t in self.ledger.numbers[RUN] if t not in found]


def t_of(line: bytes) -> int:
    return int(line.removeprefix(b'{"t":').partition(b",")[0])


def gaps(published: list[int], have: set[int]) -> list[Gap]:
    """The gaps that somebody is told who reads from before the first tick."""
    found: list[Gap] = []
    after, told = -1, True
    for t in published:
        if t in have:
            if not told:
                found.append(Gap(RUN, after, t))
            after, told = t, True
        else:
            told = False
    assert told, "the newest ticks are in memory"
    return found


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterable[None]:
    caplog.set_level(logging.INFO)
    yield
    assert not [record.getMessage() for record in caplog.records if record.exc_info]


@asynccontextmanager
async def scene(directory: Path, **settings: Any) -> AsyncIterator[Scene]:
    """A gateway in this process, with readers."""
    async with House(data=str(directory), **SMALL | settings) as house:
        found = Scene(house.port, directory)
        await found.publish(1)
        async with found.crowd:
            yield found
            found.crowd.check(found.ledger)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Disk:
    return Disk(monkeypatch, tmp_path)


def told(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in record.getMessage() for record in caplog.records)


# ---- the disk takes nothing ----


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES])
async def test_a_disk_that_takes_nothing(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: int
) -> None:
    monkeypatch.setattr(keeper, "RETRY_SECONDS", 0.05)
    async with scene(tmp_path / "history") as s:
        assert await s.publish(90)
        disk.break_(error)
        for _ in range(3):
            assert not await s.publish(20)
        health = await s.health("degraded", "failing", os.strerror(error))
        assert health["unstored"] == len(s.unstored) == 60
        async with asyncio.timeout(PATIENCE):  # it is tried again and again, and what was stored survives that
            failed = disk.failed
            while disk.failed < failed + 5:
                await s.publish(1)
        assert await metric(s.port, "tick_gateway_history_unstored_total") == len(s.unstored)
        disk.mend()
        await s.until_stored()
        await s.forget()
        have, _ = await range_of(s.port, RUN)
        assert s.missing(have) == s.unstored
        await s.read()
        assert told(caplog, "live goes on without it") == told(caplog, "history is written again") == 1
    have = history_files.lines(s.directory, RUN)
    assert s.missing(have) == s.unstored
    history_files.whole(*history_files.segments(s.directory, RUN))
