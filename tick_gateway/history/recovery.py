"""What a crash leaves: the open block is cut back to what is vouched for, and closed.

Whatever is done here can be interrupted and done again: a block is closed in place where the journal vouches for it,
and everything else is written to another file that then takes the place of the first.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import zstandard

from ..errors import TickError
from ..tick import parse
from .catalog import StoredRun, foot_of, journal_path
from .segment import END_OF_FRAME, Flush, JournalHead, decompress_torn, unpack_journal, vouched
from .shelf import Entry
from .volume import Segment

_ANY_SIZE = 1 << 62


class Recovered(NamedTuple):
    """What became of a segment's tail: the entry of its block, if anything came back; bytes that were cut off."""

    entry: Entry | None
    cut: int


def recover_tail(folder: Path, run: StoredRun, segment: Segment) -> Recovered:
    """Close the block behind the last foot of a segment, if there is one, and add it to its run.

    ``segment.size`` is where the last foot ends; afterwards it is the file's size.

    Raises:
        OSError: the files cannot be read or written; what they hold is as good as before.
    """
    with segment.path.open("rb") as file:
        file.seek(segment.size)
        tail = file.read()
    if not tail:
        return Recovered(None, 0)
    try:
        journal = unpack_journal(journal_path(folder).read_bytes())
    except FileNotFoundError:
        journal = None
    if journal is not None and (journal[0].segment, journal[0].offset) == (segment.first, segment.size):
        return _close_in_place(run, segment, tail, *journal)
    return _salvage(run, segment, tail)


def _close_in_place(
    run: StoredRun, segment: Segment, tail: bytes, head: JournalHead, flushes: list[Flush]
) -> Recovered:
    flushes = vouched(tail, flushes)
    cut = flushes[-1].end if flushes else 0
    entry = None
    with segment.path.open("r+b") as file:
        file.truncate(segment.size + cut)
        if flushes:
            frame = tail[:cut] + END_OF_FRAME
            ts = [t for flush in flushes for t in flush.ts]
            ats = [at for flush in flushes for at in flush.ats]
            run.seq, run.started, run.origin = head.seq, head.started, head.origin
            entry = _append(run, segment, file.fileno(), cut, frame, head.ordinal, ts, ats)
        os.fsync(file.fileno())
    return Recovered(entry, len(tail) - cut)


def _append(
    run: StoredRun, segment: Segment, fd: int, written: int, frame: bytes, ordinal: int, ts: list[int], ats: list[int]
) -> Entry:
    """Write what is missing of a block, of which ``written`` bytes stand there, and its foot; add it to its run."""
    size = len(zstandard.ZstdDecompressor().decompressobj().decompress(frame))
    foot = foot_of(run, ordinal, frame, size, ts, ats)
    packed = foot.pack()
    rest = frame[written:] + packed
    at = segment.size + written
    while rest:
        done = os.pwrite(fd, rest, at)
        rest, at = rest[done:], at + done
    entry = Entry.of(segment, segment.size, foot, len(packed))
    segment.size += len(frame) + len(packed)
    run.entries.append(entry)
    run.total, run.tip = ordinal + len(ts), ts[-1]
    return entry


def _salvage(run: StoredRun, segment: Segment, tail: bytes) -> Recovered:
    """Without a journal: the whole lines of what decompresses, as far as they are ticks that rise."""
    ts: list[int] = []
    lines: list[bytes] = []
    tip = run.tip
    for line in decompress_torn(tail).split(b"\n")[:-1]:
        try:
            t, data = parse(line, _ANY_SIZE)
        except TickError:
            break
        if t <= tip or data != line:
            break
        ts.append(t)
        lines.append(line)
        tip = t
    temporary = segment.path.with_name(segment.path.name + ".new")
    entry = None
    with segment.path.open("rb") as old, temporary.open("w+b") as new:
        _copy(old.fileno(), new.fileno(), segment.size)
        if ts:
            ended = int(segment.path.stat().st_mtime * 1000)
            began = run.entries[-1].last_at if run.entries else ended
            ats = [began + (max(ended - began, 0) * (index + 1)) // len(ts) for index in range(len(ts))]
            if not run.entries:
                run.origin, run.started = ts[0], ats[0]
            frame = zstandard.ZstdCompressor().compress(b"\n".join([*lines, b""]))
            entry = _append(run, segment, new.fileno(), 0, frame, run.total, ts, ats)
        os.fsync(new.fileno())
    temporary.replace(segment.path)
    return Recovered(entry, 0 if ts else len(tail))


def _copy(source: int, target: int, size: int) -> None:
    at = 0
    while at < size:
        data = os.pread(source, min(1 << 20, size - at), at)
        if not data:
            raise OSError("a segment shrank while it was copied")
        os.pwrite(target, data, at)
        at += len(data)
