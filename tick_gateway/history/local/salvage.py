"""Finds blocks whose footers are damaged or missing, and reconstructs what can be known of them.

A complete frame has a checksum of its own, which vouches for its ticks. Lost with the footer are their receive times,
and how many ticks are missing before them. So such a block is served from where it is, with an entry without a footer,
until ``repair`` writes a new footer.

Pure: bytes in, facts out; no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from ...errors import Damaged
from ...wire.zstd_frame import MAGIC
from ..format.block import FrameState, closing, proven, scan_frame, whole_lines
from ..format.segment import SIGNATURE, TAIL_BYTES, footer_begins, footer_length, numbers, spread, step_of
from ..stored_block import Entry
from .run import LocalRun
from .segment_file import Segment


class Rescued(NamedTuple):
    """A block without a footer, possibly incomplete.

    Attributes:
        begin: offset of its frame in the file.
        there: bytes of its frame in the file.
        closing: bytes that complete the frame; empty: it is complete.
        crc: CRC-32 of the complete frame.
        size: bytes of its lines.
        ts: its numbers.
        ats: receive times of its ticks, as far as they are known.
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
        """Bytes of the complete frame."""
        return self.there + len(self.closing)

    @property
    def end(self) -> int:
        """The offset of its end in the file."""
        return self.begin + self.there


class BareBlock(NamedTuple):
    """A complete block without a footer, in brief; ``ticks``: their number; for the rest see ``Footer``."""

    begin: int
    frame: int
    crc: int
    size: int
    first: int
    last: int
    ticks: int
    step: int


class Stray(NamedTuple):
    """Bytes of a segment that belong to no block with a footer, and the complete blocks in them."""

    begin: int
    end: int
    blocks: list[BareBlock]


# ---- what is left of a block ----


def is_footer(data: bytes) -> bool:
    """Whether bytes at the end of a file are one footer, even a damaged one, by its first bytes or its last ones."""
    return (len(data) >= 8 and footer_begins(data[:8]) == len(data)) or footer_length(data[-TAIL_BYTES:]) == len(
        data
    ) > 0


def begins_footer(data: bytes) -> bool:
    """Whether bytes at the end of a file are the beginning of a footer, or empty."""
    if len(data) < 8:
        return data == SIGNATURE[: len(data)] or data[:4] == SIGNATURE
    return (footer_begins(data[:8]) or 0) > len(data)


def whole_block(data: bytes, begin: int) -> Rescued | None:
    """The block at the beginning of data, if its frame is complete and its checksum matches.

    Args:
        begin: offset of the data in its file.
    """
    found = proven(data)
    ts = numbers(found[0]) if found is not None else None
    if found is None or ts is None:
        return None
    lines, end = found
    return Rescued(begin, end, b"", crc32(memoryview(data)[:end]), len(lines), ts)


def cut_block(data: bytes, begin: int) -> Rescued | None:
    """What is left of a block that is cut off; ``begin`` as in ``whole_block``."""
    if scan_frame(data).state is not FrameState.CUT:
        return None
    try:
        lines, end = whole_lines(data)
    except Damaged:
        return None
    ts = numbers(lines)
    return flushed_block(data, begin, end, lines, ts) if ts else None


def flushed_block(data: bytes, begin: int, end: int, lines: bytes, ts: Sequence[int]) -> Rescued:
    """A block whose frame is cut off at ``end``, with these flushed lines."""
    rest = closing(data[:end], lines)
    return Rescued(begin, end, rest, crc32(rest, crc32(memoryview(data)[:end])), len(lines), ts)


def blocks_in(data: bytes, begin: int = 0) -> Iterator[BareBlock]:
    """The complete blocks with a matching checksum in bytes without footers; ``begin`` as in ``whole_block``."""
    at = data.find(MAGIC)
    while at >= 0:
        found = whole_block(data[at:], begin + at)
        if found is not None:
            ts = found.ts
            yield BareBlock(found.begin, found.frame, found.crc, found.size, ts[0], ts[-1], len(ts), step_of(ts))
        at = data.find(MAGIC, at + (found.there if found is not None else 1))


# ---- the place of a block ----


class Placement(NamedTuple):
    """The place of a block in its run.

    Attributes:
        ordinal: for its footer.
        after_at: receive time of the tick before it; 0: there is none.
        before_at: receive time of the tick after it; 0: there is none.
    """

    ordinal: int
    after_at: int
    before_at: int

    def spread(self, count: int, changed_at: int) -> list[int]:
        """Estimated receive times for its ticks; ``changed_at``: when their file was changed."""
        before_at = self.before_at or changed_at
        return spread(count, self.after_at or before_at, before_at)


def placement_of(run: LocalRun, first: int, last: int, count: int) -> Placement | None:
    """The place of a block with these numbers among those of its run; None: some of them are stored already.

    How many ticks are missing just before it was in its footer. If that cannot be found otherwise, one counts as
    missing, so that readers are told of a possible gap.
    """
    at = run.entries.below(first)
    before = run.entries[at - 1] if at else None
    behind = run.entries[at] if at < len(run.entries) else None
    if (before is not None and before.last >= first) or (behind is not None and behind.first <= last):
        return None
    known = [(number, t) for number, t in run.edges.items() if t < first]
    if before is not None:
        known.append((before.ordinal + before.count, before.last))
    least, tip = max(known, default=(0, -1))  # number published up to there, including deleted ones
    follows = first == tip + 1 if known else run.started == 0 or first <= run.origin
    fits = behind is not None and behind.ordinal <= least + count
    ordinal = least if follows or fits else least + 1
    after_at = before.last_at if before is not None else run.started
    return Placement(ordinal, after_at, behind.first_at if behind is not None else 0)


def adopt(run: LocalRun, segment: Segment, stray: Stray, changed_at: int) -> list[Entry]:
    """Add the blocks in bytes without footers to a run; returns those added.

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
    """Insert a block into a run at its place."""
    run.entries.put(entry)
    run.know(entry.ordinal + entry.count, entry.last)


def told_of(stray: Stray, taken: Sequence[Entry]) -> str:
    """A description of bytes without footers, of which the given blocks were added to the run."""
    count = sum(entry.count for entry in taken)
    return f"bytes {stray.begin} to {stray.end} belong to no block" + (f", but for {count} ticks" if count else "")
