"""The recorder at a disk of which every call fails once, and dies once: what it acknowledged is there afterwards.

The same ticks are written again and again; each time another of the calls with which they reach the disk fails, or is
the last one that the process ever made. Then the directory is opened as at a start.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import history_files
from tests.support.faulty_disk import Disk
from tick_gateway.bus.ring import Batch, Run
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.opening import open_directory
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.history.run_history import RunHistory
from tick_gateway.model.tick import PublishedTick

LIMITS = Limits(block_bytes=300, block_ticks=1000, block_age=1e9, segment_bytes=600, fsync="block")
AT = 1_800_000_000_000


class Killed(BaseException):
    """The process ends here."""


class Script:
    """What is published: two runs, in batches of three ticks, with holes in ``t``.

    Attributes:
        acknowledged: the ticks that ``write`` returned for, by run.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.recorder = Recorder(directory, LIMITS)
        self.runs = [Run("A", 0, 3, AT), Run("B", 1, 3, AT)]
        self.published: dict[str, dict[int, bytes]] = {"A": {}, "B": {}}
        self.acknowledged: dict[str, set[int]] = {"A": set(), "B": set()}

    def play(self) -> None:
        for run in self.runs:
            for batch in self._batches(run):
                self.published[run.id] |= {tick.t: tick.data for tick in batch.ticks}
                try:
                    if self.recorder.broken:
                        self.recorder.resume()
                    self.recorder.write([batch])
                    self.acknowledged[run.id] |= {tick.t for tick in batch.ticks}
                    self.recorder.maintain()
                except OSError:
                    continue
            try:
                if not self.recorder.broken:
                    self.recorder.end(run)
            except OSError:
                continue
        try:
            self.recorder.close()
        except OSError:
            pass  # the next start recovers what is open

    @staticmethod
    def _batches(run: Run) -> Iterator[Batch]:
        for number in range(8):
            ts = [3 + 5 * (3 * number + i) for i in range(3)]
            ticks = [PublishedTick(t, b'{"t":%d,"x":"%s"}' % (t, bytes([97 + t % 26]) * 20), AT + t) for t in ts]
            yield Batch(run, ticks, sum(len(tick.data) for tick in ticks), False, 3 * number)

    def check(self) -> int:
        """Open the directory as a start does; returns how many ticks are in it that were not acknowledged."""
        opened, more = open_directory(self.directory), 0
        for stored in opened.runs:
            run = Run(stored.id, stored.seq, stored.origin, stored.started)
            history, after = RunHistory(run, stored.entries), -1
            have: dict[int, bytes] = {}
            ats: dict[int, int] = {}
            published = self.published[run.id]
            for entry in history.entries:
                missing = [t for t in published if after < t < entry.first]
                assert history.missing_before(entry, after) == bool(missing), f"ticks {missing} before {entry.first}"
                block = entry.volume.read(entry)
                have |= dict(zip(block.ts, block.lines.splitlines(), strict=True))
                ats |= dict(zip(block.ts, block.ats, strict=True))
                after = entry.last
            assert have == {t: published[t] for t in sorted(have)}, "what is there is what was published, in order"
            acknowledged = self.acknowledged[run.id]
            assert acknowledged <= set(have), f"ticks {sorted(acknowledged - set(have))} of run {run.id} are lost"
            assert all(ats[t] == AT + t for t in acknowledged), "the times of receipt"
            more += len(set(have) - acknowledged)
            history_files.whole(*history_files.segments(self.directory, run.id))
            assert list(have.values()) == history_files.lines(self.directory, run.id)
        assert not opened.damage and not opened.trouble
        assert {run.id for run in opened.runs} >= {name for name, ts in self.acknowledged.items() if ts}
        return more


def calls_of(disk: Disk, directory: Path) -> range:
    """The calls that the script makes on a disk that works."""
    script = Script(directory)
    script.play()
    assert script.acknowledged == {run: set(ticks) for run, ticks in script.published.items()}
    assert script.check() == 0
    return range(1, disk.calls + 1)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("times", [1, 4])
def test_every_call_fails_once(tmp_path: Path, disk: Disk, error: int, times: int) -> None:
    calls = calls_of(disk, tmp_path / "works")
    assert len(calls) > 50
    for first in calls:
        script = Script(tmp_path / f"from-{first}")
        disk.calls = disk.failed = 0
        disk.error, disk.fails = error, range(first, first + times).__contains__
        script.play()
        assert disk.failed, first
        disk.mend()
        try:
            script.check()
        except AssertionError as problem:
            problem.add_note(f"call {first}: {disk.names[first - 1]}")
            raise


def test_every_call_is_the_last(tmp_path: Path, disk: Disk) -> None:
    """``kill -9`` behind each of them, and in the middle of each write."""
    calls = calls_of(disk, tmp_path / "works")
    for last in calls:
        script = Script(tmp_path / f"upto-{last}")
        disk.calls, disk.dies = 0, (last, Killed)
        with pytest.raises(Killed):
            script.play()
        disk.dies = None
        disk.mend()
        try:
            script.check()
        except AssertionError as problem:
            problem.add_note(f"call {last}: {disk.names[last - 1]}")
            raise
