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
from ..tick import MAX_T, parse
from .catalog import StoredRun, foot_of, journal_path
from .segment import END_OF_FRAME, Flush, JournalHead, decompress_torn, unpack_journal, vouched
from .shelf import Block, Entry
from .volume import Segment

_ANY_SIZE = 1 << 62


class Recovered(NamedTuple):
    """What became of a segment's tail: the entry of its block, if anything came back; bytes that were cut off; bytes
    before it that belong to no block, since a foot was damaged."""

    entry: Entry | None
    cut: int
    passed: int = 0


class Torn(NamedTuple):
    """A block that has no foot yet, and how many ticks its run published before it."""

    ordinal: int
    block: Block


def recover_tail(folder: Path, run: StoredRun, segment: Segment) -> Recovered:
    """Close the block behind the last foot of a segment, if there is one, and add it to its run.

    ``segment.size`` is where the last foot ends; afterwards it is the file's size.

    Raises:
        OSError: the files cannot be read or written; what they hold is as good as before.
    """
    tail = _tail(segment)
    if not tail:
        return Recovered(None, 0)
    vouching = _vouching(folder, segment, tail)
    if vouching is not None:
        head, flushes = vouching
        passed, segment.size = head.offset - segment.size, head.offset
        return _close_in_place(run, segment, tail[passed:], head, flushes)._replace(passed=passed)
    return _salvage(run, segment, tail)


def peek_tail(folder: Path, run: StoredRun, segment: Segment) -> Torn | None:
    """What ``recover_tail`` will bring back once the disk can be written to.

    Raises:
        OSError: the files cannot be read.
    """
    tail = _tail(segment)
    vouching = _vouching(folder, segment, tail) if tail else None
    if vouching is not None:
        head, flushes = vouching
        if not flushes:
            return None
        run.seq, run.started, run.origin = head.seq, head.started, head.origin
        ts, ats = _columns(flushes)
        begin = head.offset - segment.size
        return Torn(head.ordinal, Block(decompress_torn(tail[begin : begin + flushes[-1].end]), ts, ats))
    ts, ats, lines = _salvaged(run, segment, tail)
    if not ts:
        return None
    if not run.entries:
        run.origin, run.started = ts[0], ats[0]
    return Torn(_ordinal(run, segment, ts[0]), Block(b"\n".join([*lines, b""]), ts, ats))


def _tail(segment: Segment) -> bytes:
    with segment.path.open("rb") as file:
        file.seek(segment.size)
        return file.read()


def _vouching(folder: Path, segment: Segment, tail: bytes) -> tuple[JournalHead, list[Flush]] | None:
    """The journal of a segment's tail, and those of its flushes that lie in it whole; None: it has none.

    The block may begin further behind: where the foot before it is damaged, the last one that is sound ends earlier.
    """
    try:
        journal = unpack_journal(journal_path(folder).read_bytes())
    except FileNotFoundError:
        return None
    if journal is None or journal[0].segment != segment.first:
        return None
    begin = journal[0].offset - segment.size
    if not 0 <= begin <= len(tail):
        return None
    flushes = vouched(tail[begin:], journal[1])
    return (journal[0], flushes) if flushes or not begin else None


def _columns(flushes: list[Flush]) -> tuple[list[int], list[int]]:
    return [t for flush in flushes for t in flush.ts], [at for flush in flushes for at in flush.ats]


def _close_in_place(
    run: StoredRun, segment: Segment, tail: bytes, head: JournalHead, flushes: list[Flush]
) -> Recovered:
    cut = flushes[-1].end if flushes else 0
    entry = None
    with segment.path.open("r+b") as file:
        file.truncate(segment.size + cut)
        if flushes:
            run.seq, run.started, run.origin = head.seq, head.started, head.origin
            entry = _complete(
                run, segment, file.fileno(), cut, tail[:cut] + END_OF_FRAME, head.ordinal, *_columns(flushes)
            )
        os.fsync(file.fileno())
    _add(run, segment, entry)
    return Recovered(entry, len(tail) - cut)


def _complete(
    run: StoredRun, segment: Segment, fd: int, written: int, frame: bytes, ordinal: int, ts: list[int], ats: list[int]
) -> Entry:
    """Write what is missing of a block, of which ``written`` bytes stand there, and its foot."""
    size = len(zstandard.ZstdDecompressor().decompressobj().decompress(frame))
    foot = foot_of(run, ordinal, frame, size, ts, ats)
    packed = foot.pack()
    _write(fd, frame[written:] + packed, segment.size + written)
    return Entry.of(segment, segment.size, foot, len(packed))


def _add(run: StoredRun, segment: Segment, entry: Entry | None) -> None:
    """The block stands on disk: its run has it."""
    if entry is not None:
        segment.size += entry.frame + entry.foot
        run.entries.append(entry)
        run.total, run.tip = max(run.total, entry.ordinal + entry.count), max(run.tip, entry.last)


def _salvage(run: StoredRun, segment: Segment, tail: bytes) -> Recovered:
    """Without a journal: the whole lines of what decompresses, as far as they are ticks that rise."""
    ts, ats, lines = _salvaged(run, segment, tail)
    temporary = segment.path.with_name(segment.path.name + ".new")
    entry = None
    with segment.path.open("rb") as old, temporary.open("w+b") as new:
        _copy(old.fileno(), new.fileno(), segment.size)
        if ts:
            if not run.entries:
                run.origin, run.started = ts[0], ats[0]
            frame = zstandard.ZstdCompressor().compress(b"\n".join([*lines, b""]))
            entry = _complete(run, segment, new.fileno(), 0, frame, _ordinal(run, segment, ts[0]), ts, ats)
        os.fsync(new.fileno())
    temporary.replace(segment.path)
    _add(run, segment, entry)
    return Recovered(entry, 0 if ts else len(tail))


def _salvaged(run: StoredRun, segment: Segment, tail: bytes) -> tuple[list[int], list[int], list[bytes]]:
    """The ticks in a tail that no journal vouches for: their numbers, about when they were received, their lines."""
    ts: list[int] = []
    lines: list[bytes] = []
    before = _before(run, segment)
    tip = before.last if before is not None else -1
    behind = min((entry.first for entry in run.entries if entry.first > tip), default=MAX_T + 1)
    for line in decompress_torn(tail).split(b"\n")[:-1]:
        try:
            t, data = parse(line, _ANY_SIZE)
        except TickError:
            break
        if not tip < t < behind or data != line:
            break
        ts.append(t)
        lines.append(line)
        tip = t
    ended = int(segment.path.stat().st_mtime * 1000)
    began = before.last_at if before is not None else ended
    ats = [began + (max(ended - began, 0) * (index + 1)) // len(ts) for index in range(len(ts))]
    return ts, ats, lines


def _before(run: StoredRun, segment: Segment) -> Entry | None:
    """The block before a segment's tail."""
    before = [entry for entry in run.entries if entry.volume is segment or entry.first < segment.first]
    return max(before, key=lambda entry: entry.last, default=None)


def _ordinal(run: StoredRun, segment: Segment, first: int) -> int:
    """How many ticks the run published before a tail that begins with tick ``first``."""
    before = _before(run, segment)
    if first > run.tip:
        return run.total
    return before.ordinal + before.count if before is not None else 0


def _copy(source: int, target: int, size: int) -> None:
    at = 0
    while at < size:
        data = os.pread(source, min(1 << 20, size - at), at)
        if not data:
            raise OSError("a segment shrank while it was copied")
        _write(target, data, at)
        at += len(data)


def _write(fd: int, data: bytes, at: int) -> None:
    """Write all of it at an offset; a disk that is nearly full takes the first part of it without a word."""
    while data:
        done = os.pwrite(fd, data, at)
        data, at = data[done:], at + done
