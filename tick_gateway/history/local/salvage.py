"""Blocks whose footers are damaged or missing: finding them, and finding out what can be known of them.

A frame that is whole has a checksum of its own, which vouches for its ticks. What is lost with a footer is when they
were received, and how many are missing before them. So such a block is served where it lies, until ``repair`` gives it
a footer again: its entry says that it has none.

Everything here that reads files waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from zlib import crc32

from ...errors import Damaged
from ...wire.zstd_frame import MAGIC
from ..block_index import Entry
from ..format.block import FrameState, closing, proven, scan_frame, whole_lines
from ..format.segment import SIGNATURE, TAIL_BYTES, footer_begins, footer_length, numbers, spread, step_of
from .run import LocalRun
from .segment_file import Segment


class Rescued(NamedTuple):
    """A block whose footer is missing: how many bytes of its frame are there, all bytes of its frame, and its ticks."""

    there: int
    frame: bytes
    lines: bytes
    ts: list[int]
    ats: list[int]


NOTHING: Final = Rescued(0, b"", b"", [], [])


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


def whole(data: bytes, ats: Sequence[int]) -> Rescued | None:
    """The block that data begins with, if its frame is whole and its checksum right; receive times as far as they are
    known, the last one for the rest."""
    found = proven(data)
    ts = numbers(found[0]) if found is not None else None
    if found is None or ts is None:
        return None
    known = [*ats[: len(ts)]]
    known += [known[-1] if known else 0] * (len(ts) - len(known))
    return Rescued(found[1], data[: found[1]], found[0], ts, known)


def cut_off(data: bytes) -> Rescued | None:
    """What there is of a block that breaks off."""
    if scan_frame(data).state is not FrameState.CUT:
        return None
    try:
        content, end = whole_lines(data)
    except Damaged:
        return None
    ts = numbers(content)
    if not ts:
        return None
    return Rescued(end, data[:end] + closing(data[:end], content), content, ts, [])


def blocks_in(data: bytes) -> Iterator[tuple[int, Rescued]]:
    """Every block in bytes that belong to none, if it is whole and its checksum right: where it begins, and its ticks.
    Their receive times are not known."""
    at = data.find(MAGIC)
    while at >= 0:
        found = whole(data[at:], [])
        if found is not None:
            yield at, found
        at = data.find(MAGIC, at + (found.there if found is not None else 1))


def adopt(run: LocalRun, segment: Segment, begin: int, end: int) -> str:
    """Let a run have what is whole in bytes of a segment that belong to no block; returns what is wrong with them.

    Raises:
        OSError: the file cannot be read.
    """
    count = 0
    for at, block in blocks_in(segment.load(begin, end)):
        place = placement_of(run, block.ts)
        if place is None:
            continue
        ats = spread(len(block.ts), *place.between(segment))
        entry = Entry(
            segment, begin + at, 0, ordinal=place.ordinal, first=block.ts[0], last=block.ts[-1], first_at=ats[0],
            last_at=ats[-1], count=len(block.ts), step=step_of(block.ts), size=len(block.lines),
            frame=len(block.frame), crc=crc32(block.frame),
        )  # fmt: skip
        run.entries.put(entry)
        run.know(entry.ordinal + entry.count, entry.last)
        count += entry.count
    return f"bytes {begin} to {end} belong to no block" + (f", but for {count} ticks" if count else "")


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

    def between(self, segment: Segment) -> tuple[int, int]:
        """Between which times its ticks came. Raises OSError where its file cannot be asked when it was changed."""
        before_at = self.before_at or segment.changed_at
        return self.after_at or before_at, before_at


def placement_of(run: LocalRun, ts: Sequence[int]) -> Placement | None:
    """Where a block of these numbers belongs among those of its run; None: some of them are there already.

    How many ticks are missing just before it is lost with its footer. Where it cannot be told otherwise, one is
    counted: readers are told of a gap where there may be one.
    """
    at = run.entries.below(ts[0])
    before = run.entries[at - 1] if at else None
    behind = run.entries[at] if at < len(run.entries) else None
    if (before is not None and before.last >= ts[0]) or (behind is not None and behind.first <= ts[-1]):
        return None
    known = [(number, t) for number, t in run.edges.items() if t < ts[0]]
    if before is not None:
        known.append((before.ordinal + before.count, before.last))
    least, tip = max(known, default=(0, -1))  # so many were published up to there, those that were deleted counted
    follows = ts[0] == tip + 1 if known else run.started == 0 or ts[0] <= run.origin
    fits = behind is not None and behind.ordinal <= least + len(ts)
    ordinal = least if follows or fits else least + 1
    after_at = before.last_at if before is not None else run.started
    return Placement(ordinal, after_at, behind.first_at if behind is not None else 0)
