"""Blocks whose footers are damaged or missing: finding them, and finding out what can be known of them.

A frame that is whole has a checksum of its own, which vouches for its ticks. What is lost with a footer is when they
were received, and how many are missing before them. So such a block is served where it lies, until ``repair`` gives it
a footer again: its entry says that it has none.

Pure: bytes in, facts out; no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from ...errors import Damaged
from ...wire.zstd_frame import MAGIC
from ..block_index import Entry
from ..format.block import FrameState, closing, proven, scan_frame, whole_lines
from ..format.segment import SIGNATURE, TAIL_BYTES, footer_begins, footer_length, numbers, spread, step_of
from .run import LocalRun
from .segment_file import Segment


class Rescued(NamedTuple):
    """A block without a footer, as far as it is there.

    Attributes:
        begin: where its frame begins in the file.
        there: bytes of its frame that lie there.
        closing: what makes the frame whole behind them; empty: it is.
        crc: CRC-32 of the whole frame.
        size: bytes of its lines.
        ts: its numbers.
        ats: when its ticks were received, as far as that is known.
    """

    begin: int
    there: int
    closing: bytes
    crc: int
    size: int
    ts: Sequence[int]
    ats: Sequence[int] = ()

    @property
    def frame(self) -> int:
        """Bytes of the whole frame."""
        return self.there + len(self.closing)

    @property
    def end(self) -> int:
        """Where it ends in the file, as far as it is there."""
        return self.begin + self.there


class BareBlock(NamedTuple):
    """A whole block without a footer, in brief; ``ticks``: how many, the rest as in ``Footer``."""

    begin: int
    frame: int
    crc: int
    size: int
    first: int
    last: int
    ticks: int
    step: int


class Stray(NamedTuple):
    """Bytes of a segment that belong to no block that has a footer, and the whole blocks in them."""

    begin: int
    end: int
    blocks: list[BareBlock]


# ---- what is left of a block ----


def is_footer(data: bytes) -> bool:
    """Whether bytes at the end of a file are one footer, however damaged: by its first bytes or by its last ones."""
    return (len(data) >= 8 and footer_begins(data[:8]) == len(data)) or footer_length(data[-TAIL_BYTES:]) == len(
        data
    ) > 0


def begins_footer(data: bytes) -> bool:
    """Whether bytes at the end of a file are the beginning of a footer, or nothing."""
    if len(data) < 8:
        return data == SIGNATURE[: len(data)] or data[:4] == SIGNATURE
    return (footer_begins(data[:8]) or 0) > len(data)


def whole_block(data: bytes, begin: int) -> Rescued | None:
    """The block that data begins with, if its frame is whole and its checksum right.

    Args:
        begin: where the data lies in its file.
    """
    found = proven(data)
    ts = numbers(found[0]) if found is not None else None
    if found is None or ts is None:
        return None
    lines, end = found
    return Rescued(begin, end, b"", crc32(memoryview(data)[:end]), len(lines), ts)


def cut_block(data: bytes, begin: int) -> Rescued | None:
    """What there is of a block that breaks off; ``begin`` as in ``whole_block``."""
    if scan_frame(data).state is not FrameState.CUT:
        return None
    try:
        lines, end = whole_lines(data)
    except Damaged:
        return None
    ts = numbers(lines)
    return flushed_block(data, begin, end, lines, ts) if ts else None


def flushed_block(data: bytes, begin: int, end: int, lines: bytes, ts: Sequence[int]) -> Rescued:
    """A block whose frame breaks off at ``end``, where these lines are flushed."""
    rest = closing(data[:end], lines)
    return Rescued(begin, end, rest, crc32(rest, crc32(memoryview(data)[:end])), len(lines), ts)


def blocks_in(data: bytes, begin: int = 0) -> Iterator[BareBlock]:
    """Every block in bytes that belong to none, if it is whole and its checksum right; ``begin`` as in
    ``whole_block``."""
    at = data.find(MAGIC)
    while at >= 0:
        found = whole_block(data[at:], begin + at)
        if found is not None:
            ts = found.ts
            yield BareBlock(found.begin, found.frame, found.crc, found.size, ts[0], ts[-1], len(ts), step_of(ts))
        at = data.find(MAGIC, at + (found.there if found is not None else 1))


# ---- where it belongs ----


class Placement(NamedTuple):
    """Where a block belongs in its run.

    Attributes:
        ordinal: as its footer will have it.
        after_at: when the tick before it was received; 0: there is none.
        before_at: when the tick behind it was received; 0: there is none.
    """

    ordinal: int
    after_at: int
    before_at: int

    def spread(self, count: int, changed_at: int) -> list[int]:
        """About when so many ticks came; ``changed_at``: when their file was changed."""
        before_at = self.before_at or changed_at
        return spread(count, self.after_at or before_at, before_at)


def placement_of(run: LocalRun, first: int, last: int, count: int) -> Placement | None:
    """Where a block of these numbers belongs among those of its run; None: some of them are there already.

    How many ticks are missing just before it is lost with its footer. Where it cannot be told otherwise, one is
    counted: readers are told of a gap where there may be one.
    """
    at = run.entries.below(first)
    before = run.entries[at - 1] if at else None
    behind = run.entries[at] if at < len(run.entries) else None
    if (before is not None and before.last >= first) or (behind is not None and behind.first <= last):
        return None
    known = [(number, t) for number, t in run.edges.items() if t < first]
    if before is not None:
        known.append((before.ordinal + before.count, before.last))
    least, tip = max(known, default=(0, -1))  # so many were published up to there, those that were deleted counted
    follows = first == tip + 1 if known else run.started == 0 or first <= run.origin
    fits = behind is not None and behind.ordinal <= least + count
    ordinal = least if follows or fits else least + 1
    after_at = before.last_at if before is not None else run.started
    return Placement(ordinal, after_at, behind.first_at if behind is not None else 0)


def adopt(run: LocalRun, segment: Segment, stray: Stray, changed_at: int) -> list[Entry]:
    """Let a run have the blocks in bytes of a segment that belong to none; returns those that it takes.

    Args:
        changed_at: when the segment's file was changed, ms since the epoch.
    """
    taken: list[Entry] = []
    for block in stray.blocks:
        placement = placement_of(run, block.first, block.last, block.ticks)
        if placement is None:
            continue
        ats = placement.spread(block.ticks, changed_at)
        entry = Entry(
            segment, block.begin, 0, ordinal=placement.ordinal, first=block.first, last=block.last, first_at=ats[0],
            last_at=ats[-1], count=block.ticks, step=block.step, size=block.size, frame=block.frame, crc=block.crc,
        )  # fmt: skip
        take(run, entry)
        taken.append(entry)
    return taken


def take(run: LocalRun, entry: Entry) -> None:
    """Let a run have a block, wherever it belongs."""
    run.entries.put(entry)
    run.know(entry.ordinal + entry.count, entry.last)


def told_of(stray: Stray, taken: Sequence[Entry]) -> str:
    """What is wrong with bytes that belong to no block, of which these were taken, as a sentence."""
    count = sum(entry.count for entry in taken)
    return f"bytes {stray.begin} to {stray.end} belong to no block" + (f", but for {count} ticks" if count else "")
