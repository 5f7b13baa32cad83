"""History whose files are deleted, damaged or torn, with readers of every transport attached throughout.

In each: live goes on, /healthz and /metrics say what is wrong, what is missing from history is told as a gap, and
writing goes on. Nothing is logged with a traceback.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.support import history_files
from tests.support.events import notices, ticks
from tests.support.history_files import flip
from tests.support.history_scenario import RUN, Scenario, in_own_process, in_process, refused, t_of, told
from tests.support.reconnecting import CLIENTS, PATIENCE, reader
from tests.support.requests import ask, metric, range_of
from tick_gateway.history.archive import Archive
from tick_gateway.history.local import commit_pipeline as pipeline
from tick_gateway.history.local import commit_worker, retention
from tick_gateway.history.local.run import LocalRun
from tick_gateway.history.local.segment_file import Segment
from tick_gateway.history.local.verify import verify
from tick_gateway.history.stored_block import Block, Entry

pytestmark = pytest.mark.usefixtures("patient", "no_traceback")


async def test_a_deleted_segment(tmp_path: Path) -> None:
    """Who needs it is told of the gap, and everybody else goes on."""
    async with in_process(tmp_path / "history") as (s, gateway):
        assert await s.publish(200)
        gone = history_files.segments(s.directory, RUN)[1]
        lost = [t_of(line) for line in history_files.lines_of(gone)]
        gone.unlink()
        assert await s.publish(20)
        await s.until_told()
        await s.read()
        have, _ = await range_of(s.port, RUN)
        assert s.missing(have) == lost
        await _misses_nothing(s, lost[-1])
        await s.health("degraded", f"of run {RUN} cannot be read", "No such file or directory")
        assert await metric(s.port, "tick_gateway_history_damaged_total") >= 1
        assert await s.publish(20), "writing goes on as if nothing had been"
        await s.restart(gateway)
        await _misses_nothing(s, lost[-1])


async def _misses_nothing(s: Scenario, t: int) -> None:
    """Who has the last one of what is gone is told no gap."""
    for name in CLIENTS:
        one = await reader(name, s.port, from_t=f"{RUN}:{t}").connect()
        events = await one.take(1)
        assert ticks(events) == [t + 5] and not notices(events), name
        one.close()


async def test_the_active_file_is_deleted(tmp_path: Path) -> None:
    """What was in it is gone once memory has let it go; writing goes on in another file."""
    async with in_process(tmp_path / "history") as (s, gateway):
        assert await s.publish(90)
        before = history_files.segments(s.directory, RUN)
        before[-1].unlink()
        async with asyncio.timeout(PATIENCE):
            while history_files.segments(s.directory, RUN) == before[:-1]:
                await s.publish(1)
        await s.until_stored("degraded")
        await s.forget()
        await s.until_told()
        await s.read()
        have, _ = await range_of(s.port, RUN)
        health = await s.health("degraded", f"of run {RUN} cannot be read", "No such file or directory")
        assert 0 < len(s.missing(have)) == health["unstored"]
        await s.restart(gateway)
        await s.read()
    assert s.missing(history_files.lines(s.directory, RUN)) == s.missing(have)


async def test_the_directory_is_removed(tmp_path: Path) -> None:
    """By somebody who cleans up: what is missing is counted, be it read or not; and who comes later finds the lock."""
    async with in_process(tmp_path / "history") as (s, _):
        assert await s.publish(200)
        shutil.rmtree(s.directory)
        async with asyncio.timeout(PATIENCE):
            while (await ask(s.port, "/healthz"))["status"] == "ok":
                await s.publish(1)
        await s.until_stored("degraded")
        await s.forget()
        health = await s.health("degraded", f"of run {RUN} cannot be read", "No such file or directory")
        await s.until_told()
        have, _ = await range_of(s.port, RUN)
        assert len(s.missing(have)) == health["unstored"] >= 200
        await s.read()
        await refused(s.directory, "is in use by process")
        found = verify(s.directory, live=True)
        assert not found.findings and f"{RUN}: {health['unstored']} ticks or more are not stored" in found.remarks[0]


@pytest.mark.parametrize("how", ["deleted", "cut", "moved away with its run"])
async def test_files_that_nobody_reads_are_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Without a reader, and without a tick that is published."""
    monkeypatch.setattr(commit_worker, "MAINTAIN_SECONDS", 0.01)
    monkeypatch.setattr(pipeline, "MAINTAIN_SECONDS", 0.01)
    async with in_process(tmp_path / "history") as (s, gateway):
        assert await s.publish(200)
        await s.restart(gateway)
        path = history_files.segments(s.directory, RUN)[1]
        if how == "deleted":
            path.unlink()
        elif how == "cut":
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.parent.rename(tmp_path / "away")
        async with asyncio.timeout(PATIENCE):
            while (health := await ask(s.port, "/healthz"))["status"] == "ok":
                continue
        assert health["unstored"] > 0 and f"of run {RUN} cannot be read" in health["damage"][0]


@pytest.mark.parametrize("part", ["block", "footer", "last footer"])
async def test_a_damaged_block(tmp_path: Path, part: str) -> None:
    """A byte of it was changed while nobody looked: it is never served, and is a gap. Where that is a footer, its ticks
    are found again."""
    async with in_process(tmp_path / "history") as (s, gateway):
        assert await s.publish(200)
        async with s.away(gateway):
            path = history_files.segments(s.directory, RUN)[1]
            frames = history_files.frames(path)
            assert frames.pop().skippable, "a sealed file ends with a seal"
            assert [frame.skippable for frame in frames] == [False, True] * (len(frames) // 2) and len(frames) > 2
            block, footer = frames[-2:] if part == "last footer" else frames[:2]
            lost = [t_of(line) for line in history_files.decoded(path, block)] if part == "block" else []
            flip(path, block.at + block.size // 2 if part == "block" else footer.at + footer.size // 2)
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
    async with in_process(tmp_path / "history") as (s, gateway):
        assert await s.publish(200)
        async with s.away(gateway):
            for path in history_files.segments(s.directory, RUN)[2:4]:
                flip(path, history_files.frames(path)[0].at + 20)
        assert await s.until_told() >= 2, "one after the other"
        await s.read()


@pytest.mark.parametrize("how", ["missing", "empty", "stale", "flipped", "of another run"])
async def test_an_index_that_is_of_no_use(tmp_path: Path, how: str) -> None:
    async with in_process(tmp_path / "history") as (s, gateway):
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
    async with in_own_process(tmp_path / "history") as (s, gateway):
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

    def slow_delete(run: LocalRun, segment: Segment) -> None:
        delete(run, segment)
        if segment in under_way:  # before anyone is told that it is gone
            gone.set()
            assert noticed.wait(PATIENCE)

    def told_fail(*args: Any) -> None:
        fail(*args)
        noticed.set()

    async with in_process(tmp_path / "history", retain_bytes=8000, history_cache=0) as (s, _):
        assert await s.publish(60)
        monkeypatch.setattr(Segment, "read", slow_read)
        monkeypatch.setattr("tick_gateway.history.local.recorder.delete", slow_delete)
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
