"""History on a disk that fails, fills up or stands still, with readers of every transport attached throughout.

In each: live goes on, /healthz and /metrics say what is wrong, what is missing from history is told as a gap, and
writing starts again by itself. Nothing is logged with a traceback.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from pathlib import Path

import pytest

from tests.support import history_files, needs
from tests.support.faulty_disk import Disk
from tests.support.history_scenario import (
    RUN,
    Scenario,
    in_own_process,
    in_process,
    refused,
    told,
)
from tests.support.mounts import fill, mounted, remount
from tests.support.reconnecting import PATIENCE
from tests.support.requests import ask, metric, range_of
from tick_gateway.history.local import commit_pipeline as pipeline
from tick_gateway.history.local import commit_worker

pytestmark = pytest.mark.usefixtures("patient", "no_traceback")


# ---- the disk takes nothing ----


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES])
async def test_a_disk_that_takes_nothing(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: int
) -> None:
    monkeypatch.setattr(commit_worker, "RETRY_SECONDS", 0.05)
    async with in_process(tmp_path / "history") as (s, _):
        assert await s.publish(90)
        disk.break_(error)
        for _ in range(3):
            assert not await s.publish(20)
        health = await s.health("degraded", f"failing: ticks cannot be written: {os.strerror(error)}")
        assert health["unstored"] == len(s.unstored) == 60
        async with asyncio.timeout(PATIENCE):  # it is tried again and again, and what was stored survives that
            failed = disk.failed
            while disk.failed < failed + 5:
                await s.publish(1)
        assert await metric(s.port, "tick_gateway_history_unstored_total") == len(s.unstored)
        disk.mend()
        monkeypatch.setattr(pipeline, "VERDICT_SECONDS", 30.0)
        monkeypatch.setattr(pipeline, "LAG_SECONDS", 30.0)
        await s.recover()
        have, _ = await range_of(s.port, RUN)
        assert s.missing(have) == s.unstored
        await s.read()
        assert told(caplog, "live goes on without it") == told(caplog, "history is written again") == 1
    have = history_files.lines(s.directory, RUN)
    assert s.missing(have) == s.unstored
    history_files.whole(*history_files.segments(s.directory, RUN))


async def test_what_comes_back_when_the_disk_works_again_is_not_counted_as_unstored(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ticks are written and vouched for, and then the disk does not let them be forced to it."""
    monkeypatch.setattr(commit_worker, "RETRY_SECONDS", 0.05)
    async with in_process(tmp_path / "history", fsync="interval", fsync_interval=0.001, block_bytes=1 << 20) as (s, _):
        assert await s.publish(90)
        disk.break_(errno.EIO)
        disk.fails = lambda call: disk.names[call - 1] == "fsync"
        assert not await s.publish(20)
        disk.mend()
        await s.recover()
        have, _ = await range_of(s.port, RUN)
        missing = s.missing(have)
        assert len(missing) == await metric(s.port, "tick_gateway_history_unstored_total") < 20
        await s.read()


async def test_a_disk_that_takes_nothing_at_a_process(tmp_path: Path) -> None:
    """The same from outside, with the system's own refusal: no file may grow (RLIMIT_FSIZE)."""
    resource = needs.module("resource")
    async with in_own_process(tmp_path / "history") as (s, gateway):
        assert await s.publish(90)
        assert gateway.process is not None
        pid = gateway.process.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        for _ in range(3):
            assert not await s.publish(20)
        await s.health("degraded", "failing", os.strerror(errno.EFBIG))
        assert await metric(s.port, "tick_gateway_history_unstored_total") == len(s.unstored) == 60
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await s.recover()
        await s.read()
    assert s.missing(history_files.lines(s.directory, RUN)) == s.unstored


@pytest.mark.parametrize("stays", [False, True], ids=["room-again", "killed-while-full"])
async def test_a_full_disk(tmp_path: Path, stays: bool) -> None:
    """A disk of 1 MB that somebody fills; the gateway is killed on it, and started on it, while it is full."""
    with mounted(tmp_path / "disk", "size=1m") as disk:
        async with in_own_process(disk / "history") as (s, gateway):
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
            await s.recover()
            await s.read()
        missing = s.missing(history_files.lines(s.directory, RUN))
        assert missing and set(missing) <= set(s.unstored)
        history_files.whole(*history_files.segments(s.directory, RUN))


# ---- the disk is slow ----


async def mended(s: Scenario, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], str | None]:
    """The disk works again: what history lacks once memory has forgotten everything, and the header ``Tick-Gap``."""
    disk.mend()
    monkeypatch.setattr(pipeline, "VERDICT_SECONDS", 30.0)
    monkeypatch.setattr(pipeline, "LAG_SECONDS", 30.0)
    await s.recover()
    have, gap = await range_of(s.port, RUN)
    return s.missing(have), gap


async def test_a_slow_disk(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every write takes longer than the disk may take. All that is published is stored in the end."""
    monkeypatch.setattr(pipeline, "LAG_SECONDS", 0.1)
    async with in_process(tmp_path / "history") as (s, _):
        disk.delay = lambda: time.sleep(0.12)
        for _ in range(3):
            assert await s.publish(5), "an answer waits until its ticks are stored, if that does not take for ever"
        assert told(caplog, "the disk has not taken ticks for 0.") >= 1
        assert await mended(s, disk, monkeypatch) == ([], None)
        assert (await s.health("ok"))["unstored"] == 0
    assert max(record.levelno for record in caplog.records) == logging.WARNING, "nothing was lost"


async def test_a_disk_that_stands_still(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one call returns: live goes on, and all is stored when they do."""
    monkeypatch.setattr(pipeline, "LAG_SECONDS", 0.05)
    async with in_process(tmp_path / "history") as (s, _):
        assert await s.publish(90)
        monkeypatch.setattr(pipeline, "VERDICT_SECONDS", 0.1)
        disk.gate.clear()
        calls = disk.calls
        for _ in range(3):
            assert not await s.publish(20)
        assert disk.calls == calls, "nothing got through"
        await s.health("degraded", "lagging", "the disk has not taken ticks for")
        assert await mended(s, disk, monkeypatch) == ([], None)
        assert (await s.health("ok"))["unstored"] == 0


async def test_a_disk_that_stands_still_for_too_long(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What may wait for it is bounded; beyond that, ticks are left out, and that is an error."""
    monkeypatch.setattr(pipeline, "LAG_SECONDS", 0.05)
    async with in_process(tmp_path / "history", history_queue=4096) as (s, _):
        assert await s.publish(90)
        monkeypatch.setattr(pipeline, "VERDICT_SECONDS", 0.1)
        disk.gate.clear()
        while not (unstored := (await ask(s.port, "/healthz"))["unstored"]):
            assert not await s.publish(20)
        await s.health("degraded", "lagging", "more than 4096 bytes wait for the disk")
        [lost] = (record.getMessage() for record in caplog.records if record.levelno > logging.WARNING)
        assert lost == "history: more than 4096 bytes wait for the disk; ticks are left out of it"
        assert told(caplog, "nothing is lost so far"), "before that, it was slow and no more"
        missing, _ = await mended(s, disk, monkeypatch)
        assert len(missing) == unstored
        await s.read()


# ---- the directory ----


async def test_a_directory_that_cannot_be_written_to_at_the_start(tmp_path: Path) -> None:
    """A file system that is read-only, with a history on it whose gateway was killed: it is served as it is, with what
    the crash left, and written to as soon as it can be."""
    with mounted(tmp_path / "disk", "size=4m") as disk:
        async with in_own_process(disk / "history") as (s, gateway):
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
            await s.recover()
            await s.read()
            await refused(disk / "history", "is in use by process")
        assert s.missing(history_files.lines(s.directory, RUN)) == s.unstored


async def test_a_file_in_the_place_of_the_runs_directory(tmp_path: Path) -> None:
    async with in_process(tmp_path / "history") as (s, _):
        assert await s.publish(90)
        (s.directory / RUN).rename(tmp_path / "aside")
        (s.directory / RUN).write_bytes(b"")
        async with asyncio.timeout(PATIENCE):  # until it notices, ticks go where the open file went
            while await s.publish(1):
                continue
        await s.health("degraded", "failing")
        assert not await s.publish(20)
        (s.directory / RUN).unlink()
        await s.recover("degraded")
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
    async with in_own_process(tmp_path / "history") as (s, gateway):
        assert await s.publish(90)
        assert gateway.process is not None
        await refused(s.directory, f"is in use by process {gateway.process.process.pid}: one gateway a directory")
        assert await s.publish(20)
        await s.restart(gateway)
        assert await s.publish(20)
        have, gap = await range_of(s.port, RUN)
        assert not s.missing(have) and gap is None
