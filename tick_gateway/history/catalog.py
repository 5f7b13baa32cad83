"""A directory of history: its lock, which runs and segments it holds, its index, and recovery after a crash.

    DIR/lock                      held by the one process that writes here
    DIR/RUN/FIRST_T.jsonl.zst     segments
    DIR/RUN/index                 a cache of their feet: lost or stale, it is made anew
    DIR/RUN/journal               vouches for the open block

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final
from zlib import crc32

import orjson

from ..errors import Damaged, HistoryError, Locked
from ..tick import RUN_ID
from .segment import JOURNAL, SUFFIX, Foot, pack_columns, step_of, unpack_foot, unpack_journal
from .shelf import Entry
from .volume import Found, Segment, walk

try:
    import fcntl
except ImportError:  # Windows has no such lock: there the operator sees to it
    fcntl = None  # type: ignore[assignment]

INDEX: Final = "index"
LOCK: Final = "lock"
_INDEX_VERSION: Final = 1

Progress = Callable[[int, int], None]
"""Told while feet are read: bytes of segments done, and of all."""


@dataclass(slots=True)
class StoredRun:
    """What a directory knows of one run.

    Attributes:
        id, seq, started, origin: as in ``segment.Foot``.
        segments: oldest first.
        entries: their blocks, in order.
        total: how many ticks were published up to the last block, the missing ones counted.
        tip: the highest ``t``.
        ended, lost_tail: as in ``segment.Foot``.
    """

    id: str
    seq: int = 0
    started: int = 0
    origin: int = 0
    segments: list[Segment] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    total: int = 0
    tip: int = -1
    ended: bool = False
    lost_tail: bool = False

    def take(self, segment: Segment, found: Found) -> None:
        """Take a foot in, the next one in order."""
        foot = found.foot
        self.seq, self.started, self.origin = foot.seq, foot.started, foot.origin
        self.total, self.tip = max(foot.ordinal + foot.count, self.total), max(foot.last, self.tip)
        if foot.ended:
            self.ended, self.lost_tail = True, foot.lost_tail
        else:
            self.entries.append(Entry.of(segment, found.at - foot.frame, foot, found.length))


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory's lock. See ``lock``."""
    file = lock(directory)
    try:
        yield
    finally:
        file.close()


def lock(directory: Path) -> IO[str]:
    """Make a directory if it is not there, and lock it; the lock is held until the file is closed.

    Raises:
        Locked: another process holds it.
        OSError: the directory cannot be made or written to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file = (directory / LOCK).open("a+", encoding="ascii")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(20).strip()
            file.close()
            raise Locked(str(directory), holder) from None
    with contextlib.suppress(OSError):  # it is held on a full disk, too: whose it is, is for people
        os.ftruncate(file.fileno(), 0)
        os.pwrite(file.fileno(), b"%d\n" % os.getpid(), 0)
    return file


def run_directories(directory: Path) -> list[Path]:
    """The folders that are named as runs are and hold segments."""
    try:
        folders = [path for path in directory.iterdir() if RUN_ID.fullmatch(path.name) and path.is_dir()]
    except FileNotFoundError:
        return []
    return [path for path in folders if segment_paths(path)]


def segment_paths(folder: Path) -> list[Path]:
    """A run's segments in the order of their first ticks."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.name.removesuffix(SUFFIX).isdecimal())


def read_run(folder: Path, progress: Callable[[int], None]) -> tuple[StoredRun, list[str]]:
    """Learn what a run's folder holds, by its index where that fits the files, else by their feet.

    Args:
        progress: is told how many bytes of segments were accounted for, one call after another.

    Returns:
        The run, and what was found to be damaged.

    Raises:
        OSError: a file cannot be read.
    """
    run = StoredRun(folder.name)
    damage: list[str] = []
    indexed = _load_index(folder, run)
    for path in segment_paths(folder):
        size = path.stat().st_size
        known = indexed.get(path.name)
        segment = known if known is not None and known.size <= size else Segment(path)
        if known is not None and segment is not known:  # shorter than it was: its feet tell what is left
            run.entries = [entry for entry in run.entries if entry.volume is not known]
        if segment.size < size:
            found = walk(path, segment.size)
            damage += found.damage
            for one in found.feet:
                if one.foot.run == folder.name:
                    run.take(segment, one)
                else:
                    damage.append(f"{folder.name}/{path.name}: a block of run {one.foot.run} at {one.at}")
            segment.size = found.end
        run.segments.append(segment)
        progress(size)
    run.entries.sort(key=lambda entry: entry.first)
    if run.entries:
        run.total = max(run.total, run.entries[-1].ordinal + run.entries[-1].count)
        run.tip = max(run.tip, run.entries[-1].last)
    elif run.segments and not run.total:
        _ask_journal(folder, run)
    return run, damage


def _ask_journal(folder: Path, run: StoredRun) -> None:
    """Learn what is to be known of a run that has no foot yet: from its journal, else (``seq`` -1) from its files."""
    try:
        journal = unpack_journal(journal_path(folder).read_bytes())
    except FileNotFoundError:
        journal = None
    if journal is not None:
        run.seq, run.started, run.origin = journal[0].seq, journal[0].started, journal[0].origin
    else:
        run.seq, run.started = -1, int(run.segments[0].path.stat().st_mtime * 1000)


# ---- the index ----

_FIELDS: Final = (
    "offset", "foot", "ordinal", "first", "last", "first_at", "last_at", "count", "step", "size", "frame", "crc",
)  # fmt: skip


def save_index(folder: Path, run: StoredRun) -> None:
    """Write a run's index: a line with the CRC of the rest, then one JSON object.

    Raises:
        OSError: it cannot be written.
    """
    blocks: dict[int, list[list[int]]] = {id(segment): [] for segment in run.segments}
    for entry in run.entries:
        if (rows := blocks.get(id(entry.volume))) is not None:
            rows.append([getattr(entry, name) for name in _FIELDS])
    body = orjson.dumps(
        {
            "version": _INDEX_VERSION, "run": run.id, "seq": run.seq, "started": run.started, "origin": run.origin,
            "total": run.total, "tip": run.tip, "ended": run.ended, "lost_tail": run.lost_tail, "fields": _FIELDS,
            "segments": [
                {"name": segment.name, "size": segment.size, "blocks": blocks[id(segment)]}
                for segment in run.segments
            ],
        }
    )  # fmt: skip
    temporary = folder / f"{INDEX}.new"
    temporary.write_bytes(b"%08x\n%s\n" % (crc32(body), body))
    temporary.replace(folder / INDEX)


def _load_index(folder: Path, run: StoredRun) -> dict[str, Segment]:
    """What a run's index says of segments that are still there; fills in the run. Nothing, where it is of no use."""
    try:
        crc, _, body = (folder / INDEX).read_bytes().rstrip(b"\n").partition(b"\n")
    except OSError:
        return {}
    if crc != b"%08x" % crc32(body):
        return {}
    try:
        index = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    if index.get("version") != _INDEX_VERSION or index["run"] != folder.name or tuple(index["fields"]) != _FIELDS:
        return {}
    run.seq, run.started, run.origin = index["seq"], index["started"], index["origin"]
    run.total, run.tip = index["total"], index["tip"]
    run.ended, run.lost_tail = index["ended"], index["lost_tail"]
    segments: dict[str, Segment] = {}
    for row in index["segments"]:
        path = folder / row["name"]
        try:
            there = path.stat().st_size >= row["size"]
        except OSError:
            continue  # deleted meanwhile; its blocks are missing from here on
        if there and _still_ends_so(path, row["size"], row["blocks"]):
            segment = segments[row["name"]] = Segment(path, row["size"])
            run.entries += [
                Entry(segment, offset, foot, ordinal=ordinal, first=first, last=last, first_at=first_at,
                      last_at=last_at, count=count, step=step, size=size, frame=frame, crc=crc)
                for offset, foot, ordinal, first, last, first_at, last_at, count, step, size, frame, crc
                in row["blocks"]
            ]  # fmt: skip
    return segments


def _still_ends_so(path: Path, size: int, rows: list[list[int]]) -> bool:
    """Whether a segment has, where its index ends, the block that the index says: a file that was replaced has not."""
    if not rows:
        return size == 0
    row = dict(zip(_FIELDS, rows[-1], strict=True))
    try:
        with path.open("rb") as file:
            data = os.pread(file.fileno(), row["foot"], row["offset"] + row["frame"])
        foot = unpack_foot(data)
    except (OSError, Damaged):
        return False
    return (foot.last, foot.crc, foot.ordinal) == (row["last"], row["crc"], row["ordinal"])


# ---- a whole directory ----


def read_directory(directory: Path, progress: Progress | None = None) -> tuple[list[StoredRun], list[str]]:
    """Every run of a directory, in the order in which they began, and what is damaged.

    Raises:
        OSError: a file cannot be read.
        HistoryError: the directory holds something else.
    """
    if directory.exists() and not directory.is_dir():
        raise HistoryError(f"{directory} is no directory")
    folders = run_directories(directory)
    total = sum(path.stat().st_size for folder in folders for path in segment_paths(folder))
    done = 0

    def step(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    runs: list[StoredRun] = []
    damage: list[str] = []
    for folder in folders:
        run, wrong = read_run(folder, step)
        runs.append(run)
        damage += wrong
    for run in sorted((run for run in runs if run.seq < 0), key=lambda run: run.started):
        run.seq = 1 + max((one.seq for one in runs if one.seq >= 0 and one.started <= run.started), default=-1)
    runs.sort(key=lambda run: (run.seq, run.started, run.id))
    return runs, damage


def journal_path(folder: Path) -> Path:
    return folder / JOURNAL


def foot_of(run: StoredRun, ordinal: int, frame: bytes, size: int, ts: list[int], ats: list[int]) -> Foot:
    """The foot of a block of this run."""
    return Foot(
        run.id, run.seq, run.started, run.origin, ordinal, ts[0], ts[-1], ats[0], ats[-1], len(ts), step_of(ts), size,
        len(frame), crc32(frame), pack_columns(ts, ats),
    )  # fmt: skip
