"""History under faults, with readers of every transport attached throughout.

In each: live goes on, /healthz and /metrics say what is wrong, what is missing from history is told as a gap, and
writing starts again by itself. Nothing is logged with a traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests import history_files, needs
from tests.clients import CLIENTS, PATIENCE, Crowd, ask, metric, post, range_of, reader
from tests.conformance.events import Gap, Ledger, notices, ticks
from tests.conformance.house import House, tick
from tests.conformance.raw import request
from tests.faulty_disk import Disk
from tests.lives import Lives
from tests.process import Running
from tick_gateway.history import keeper, retention
from tick_gateway.history.archive import Archive
from tick_gateway.history.shelf import Block, Entry
from tick_gateway.history.stored import StoredRun
from tick_gateway.history.volume import Segment

RUN = "A"
RING = 40
PORTION = 5  # ticks that are published at once: no block is smaller
SMALL: dict[str, Any] = {"ring": RING, "block_bytes": 1024, "segment_bytes": 1024, "fsync": "never"}


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
        """POST so many ticks, some at once, and wait until all have them; returns whether they are stored, as the
        gateway says."""
        numbers = [self._next + 5 * i for i in range(count)]
        self._next = numbers[-1] + 5
        stored = True
        for t in numbers:
            self.ledger.note(RUN, t, tick_of(t))
        for some in (numbers[at : at + PORTION] for at in range(0, count, PORTION)):
            answer = await post(self.port, map(tick_of, some), RUN)
            assert (answer["accepted"], answer["tip"]) == (len(some), some[-1]), answer
            if not answer["stored"]:
                self.unstored += some
                stored = False
        if self.crowd.up.is_set():
            await self.crowd.reach(numbers[-1])
        return stored

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

    async def until_told(self) -> int:
        """Read everything until what cannot be read is known; returns how many answers broke off until then."""
        broken = 0
        async with asyncio.timeout(PATIENCE):
            while True:
                response = await request(self.port, f"/range?run={RUN}")
                assert response.status == 200
                try:
                    await response.read()
                except (EOFError, OSError):
                    broken += 1
                else:
                    return broken

    async def restart(self, gateway: Lives | Rooms) -> None:
        """End the gateway (a process by ``kill -9``), and start the next one."""
        async with self.away(gateway):
            pass

    @asynccontextmanager
    async def away(self, gateway: Lives | Rooms) -> AsyncIterator[None]:
        """The same; the next one is started behind what is done meanwhile."""
        self.crowd.up.clear()
        await (gateway.leave() if isinstance(gateway, Rooms) else gateway.kill())
        await self.crowd.away()
        yield
        await gateway.start()
        self.crowd.up.set()

    async def forget(self) -> None:
        """Publish until memory has nothing of what was before."""
        assert await self.publish(2 * RING)

    async def read(self) -> None:
        """Read everything again on every transport: what is missing is told, and nothing else is."""
        have, told = await range_of(self.port, RUN, t0=0)
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


def tick_of(t: int) -> bytes:
    """A tick of which compression leaves something."""
    return tick(RUN, t)[:-1] + f',"pad":"{sha256(b"%d" % t).hexdigest()}"}}'.encode()


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
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other things is no slow disk."""
    monkeypatch.setattr(keeper, "LAG_SECONDS", 30.0)


@pytest.fixture(autouse=True)
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterable[None]:
    caplog.set_level(logging.INFO)
    yield
    assert not [record.getMessage() for record in caplog.records if record.exc_info]


class Rooms:
    """Gateways in this process, one after another, on one port and directory; what ``Lives`` are of processes, but
    that each ends well."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        self._settings = {"data": str(directory)} | SMALL | settings
        self._house: House | None = None
        self.port = 0

    async def start(self) -> None:
        house = self._house = House(**self._settings, port=self.port)
        await house.__aenter__()
        self.port = house.port

    async def leave(self) -> None:
        assert self._house is not None
        await self._house.stop()

    async def __aenter__(self) -> Rooms:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._house is not None:
            await self._house.__aexit__()


@asynccontextmanager
async def scene(directory: Path, **settings: Any) -> AsyncIterator[tuple[Scene, Rooms]]:
    """A gateway in this process, with readers."""
    async with Rooms(directory, settings) as rooms:
        found = Scene(rooms.port, directory)
        await found.publish(1)
        async with found.crowd:
            yield found, rooms
            found.crowd.check(found.ledger)


@asynccontextmanager
async def lives(directory: Path) -> AsyncIterator[tuple[Scene, Lives]]:
    """A gateway in a process of its own, with readers."""
    options = [text for name, value in SMALL.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    async with Lives(directory, *options, module="tests.load.patient") as gateway:
        found = Scene(gateway.port, directory)
        await found.publish(1)
        async with found.crowd:
            yield found, gateway
            found.crowd.check(found.ledger)


async def refused(directory: Path, words: str) -> None:
    """A gateway on this directory says these words in one line, and ends with code 2."""
    command = [sys.executable, "-m", "tick_gateway", "serve", "--port", "0", "--data", str(directory)]
    with Running(command) as one:
        assert await asyncio.to_thread(one.wait) == 2, one.report()
        (line,) = one.stderr.lines
        assert words in line, line


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[Path]:
    """A file system in memory, mounted there."""
    directory.mkdir()
    done = subprocess.run(
        [needs.program("mount"), "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True, text=True
    )
    if done.returncode:
        needs.missing("the right to mount", f"run as root ({done.stderr.strip()})")
    try:
        yield directory
    finally:
        subprocess.run([needs.program("umount"), str(directory)], check=True)


def remount(directory: Path, mode: str) -> None:
    subprocess.run([needs.program("mount"), "-o", f"remount,{mode}", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Fill a file system to the last byte."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def flip(path: Path, at: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)


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
    async with scene(tmp_path / "history") as (s, _):
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
        monkeypatch.setattr(keeper, "VERDICT_SECONDS", 30.0)
        monkeypatch.setattr(keeper, "LAG_SECONDS", 30.0)
        await s.until_stored()
        await s.forget()
        have, _ = await range_of(s.port, RUN)
        assert s.missing(have) == s.unstored
        await s.read()
        assert told(caplog, "live goes on without it") == told(caplog, "history is written again") == 1
    have = history_files.lines(s.directory, RUN)
    assert s.missing(have) == s.unstored
    history_files.whole(*history_files.segments(s.directory, RUN))


async def test_a_disk_that_takes_nothing_at_a_process(tmp_path: Path) -> None:
    """The same from outside, with the system's own refusal: no file may grow (RLIMIT_FSIZE)."""
    resource = needs.module("resource")
    async with lives(tmp_path / "history") as (s, gateway):
        assert await s.publish(90)
        assert gateway.process is not None
        pid = gateway.process.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        for _ in range(3):
            assert not await s.publish(20)
        await s.health("degraded", "failing", os.strerror(errno.EFBIG))
        assert await metric(s.port, "tick_gateway_history_unstored_total") == len(s.unstored) == 60
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await s.until_stored()
        await s.forget()
        await s.read()
    assert s.missing(history_files.lines(s.directory, RUN)) == s.unstored


@pytest.mark.parametrize("stays", [False, True], ids=["room-again", "killed-while-full"])
async def test_a_full_disk(tmp_path: Path, stays: bool) -> None:
    """A disk of 1 MB that somebody fills; the gateway is killed on it, and started on it, while it is full."""
    with mounted(tmp_path / "disk", "size=1m") as disk:
        async with lives(disk / "history") as (s, gateway):
            assert await s.publish(90)
            ballast = fill(disk)
            assert not await s.publish(20)
            await s.health("degraded", "failing", os.strerror(errno.ENOSPC))
            while await s.publish(20):  # what was set free when the open block was cut back
                continue
            if stays:
                await s.restart(gateway)
                have, _ = await range_of(s.port, RUN)
                assert set(s.missing(have)) <= set(s.unstored)
                assert not await s.publish(20)
                await s.health("degraded", "failing", os.strerror(errno.ENOSPC))
            ballast.unlink()
            await s.until_stored()
            await s.forget()
            await s.read()
        missing = s.missing(history_files.lines(s.directory, RUN))
        assert missing and set(missing) <= set(s.unstored)
        history_files.whole(*history_files.segments(s.directory, RUN))


# ---- the disk is slow ----


async def test_a_slow_disk(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every write takes longer than the disk may take. All that is published is stored in the end."""
    monkeypatch.setattr(keeper, "LAG_SECONDS", 0.1)
    async with scene(tmp_path / "history") as (s, _):
        disk.delay = lambda: time.sleep(0.12)
        for _ in range(3):
            assert await s.publish(5), "an answer waits until its ticks are stored, if that does not take for ever"
        assert told(caplog, "the disk has not taken ticks for 0.") >= 1
        disk.mend()
        monkeypatch.setattr(keeper, "VERDICT_SECONDS", 30.0)
        monkeypatch.setattr(keeper, "LAG_SECONDS", 30.0)
        await s.until_stored()
        await s.forget()
        have, gap = await range_of(s.port, RUN)
        assert not s.missing(have) and gap is None
        assert (await s.health("ok"))["unstored"] == 0


async def test_a_disk_that_stands_still(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one call returns: live goes on, and all is stored when they do."""
    monkeypatch.setattr(keeper, "LAG_SECONDS", 0.05)
    async with scene(tmp_path / "history") as (s, _):
        assert await s.publish(90)
        monkeypatch.setattr(keeper, "VERDICT_SECONDS", 0.1)
        disk.gate.clear()
        calls = disk.calls
        for _ in range(3):
            assert not await s.publish(20)
        assert disk.calls == calls, "nothing got through"
        await s.health("degraded", "lagging", "the disk has not taken ticks for")
        disk.mend()
        monkeypatch.setattr(keeper, "VERDICT_SECONDS", 30.0)
        monkeypatch.setattr(keeper, "LAG_SECONDS", 30.0)
        await s.until_stored()
        await s.forget()
        have, gap = await range_of(s.port, RUN)
        assert not s.missing(have) and gap is None
        assert (await s.health("ok"))["unstored"] == 0


async def test_a_disk_that_stands_still_for_too_long(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may wait for it is bounded; beyond that, ticks are left out."""
    monkeypatch.setattr(keeper, "LAG_SECONDS", 0.05)
    async with scene(tmp_path / "history", history_queue=4096) as (s, _):
        assert await s.publish(90)
        monkeypatch.setattr(keeper, "VERDICT_SECONDS", 0.1)
        disk.gate.clear()
        while not (unstored := (await ask(s.port, "/healthz"))["unstored"]):
            assert not await s.publish(20)
        await s.health("degraded", "lagging", "more than 4096 bytes wait for the disk")
        disk.mend()
        monkeypatch.setattr(keeper, "VERDICT_SECONDS", 30.0)
        monkeypatch.setattr(keeper, "LAG_SECONDS", 30.0)
        await s.until_stored()
        await s.forget()
        have, _ = await range_of(s.port, RUN)
        assert len(s.missing(have)) == unstored
        await s.read()


# ---- the directory ----


async def test_a_directory_that_cannot_be_written_to_at_the_start(tmp_path: Path) -> None:
    """A file system that is read-only, with a history on it whose gateway was killed: it is served as it is, with what
    the crash left, and written to as soon as it can be."""
    with mounted(tmp_path / "disk", "size=4m") as disk:
        async with lives(disk / "history") as (s, gateway):
            assert await s.publish(90)
            async with s.away(gateway):
                remount(disk, "ro")
            before = {path: path.read_bytes() for path in history_files.segments(s.directory, RUN)}
            await s.health("degraded", "failing", "the directory cannot be written to", os.strerror(errno.EROFS))
            have, gap = await range_of(s.port, RUN)
            assert not s.missing(have) and gap is None
            assert not await s.publish(20)
            await s.read()
            assert {path: path.read_bytes() for path in history_files.segments(s.directory, RUN)} == before
            remount(disk, "rw")
            await s.until_stored()
            await s.forget()
            await s.read()
            await refused(disk / "history", "is in use by process")
        assert s.missing(history_files.lines(s.directory, RUN)) == s.unstored


async def test_a_file_in_the_place_of_the_runs_directory(tmp_path: Path) -> None:
    async with scene(tmp_path / "history") as (s, _):
        assert await s.publish(90)
        (s.directory / RUN).rename(tmp_path / "aside")
        (s.directory / RUN).write_bytes(b"")
        async with asyncio.timeout(PATIENCE):  # until it notices, ticks go where the open file went
            while await s.publish(1):
                continue
        await s.health("degraded", "failing")
        assert not await s.publish(20)
        (s.directory / RUN).unlink()
        await s.until_stored()
        await s.forget()
        await s.until_told()
        have, _ = await range_of(s.port, RUN)
        assert set(s.unstored) < set(s.missing(have))
        await s.read()
        health = await s.health("degraded", f"of run {RUN} cannot be read")
        assert health["damaged"] == await metric(s.port, "tick_gateway_history_damaged_total") > 0


async def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    """That is no history that cannot be written to, but a mistake: it is said at once."""
    (tmp_path / "history").write_bytes(b"")
    await refused(tmp_path / "history", "is no directory")


async def test_two_gateways_on_one_directory(tmp_path: Path) -> None:
    """The second is refused, as long as the first lives: a lock that was left behind keeps nobody out."""
    async with lives(tmp_path / "history") as (s, gateway):
        assert await s.publish(90)
        assert gateway.process is not None
        await refused(s.directory, f"is in use by process {gateway.process.process.pid}: one gateway a directory")
        assert await s.publish(20)
        await s.restart(gateway)
        assert await s.publish(20)
        have, gap = await range_of(s.port, RUN)
        assert not s.missing(have) and gap is None


# ---- files that are not what they were ----


async def test_a_deleted_segment(tmp_path: Path) -> None:
    """Who needs it is told of the gap, and everybody else goes on."""
    async with scene(tmp_path / "history") as (s, _):
        assert await s.publish(200)
        gone = history_files.segments(s.directory, RUN)[1]
        lost = [t_of(line) for line in history_files.lines_of(gone)]
        gone.unlink()
        assert await s.publish(20)
        await s.until_told()
        await s.read()
        have, _ = await range_of(s.port, RUN)
        assert s.missing(have) == lost
        for name in CLIENTS:  # who has the last one of them has missed nothing
            one = await reader(name, s.port, from_t=f"{RUN}:{lost[-1]}").connect()
            events = await one.take(1)
            assert ticks(events) == [lost[-1] + 5] and not notices(events), name
            one.close()
        await s.health("degraded", f"of run {RUN} cannot be read", "No such file or directory")
        assert await metric(s.port, "tick_gateway_history_damaged_total") >= 1
        assert await s.publish(20), "writing goes on as if nothing had been"


async def test_the_active_file_is_deleted(tmp_path: Path) -> None:
    """What was in it is gone once memory has let it go; writing goes on in another file."""
    async with scene(tmp_path / "history") as (s, gateway):
        assert await s.publish(90)
        before = history_files.segments(s.directory, RUN)
        before[-1].unlink()
        async with asyncio.timeout(PATIENCE):
            while history_files.segments(s.directory, RUN) == before[:-1]:
                await s.publish(1)
        await s.until_stored()
        await s.forget()
        await s.until_told()
        await s.read()
        have, _ = await range_of(s.port, RUN)
        assert s.missing(have)
        await s.restart(gateway)
        await s.read()
    assert s.missing(history_files.lines(s.directory, RUN)) == s.missing(have)


@pytest.mark.parametrize("part", ["block", "foot", "last foot"])
async def test_a_damaged_block(tmp_path: Path, part: str) -> None:
    """A byte of it was changed while nobody looked: it is never served, and is a gap. Where that is a foot, its ticks
    are found again."""
    async with scene(tmp_path / "history") as (s, gateway):
        assert await s.publish(200)
        async with s.away(gateway):
            path = history_files.segments(s.directory, RUN)[1]
            frames = history_files.frames(path)
            assert frames.pop().skippable, "a sealed file ends with a mark"
            assert [frame.skippable for frame in frames] == [False, True] * (len(frames) // 2) and len(frames) > 2
            block, foot = frames[-2:] if part == "last foot" else frames[:2]
            lost = [t_of(line) for line in history_files.decoded(path, block)] if part == "block" else []
            flip(path, block.at + block.size // 2 if part == "block" else foot.at + foot.size // 2)
            if part != "block":
                (s.directory / RUN / "index").unlink()
        assert await s.publish(20)
        await s.until_told()
        await s.read()
        have, _ = await range_of(s.port, RUN)
        assert s.missing(have) == lost
        await s.health("degraded", "CRC" if part == "block" else "belong to no block")
        assert await metric(s.port, "tick_gateway_history_damaged_total") == (part == "block")


async def test_damage_behind_what_was_sent_already(tmp_path: Path) -> None:
    """The answer under way ends in a broken connection, not as if it were whole; the next one tells of the gap."""
    async with scene(tmp_path / "history") as (s, gateway):
        assert await s.publish(200)
        async with s.away(gateway):
            for path in history_files.segments(s.directory, RUN)[2:4]:
                flip(path, history_files.frames(path)[0].at + 20)
        assert await s.until_told() >= 2, "one after the other"
        await s.read()


@pytest.mark.parametrize("how", ["missing", "empty", "stale", "flipped", "of another run"])
async def test_an_index_that_is_of_no_use(tmp_path: Path, how: str) -> None:
    async with scene(tmp_path / "history") as (s, gateway):
        assert await s.publish(90)
        index = s.directory / RUN / "index"
        old = index.read_bytes()
        assert await s.publish(90)
        async with s.away(gateway):
            assert index.read_bytes() != old
            match how:
                case "missing":
                    index.unlink()
                case "empty":
                    index.write_bytes(b"")
                case "stale":
                    index.write_bytes(old)
                case "flipped":
                    flip(index, index.stat().st_size // 2)
                case "of another run":
                    body = old.partition(b"\n")[2].rstrip(b"\n").replace(b'"run":"A"', b'"run":"B"')
                    index.write_bytes(b"%08x\n%s\n" % (crc32(body), body))
        assert await s.publish(20)
        have, gap = await range_of(s.port, RUN)
        assert not s.missing(have) and gap is None
        await s.health("ok")
        await s.read()


async def test_a_torn_tail(tmp_path: Path) -> None:
    """Bytes behind what a crash left, and a journal that is not its own: what was stored stays, the rest is cut off."""
    async with lives(tmp_path / "history") as (s, gateway):
        assert await s.publish(90)
        async with s.away(gateway):
            with history_files.segments(s.directory, RUN)[-1].open("ab") as file:
                file.write(b"\x28\xb5\x2f\xfd garbage")
        assert await s.publish(20)
        have, gap = await range_of(s.port, RUN)
        assert not s.missing(have) and gap is None
        assert "torn bytes were cut off" in gateway.said
        await s.health("ok")


async def test_retention_under_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The file that somebody reads at this moment is deleted because the settings ask for it: that is a gap to the
    reader, and no damage."""
    reading, gone, noticed = threading.Event(), threading.Event(), threading.Event()
    read, delete, fail = Segment.read, retention.delete, Archive.fail
    under_way: list[Segment] = []

    def slow_read(segment: Segment, entry: Entry) -> Block:
        if not under_way:
            under_way.append(segment)
            reading.set()
        if segment is under_way[0]:
            assert gone.wait(PATIENCE)
        return read(segment, entry)

    def slow_delete(run: StoredRun, segment: Segment) -> None:
        delete(run, segment)
        if segment in under_way:  # before anyone is told that it is gone
            gone.set()
            assert noticed.wait(PATIENCE)

    def told_fail(*args: Any) -> None:
        fail(*args)
        noticed.set()

    async with scene(tmp_path / "history", retain_bytes=8000, history_cache=0) as (s, _):
        assert await s.publish(60)
        monkeypatch.setattr(Segment, "read", slow_read)
        monkeypatch.setattr("tick_gateway.history.recorder.delete", slow_delete)
        monkeypatch.setattr(Archive, "fail", told_fail)
        one = await reader("websocket", s.port, from_t=f"{RUN}:-1").connect()
        assert await asyncio.to_thread(reading.wait, PATIENCE)
        assert await s.publish(120)
        events = await one.until(s.ledger.tip[1])
        s.ledger.check(events, after=(RUN, -1))
        assert noticed.is_set() and notices(events), "the reader met the deleted file"
        health = await s.health("ok")
        assert health["damaged"] == 0 and not told(caplog, "cannot be read")
        one.close()
