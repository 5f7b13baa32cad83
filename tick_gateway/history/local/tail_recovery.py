"""What a crash leaves: the open block is cut back to what is vouched for, and closed.

    the journal is of this block     its flushes, as far as their CRCs are right
    the frame is whole               its own checksum vouches for it: only the footer is missing
    the file was longer once, or     the whole parts of the frame. Nothing but the cut is known to have happened to
    its journal is gone              them: this is the one place where bytes are believed without a checksum
    anything else                    is damage: it stays where it is, is not served, and nothing is written behind it

What is to be done is found first, which changes nothing; then it is done in place: bytes are cut off the end, others
are appended. So it can be interrupted anywhere and done again. Damage in the middle of a segment, or of several blocks
at once, is left to ``repair``.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from ...errors import Damaged
from ..block_index import Block, Entry
from ..format.block import FrameState, closing, scan_frame, whole_lines
from ..format.journal import Ending, Flush, JournalHead, Journal, vouched
from ..format.segment import MAX_SEAL, MIN_FOOTER, spread
from ..stored_run import UnclosedBlock
from .directory import read_journal
from .disk import set_aside, write_at
from .run import LocalRun
from .salvage import NOTHING, Rescued, adopt, begins_footer, cut_off, is_footer, placement_of, whole
from .segment_file import Segment


class Recovered(NamedTuple):
    """What became of a segment's tail.

    Attributes:
        entry: the entry of its block, if anything came back.
        cut: torn bytes that were cut off.
        damage: what is wrong beyond what a crash explains, as a sentence; empty: nothing.
    """

    entry: Entry | None = None
    cut: int = 0
    damage: str = ""


class Plan(NamedTuple):
    """What is to be done about a segment's tail.

    Attributes:
        begin: where its block begins.
        rescued: the block, as far as it comes back.
        ordinal: of the block.
        size: of the file before anything is done.
        keep: the file is cut behind these; None: it is left as it is.
        aside: bytes that are kept elsewhere when they are cut off: damaged ones, and from where.
        lost: ticks behind the last one may be lost, nobody knows which.
        damage: as in ``Recovered``.
    """

    begin: int
    rescued: Rescued
    ordinal: int
    size: int
    keep: int | None
    aside: tuple[int, bytes] | None = None
    lost: bool = False
    damage: str = ""


def recover_tail(run: LocalRun, segment: Segment) -> Recovered:
    """Close the block behind the last footer of a segment, if there is one, and add it to its run.

    Afterwards ``segment.size`` is the file's size, unless what is behind it is damaged.

    Raises:
        OSError: the files cannot be read or written; what they hold is as good as before.
        HistoryError: the journal is of a format that this program does not know.
    """
    plan = _plan(run, segment)
    return _carry_out(run, segment, plan) if plan is not None else Recovered()


def peek_tail(run: LocalRun, segment: Segment) -> UnclosedBlock | None:
    """What ``recover_tail`` will bring back once the disk can be written to.

    Raises:
        OSError: the files cannot be read.
        HistoryError: as ``recover_tail``.
    """
    plan = _plan(run, segment)
    if plan is None or not plan.rescued.ts:
        return None
    _introduce(run, plan.rescued)
    return UnclosedBlock(plan.ordinal, Block(plan.rescued.lines, plan.rescued.ts, plan.rescued.ats))


def is_open(run: LocalRun, segment: Segment) -> bool:
    """Whether what is behind the last footer of a segment is no more than an open block, as a crash leaves it, or a
    copy that is made beside a gateway: ``recover_tail`` closes it, and nothing is damaged.

    Raises:
        OSError, HistoryError: as ``peek_tail``.
    """
    plan = _plan(run, segment)
    return plan is None or (plan.keep is not None and plan.aside is None and not plan.damage)


# ---- what is to be done ----


def _plan(run: LocalRun, segment: Segment) -> Plan | None:
    """What is to be done about a segment's tail; None: it has none. What its journal says of the run is taken in."""
    journal = read_journal(segment.path.parent)
    head = journal.head if journal is not None else None
    if journal is not None and head is not None:
        _learn(run, head, journal)
    data = segment.load(segment.size)
    if not data:
        return None
    size = segment.size + len(data)
    ours = head is not None and head.segment == segment.first
    last = segment is run.segments[-1]
    if journal is not None and head is not None and ours and segment.size <= head.offset < size:
        plan = _plan_vouched(run, segment, data[head.offset - segment.size :], head, journal)
        if plan.rescued.ts or head.offset == segment.size:
            return plan
        before = _plan_unvouched(run, segment, data[: head.offset - segment.size], cut=False, last=last)
        keep = head.offset if before.keep is None else before.keep
        lost, damage = before.lost or plan.lost, _both(before.damage, plan.damage)
        return before._replace(size=size, keep=keep, aside=plan.aside, lost=lost, damage=damage)
    gone = journal is None or (head is None and journal.ending is not Ending.DAMAGED)  # or too short to say anything
    forgotten = gone and last and not run.ended
    shortened = segment.shortened or (head is not None and ours and head.offset > size)
    if head is not None and not shortened and len(data) < MIN_FOOTER:
        # A block that was closed has a footer, one that was not has a journal: this is neither.
        return Plan(segment.size, NOTHING, 0, size, segment.size)
    return _plan_unvouched(run, segment, data, cut=forgotten or shortened, last=last)


def _learn(run: LocalRun, head: JournalHead, journal: Journal) -> None:
    """Take from a journal how much was published, whatever is left of it. (Not the tip: what was not acknowledged will
    be sent again, and has to find room.)"""
    run.know(head.ordinal + sum(len(flush.ts) for flush in journal.flushes), -1)


def _plan_vouched(run: LocalRun, segment: Segment, data: bytes, head: JournalHead, journal: Journal) -> Plan:
    """For the block that the journal is of."""
    flushes = vouched(data, journal.flushes)
    rescued = _flushed(data, flushes)
    unbroken = whole(data, rescued.ats)
    aside: tuple[int, bytes] | None = None
    damage = ""
    if unbroken is not None and unbroken.ts[: len(rescued.ts)] == rescued.ts:
        place = placement_of(run, unbroken.ts) if not rescued.ats else None  # it was closed before it was flushed
        ats = unbroken.ats if place is None else spread(len(unbroken.ts), *place.between(segment))
        rescued = unbroken._replace(ats=ats)  # it lacks its footer alone
    elif rescued.there < len(data) and _is_damaged(data, journal, len(flushes)):
        aside = head.offset + rescued.there, data[rescued.there :]
        damage = f"bytes {aside[0]} to {head.offset + len(data)} are damaged"
    lost = aside is not None and journal.ending is Ending.DAMAGED
    size, keep = head.offset + len(data), head.offset + rescued.there
    return Plan(head.offset, rescued, head.ordinal, size, keep, aside, lost, damage)


def _is_damaged(data: bytes, journal: Journal, sound: int) -> bool:
    """Whether more than a cut has happened to a block or its journal."""
    if sound < len(journal.flushes):
        return journal.flushes[sound].end <= len(data)
    return journal.ending is Ending.DAMAGED


def _plan_unvouched(run: LocalRun, segment: Segment, data: bytes, *, cut: bool, last: bool) -> Plan:
    """For a block that the journal is not of.

    Args:
        cut: nothing is known to have happened but that the end is missing.
        last: it is the run's last one.
    """
    begin = segment.size
    nothing = Plan(begin, NOTHING, 0, begin + len(data), begin)
    if is_footer(data):  # a mark: nothing is lost with it
        return nothing._replace(damage=f"the footer at {begin} is damaged")
    if begins_footer(data) and (cut or len(data) < MAX_SEAL):
        return nothing
    rescued = whole(data, [])
    if rescued is not None:
        rest = data[rescued.there :]
        if not is_footer(rest) and not (cut and begins_footer(rest)):
            rescued = None  # there is more behind it: see ``adopt``
    if rescued is None and cut:
        rescued = cut_off(data)
    place = placement_of(run, rescued.ts) if rescued is not None else None
    if rescued is not None and place is not None:
        rescued = rescued._replace(ats=spread(len(rescued.ts), *place.between(segment)))
        return nothing._replace(
            rescued=rescued, ordinal=place.ordinal, keep=begin + rescued.there, lost=cut and last
        )  # fmt: skip
    if cut and scan_frame(data).state is FrameState.CUT and not scan_frame(data).ends:  # not even one part of it is there
        return nothing._replace(lost=last)
    return nothing._replace(keep=None, lost=last)


def _flushed(data: bytes, flushes: Sequence[Flush]) -> Rescued:
    """The block as far as these flushes have it, whose CRCs are right."""
    ts = [t for flush in flushes for t in flush.ts]
    try:
        content, end = whole_lines(data[: flushes[-1].end]) if flushes else (b"", 0)
    except Damaged:
        return NOTHING
    if not flushes or end != flushes[-1].end or content.count(b"\n") != len(ts):
        return NOTHING  # it was not written as a journal has to be
    ats = [at for flush in flushes for at in flush.ats]
    return Rescued(end, data[:end] + closing(data[:end], content), content, ts, ats)


# ---- doing it ----


def _carry_out(run: LocalRun, segment: Segment, plan: Plan) -> Recovered:
    begin, damage, entry = segment.size, plan.damage, None
    if plan.keep is None:
        damage = adopt(run, segment, begin, plan.size)
    else:
        if plan.aside is not None:
            set_aside(segment.path, *plan.aside)
        if plan.rescued.ts:
            _introduce(run, plan.rescued)
        entry = _rewrite_tail(run, segment, plan, plan.keep)
    if entry is not None:
        segment.size = entry.offset + entry.frame + entry.footer
        run.entries.put(entry)
        run.know(entry.ordinal + entry.count, entry.last)
    strays = plan.begin if entry is not None else plan.keep or begin
    if begin < strays:
        damage = _both(adopt(run, segment, begin, strays), damage)
    if plan.lost:
        run.know(run.stored + 1, -1)
    return Recovered(entry, 0 if plan.keep is None else plan.size - plan.keep, damage)


def _rewrite_tail(run: LocalRun, segment: Segment, plan: Plan, keep: int) -> Entry | None:
    """Cut a segment, and write what is missing of the block behind it, with its footer."""
    rescued, entry = plan.rescued, None
    with segment.path.open("r+b") as file:
        os.ftruncate(file.fileno(), keep)
        if rescued.ts:
            footer = run.footer(
                plan.ordinal, rescued.ts, rescued.ats,
                size=len(rescued.lines), frame=len(rescued.frame), crc=crc32(rescued.frame),
            )  # fmt: skip
            packed = footer.pack()
            write_at(file.fileno(), rescued.frame[rescued.there :] + packed, keep)
            entry = Entry.of(segment, plan.begin, footer, len(packed))
        os.fsync(file.fileno())
    return entry


def _both(one: str, other: str) -> str:
    return "; ".join(filter(None, (one, other)))


def _introduce(run: LocalRun, rescued: Rescued) -> None:
    """What is not known of a run of which no footer and no journal is left."""
    if not run.started:
        run.started, run.origin = rescued.ats[0], rescued.ts[0]
