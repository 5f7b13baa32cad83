"""Recovers the end of a segment after a crash: the open block is cut back to what is vouched for, and closed.

        the journal is of this block     its flushes, up to the first CRC that does not match
        the frame is complete            its own checksum vouches for it: only the footer is missing
    the file was longer once, or     the whole parts of the frame. Nothing but the cut is known to have happened to
    its journal is gone              them: this is the one place where bytes are believed without a checksum
    anything else                    is damage: it stays where it is, is not served, and nothing is written behind it

First the bytes after the last footer are described (``describe``), then a plan is made (``plan_tail``), then it is
applied (``apply_plan``), in place: bytes are cut off the end, others are appended. So it can be interrupted anywhere
and repeated. Damage in the middle of a segment, or to several blocks at once, is left to ``repair``.

Pure: bytes in, a plan out; no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...errors import Damaged
from ..format.block import FrameState, scan_frame, whole_lines
from ..format.journal import Ending, Flush, Journal, vouched
from ..format.segment import MAX_SEAL, MIN_FOOTER
from ..stored_block import Entry
from .run import LocalRun
from .salvage import (
    BareBlock,
    Placement,
    Rescued,
    Stray,
    adopt,
    begins_footer,
    blocks_in,
    cut_block,
    flushed_block,
    is_footer,
    placement_of,
    take,
    told_of,
    whole_block,
)
from .segment_file import Segment

# ---- description ----


class JournaledBlock(NamedTuple):
    """The block of a run's journal.

    Attributes:
        begin: its offset in the file; it extends to the file's end.
        ordinal: how many ticks its run published before it.
        flushed: the part that its flushes vouch for; None: nothing.
        whole: all of it, if its frame is complete; else None.
        damaged: it or its journal is damaged, beyond being cut off.
        uncounted: an unknown number of ticks after the last flush may be lost, because the journal is damaged.
    """

    begin: int
    ordinal: int
    flushed: Rescued | None
    whole: Rescued | None
    damaged: bool
    uncounted: bool


class Remains(NamedTuple):
    """Bytes after a segment's last footer that its journal does not describe.

    Attributes:
        begin, end: offsets in the file.
        footer: they are one footer, possibly damaged.
        footer_begins: they are the beginning of one, or empty.
        whole: the block at their beginning, if it is complete.
        footer_behind: after that is one footer, possibly damaged, and nothing else.
        footer_begins_behind: after that is the beginning of one, or nothing.
        cut: the block at their beginning, if it is cut off.
        frame_begins: a frame begins without even one complete part.
        blocks: all complete blocks in them.
    """

    begin: int
    end: int
    footer: bool = False
    footer_begins: bool = True
    whole: Rescued | None = None
    footer_behind: bool = False
    footer_begins_behind: bool = False
    cut: Rescued | None = None
    frame_begins: bool = False
    blocks: Sequence[BareBlock] = ()


class SegmentTail(NamedTuple):
    """What follows the last footer of a segment.

    Attributes:
        begin, end: offsets: the last footer's end, and the file's end.
        open: the journal's block, if it begins there.
        remains: what comes before that block; everything, if there is none.
    """

    begin: int
    end: int
    open: JournaledBlock | None
    remains: Remains


def describe(data: bytes, begin: int, first: int, journal: Journal | None) -> SegmentTail:
    """Describe the bytes after a segment's last footer.

    Args:
        begin: their offset in the file.
        first: the number in the segment's name.
        journal: the run's.
    """
    end = begin + len(data)
    head = journal.head if journal is not None else None
    if journal is None or head is None or head.segment != first or not begin <= head.offset < end:
        return SegmentTail(begin, end, None, _remains(data, begin))
    at = head.offset - begin
    return SegmentTail(
        begin, end, _open_block(data[at:], head.offset, head.ordinal, journal), _remains(data[:at], begin)
    )


def _open_block(data: bytes, begin: int, ordinal: int, journal: Journal) -> JournaledBlock:
    flushes = vouched(data, journal.flushes)
    unreadable = journal.ending is Ending.DAMAGED
    damaged = unreadable
    if len(flushes) < len(journal.flushes):
        damaged = journal.flushes[len(flushes)].end <= len(data)
    return JournaledBlock(begin, ordinal, _flushed(data, begin, flushes), whole_block(data, begin), damaged, unreadable)


def _flushed(data: bytes, begin: int, flushes: Sequence[Flush]) -> Rescued | None:
    """The part of a block that these flushes, with matching CRCs, vouch for."""
    if not flushes:
        return None
    ts = [t for flush in flushes for t in flush.ts]
    try:
        lines, end = whole_lines(data[: flushes[-1].end])
    except Damaged:
        return None
    if end != flushes[-1].end or lines.count(b"\n") != len(ts) or not ts:
        return None  # a journal would not have been written like this
    ats = [at for flush in flushes for at in flush.ats]
    return flushed_block(data, begin, end, lines, ts)._replace(ats=ats)


def _remains(data: bytes, begin: int) -> Remains:
    end = begin + len(data)
    if not data:
        return Remains(begin, end)
    found = scan_frame(data)
    whole = whole_block(data, begin)
    rest = data[whole.there :] if whole is not None else b""
    return Remains(
        begin, end, is_footer(data), begins_footer(data), whole, whole is not None and is_footer(rest),
        whole is not None and begins_footer(rest), cut_block(data, begin) if whole is None else None,
        found.state is FrameState.CUT and not found.ends, list(blocks_in(data, begin)),
    )  # fmt: skip


# ---- plan ----


class Recovery(NamedTuple):
    """What to do about a segment's tail.

    Attributes:
        file: the segment's name.
        begin: offset of the tail.
        size: of the file before anything is done.
        keep: the file is cut to this size; None: it is not cut.
        aside: begins and ends of damaged bytes that are kept in another file when they are cut off.
        block: the block that is closed, with its recoverable part; None: none is.
        ordinal: of that block.
        adopted: blocks without footers that are served from where they are.
        damage: a description of what is wrong beyond the effects of a crash; empty: nothing.
    """

    file: str
    begin: int
    size: int
    keep: int | None
    aside: tuple[int, int] | None = None
    block: Rescued | None = None
    ordinal: int = 0
    adopted: Sequence[Entry] = ()
    damage: str = ""

    @property
    def cut(self) -> int:
        """Number of bytes that are cut off."""
        return 0 if self.keep is None else self.size - self.keep

    @property
    def is_clean(self) -> bool:
        """Whether it only closes an open block, as after a crash or in a copy made while a gateway was running, and
        nothing is damaged."""
        return self.keep is not None and self.aside is None and not self.damage


class _Decision(NamedTuple):
    """What to do, before its effects on the run are known; see ``Recovery``. ``lost``: an unknown number of ticks after
    the last one may be lost."""

    keep: int | None
    aside: tuple[int, int] | None = None
    block: Rescued | None = None
    ordinal: int = 0
    lost: bool = False
    damage: str = ""


def plan_tail(
    run: LocalRun, segment: Segment, tail: SegmentTail, journal: Journal | None, *, last: bool, changed_at: int
) -> Recovery:
    """Decide what to do about a segment's tail, and update ``run`` to its state after that.

    Args:
        last: this is the run's last segment.
        changed_at: when its file was changed, ms since the epoch.
    """
    decision = _decide(run, segment, tail, journal, last=last, changed_at=changed_at)
    if (block := decision.block) is not None and placement_of(run, block.ts[0], block.ts[-1], len(block.ts)) is None:
        # Files may have been copied there: every tick is served once.
        damage = f"the block at {block.begin} has ticks {block.ts[0]} to {block.ts[-1]} once more"
        return Recovery(segment.name, tail.begin, tail.end, None, damage=damage)
    keep, aside, block, ordinal, lost, damage = decision
    if block is not None:
        if not run.started:  # no footer and no journal of it is left
            run.started, run.origin = block.ats[0], block.ts[0]
        take(run, _entry_of(segment, block, ordinal))
    adopted: list[Entry] = []
    remains = Stray(tail.remains.begin, tail.remains.end, list(tail.remains.blocks))
    before = block.begin if block is not None else keep  # the remains before it are left
    if before is None or tail.begin < before:
        adopted = adopt(run, segment, remains, changed_at)
        damage = "; ".join(filter(None, (told_of(remains, adopted), damage)))
    if lost:
        run.know(run.stored + 1, -1)
    return Recovery(segment.name, tail.begin, tail.end, keep, aside, block, ordinal, adopted, damage)


def _entry_of(segment: Segment, block: Rescued, ordinal: int) -> Entry:
    """The entry of a block whose footer has yet to be written."""
    return Entry(
        segment, block.begin, 0, ordinal=ordinal, first=block.ts[0], last=block.ts[-1], first_at=block.ats[0],
        last_at=block.ats[-1], count=len(block.ts), step=0, size=block.size, frame=block.frame, crc=block.crc,
    )  # fmt: skip


def _decide(
    run: LocalRun, segment: Segment, tail: SegmentTail, journal: Journal | None, *, last: bool, changed_at: int
) -> _Decision:
    if tail.open is not None:
        decision = _decide_open(run, tail.open, tail.end, changed_at)
        if decision.block is not None or tail.open.begin == tail.begin:
            return decision
        before = _decide_remains(run, tail.remains, cut=False, last=last, changed_at=changed_at)
        keep = tail.open.begin if before.keep is None else before.keep
        damage = "; ".join(filter(None, (before.damage, decision.damage)))
        return before._replace(keep=keep, aside=decision.aside, lost=before.lost or decision.lost, damage=damage)
    head = journal.head if journal is not None else None
    gone = journal is None or (head is None and journal.ending is not Ending.DAMAGED)  # or too short to be told
    forgotten = gone and last and not run.ended
    moved_on = head is not None and head.segment == segment.first and head.offset > tail.end
    shortened = segment.shortened or moved_on
    if head is not None and not shortened and tail.end - tail.begin < MIN_FOOTER:
        # A closed block has a footer, an open one a journal: this has neither.
        return _Decision(tail.begin)
    return _decide_remains(run, tail.remains, cut=forgotten or shortened, last=last, changed_at=changed_at)


def _decide_open(run: LocalRun, found: JournaledBlock, end: int, changed_at: int) -> _Decision:
    """Decide about the journal's block."""
    block, flushed = found.flushed, list(found.flushed.ts) if found.flushed is not None else []
    aside: tuple[int, int] | None = None
    damage = ""
    whole = found.whole
    if whole is not None and list(whole.ts[: len(flushed)]) == flushed:  # only its footer is missing
        placement = placement_of(run, whole.ts[0], whole.ts[-1], len(whole.ts)) if block is None else None
        block = _dated(whole, block.ats if block is not None else (), placement, changed_at)
    elif found.damaged and (kept := block.end if block is not None else found.begin) < end:
        aside = kept, end
        damage = f"bytes {kept} to {end} are damaged"
    keep = block.end if block is not None else found.begin
    return _Decision(keep, aside, block, found.ordinal, aside is not None and found.uncounted, damage)


def _dated(block: Rescued, ats: Sequence[int], placement: Placement | None, changed_at: int) -> Rescued:
    """A complete block with receive times: those that were flushed, and the last of them for the rest; or estimates
    from its neighbours."""
    if placement is not None:
        return block._replace(ats=placement.spread(len(block.ts), changed_at))
    known = [*ats[: len(block.ts)]]
    return block._replace(ats=known + [known[-1] if known else 0] * (len(block.ts) - len(known)))


def _decide_remains(run: LocalRun, remains: Remains, *, cut: bool, last: bool, changed_at: int) -> _Decision:
    """Decide about a block that the journal does not describe.

    Args:
        cut: as far as is known, only the end is missing.
        last: this is the run's last segment.
    """
    nothing = _Decision(remains.begin)
    if remains.footer:  # a seal: nothing is lost with it
        return nothing._replace(damage=f"the footer at {remains.begin} is damaged")
    if remains.footer_begins and (cut or remains.end - remains.begin < MAX_SEAL):
        return nothing
    block = remains.whole
    if block is not None and not remains.footer_behind and not (cut and remains.footer_begins_behind):
        block = None  # more follows, possibly blocks
    if block is None and cut:
        block = remains.cut
    placement = placement_of(run, block.ts[0], block.ts[-1], len(block.ts)) if block is not None else None
    if block is not None and placement is not None:
        block = block._replace(ats=placement.spread(len(block.ts), changed_at))
        return _Decision(block.end, None, block, placement.ordinal, cut and last)
    if cut and remains.frame_begins:
        return nothing._replace(lost=last)
    return nothing._replace(keep=None, lost=last)
