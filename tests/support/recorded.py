"""Histories that a test writes with the recorder alone, and opens as a start does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import history_files
from tick_gateway.bus.ring import Batch, Run
from tick_gateway.errors import Damaged
from tick_gateway.history.engine import Progress
from tick_gateway.history.format.segment import Footer
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.opening import open_directory
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.history.local.recovery_plan import plan_directory, plan_run
from tick_gateway.history.local.run import LocalRun
from tick_gateway.history.local.scan import scan_directory
from tick_gateway.history.local.segment_file import walk
from tick_gateway.history.stored_block import Entry
from tick_gateway.model.tick import PublishedTick

AT = 1_700_000_000_000
FOREVER = 1e12
SMALL = Limits(block_ticks=3, block_age=FOREVER, segment_bytes=400, segment_age=0, fsync="never")
"""Segments of two blocks of three ticks."""
TIMELESS: dict[str, Any] = {"block_age": FOREVER, "segment_age": 0.0, "fsync": "never"}
LIMITS = Limits(block_bytes=1 << 20, block_age=FOREVER, segment_age=0, fsync="never")


def data_of(t: int) -> bytes:
    """A tick that compresses little: what is flipped in it is somebody's digit."""
    return b'{"t":%d,"x":%d,"y":%d}' % (t, t * 7919 % 100_003, t * 104_729 % 999_983)


class Flushed(NamedTuple):
    """What one call of ``write`` brought to disk: where the segment ended behind it, and the numbers of its ticks."""

    segment: str
    end: int
    ts: list[int]


class Writer:
    """Writes one run with a recorder.

    Attributes:
        flushes: one for each ``write``.
        written: every tick, by number.
    """

    def __init__(
        self,
        directory: Path,
        limits: Limits = LIMITS,
        *,
        name: str = "R",
        seq: int = 3,
        recorder: Recorder | None = None,
    ) -> None:
        self.directory = directory
        self.recorder = recorder or Recorder(directory, limits)
        self.run = Run(name, seq, 0, AT)
        self.flushes: list[Flushed] = []
        self.written: dict[int, bytes] = {}
        self._count = 0

    @property
    def folder(self) -> Path:
        return self.directory / self.run.id

    def batch(self, ts: Sequence[int], *, lost: int = 0) -> Batch:
        """The next ticks of the run; ``lost`` ticks before them were not stored."""
        if not self._count:
            self.run.first = ts[0]
        self._count += lost
        ticks = [PublishedTick(t, data_of(t), AT + t) for t in ts]
        batch = Batch(self.run, ticks, sum(len(tick.data) for tick in ticks), bool(lost), self._count)
        self._count += len(ts)
        self.run.count += len(ts)
        self.run.lost += lost
        self.run.tip = ts[-1]
        return batch

    def write(self, ts: Iterable[int], *, lost: int = 0) -> None:
        """Write ticks of these numbers, together."""
        batch = self.batch(list(ts), lost=lost)
        self.recorder.write([batch])
        self.written |= {tick.t: tick.data for tick in batch.ticks}
        stored = self.recorder.runs[self.run.id]
        segment = stored.segments[-1]
        self.flushes.append(Flushed(segment.name, segment.path.stat().st_size, [tick.t for tick in batch.ticks]))

    def end(self) -> None:
        self.run.ended = True
        self.recorder.end(self.run)


def files(folder: Path) -> dict[str, bytes]:
    """What a run's folder holds, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def lay(folder: Path, held: dict[str, bytes]) -> None:
    """Let a run's folder hold this and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in held:
            path.unlink()
    for name, data in held.items():
        (folder / name).write_bytes(data)


class Opened(NamedTuple):
    """What a directory gives to who opens it.

    Attributes:
        runs: recovered.
        ticks, ats: by run and number; of blocks that can be read.
        damage: everything that was told to be wrong.
    """

    runs: list[LocalRun]
    ticks: dict[str, dict[int, bytes]]
    ats: dict[str, dict[int, int]]
    damage: list[str]


def planned(directory: Path, progress: Progress | None = None) -> tuple[list[LocalRun], list[str]]:
    """The runs of a directory as they lie there, and what is damaged; nothing is changed."""
    plan = plan_directory(map(plan_run, scan_directory(directory, progress)))
    return [one.run for one in plan.runs], plan.damage


def opened(directory: Path) -> Opened:
    """Open a directory as a start does, and read everything in it."""
    found = open_directory(directory)
    assert not found.trouble and not found.left
    runs, damage = found.runs, list(found.damage)
    ticks: dict[str, dict[int, bytes]] = {}
    ats: dict[str, dict[int, int]] = {}
    for run in runs:
        mine, times = ticks.setdefault(run.id, {}), ats.setdefault(run.id, {})
        tip = -1
        for entry, block in blocks(run.entries, damage):
            lines = block[0].splitlines()
            assert len(lines) == len(block[1]) == entry.count
            assert block[1][0] > tip, "ticks rise over all blocks"
            tip = block[1][-1]
            mine |= dict(zip(block[1], lines, strict=True))
            times |= dict(zip(block[1], block[2], strict=True))
    return Opened(runs, ticks, ats, damage)


def blocks(
    entries: Iterable[Entry], damage: list[str]
) -> Iterator[tuple[Entry, tuple[bytes, Sequence[int], Sequence[int]]]]:
    """The blocks that can be read; of the others, ``damage`` is told."""
    for entry in entries:
        try:
            yield entry, entry.volume.read(entry)
        except Damaged as error:
            damage.append(str(error))


class Clock:
    """What the recorder takes for the time."""

    def __init__(self) -> None:
        self.now = AT / 1000

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def stored(data: Path) -> list[tuple[str, int, bytes]]:
    """All that a history holds: runs, numbers, lines."""
    runs, damage = planned(data)
    assert not damage
    found: list[tuple[str, int, bytes]] = []
    for run in runs:
        for entry in run.entries:
            block = entry.volume.read(entry)
            found += [(run.id, t, line) for t, line in zip(block.ts, block.lines.split(b"\n"), strict=False)]
    return found


def footers(directory: Path, run: str = "R") -> list[list[Footer]]:
    """The footers in each segment of a run."""
    return [[found.footer for found in walk(path).footers] for path in history_files.segments(directory, run)]


def counts(directory: Path, run: str = "R") -> list[list[int]]:
    """How many ticks are in each block of each segment; a seal has none."""
    return [[footer.count for footer in segment] for segment in footers(directory, run)]


def everything(stored: LocalRun) -> list[object]:
    """All that is known of a run, as values."""
    return [
        stored.id, stored.seq, stored.started, stored.origin, stored.total, stored.tip, stored.ended, stored.lost_tail,
        [(one.name, one.size, one.sealed) for one in stored.segments],
        [entry.record() for entry in stored.entries],
    ]  # fmt: skip


def read_known(directory: Path) -> list[object]:
    """The same of the only run of a directory, in which nothing is damaged."""
    (stored,), damage = planned(directory)
    assert damage == []
    return everything(stored)
