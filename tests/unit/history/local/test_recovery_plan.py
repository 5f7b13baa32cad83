"""What is planned for a directory, by what was found in it: no file is read, and none is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded import AT
from tick_gateway.history.block_index import Blocks
from tick_gateway.history.format.journal import Ending, Flush, Journal, JournalHead
from tick_gateway.history.format.segment import MIN_FOOTER
from tick_gateway.history.local.recovery_plan import DirectoryPlan, RunPlan, plan_directory, plan_run
from tick_gateway.history.local.salvage import BareBlock, Rescued, Stray
from tick_gateway.history.local.scan import RunFacts, ScannedRun, ScannedSegment
from tick_gateway.history.local.segment_file import Segment, segment_name
from tick_gateway.history.local.tail_recovery import JournaledBlock, Remains, SegmentTail
from tick_gateway.history.stored_block import Entry

BLOCK = 100  # bytes of a block with its footer
CHANGED = AT + 1_000_000


def entry(segment: Segment, offset: int, ordinal: int, first: int, count: int) -> Entry:
    last = first + count - 1
    return Entry(
        segment, offset, 20, ordinal=ordinal, first=first, last=last, first_at=AT + first, last_at=AT + last,
        count=count, step=1, size=count * 10, frame=BLOCK - 20, crc=first,
    )  # fmt: skip


class Found:
    """A run's directory, made up: segments of blocks of ten ticks each, with nothing missing between them."""

    def __init__(self, *blocks: int, name: str = "R", seq: int = 3, started: int = AT) -> None:
        self.directory = Path("history") / name
        self.entries = Blocks()
        self.segments: list[ScannedSegment] = []
        self.facts: RunFacts | None = None
        self.count = 0
        for number in blocks:
            segment = Segment(self.directory / segment_name(self.count), number * BLOCK)
            for at in range(number):
                self.entries.append(entry(segment, at * BLOCK, self.count, self.count, 10))
                self.count += 10
            if started and number:
                self.facts = RunFacts(seq, started, 0, self.count, self.count - 1, False, False)
            walked = ScannedSegment(segment, number * BLOCK, CHANGED, bool(number), self.facts if number else None)
            self.segments.append(walked)
        for one in self.segments[:-1]:
            one.segment.sealed = True

    @property
    def last(self) -> ScannedSegment:
        return self.segments[-1]

    def journal(self, ticks: int = 0, ending: Ending = Ending.CLEAN, *, offset: int = 0) -> Journal:
        """Of the block behind the last one, with so many ticks in two flushes."""
        segment = self.last.segment
        head = JournalHead(3, AT, 0, self.count, segment.first, offset or segment.size)
        ts = list(range(self.count, self.count + ticks))
        flushes = [Flush(at + 10, 0, some, [AT + t for t in some]) for at, some in enumerate((ts[:1], ts[1:])) if some]
        return Journal(head, flushes, ending)

    def with_tail(self, tail: SegmentTail | None, at: int = -1, *, shortened: bool = False) -> None:
        """What lies behind the last footer of a segment."""
        one = self.segments[at]
        one.segment.shortened = shortened
        size = tail.end if tail is not None else one.size
        self.segments[at] = one._replace(size=size, tail=tail, walked=True)

    def scanned(self, journal: Journal | None = None) -> ScannedRun:
        return ScannedRun(self.directory, self.directory.name, None, "", journal, self.segments, self.entries)

    def plan(self, journal: Journal | None = None) -> RunPlan:
        return plan_run(self.scanned(journal))


def rescued(
    begin: int, first: int, count: int, *, there: int = 50, closing: bytes = b"", dated: bool = False
) -> Rescued:
    ts = list(range(first, first + count))
    return Rescued(begin, there, closing, 1, 10 * count, ts, [AT + t for t in ts] if dated else ())


def told(plan: RunPlan) -> list[object]:
    """A plan as values."""
    run = plan.run
    return [
        run.id, run.seq, run.started, run.total, run.tip, run.ended, list(run.entries), list(plan.after.entries),
        plan.after.total, plan.damage, plan.recoveries, plan.empty, plan.save_index, plan.unknown_since,
    ]  # fmt: skip


# ---- what is known of a run ----


def test_nothing_is_to_be_done_where_the_footers_say_all() -> None:
    """But for the index, which did not."""
    plan = Found(2, 1).plan()
    assert (plan.run.total, plan.run.tip, plan.run.seq, plan.run.started) == (30, 29, 3, AT)
    assert [one.first for one in plan.run.entries] == [0, 10, 20]
    assert plan.save_index and not (plan.recoveries or plan.empty or plan.damage or list(plan.tail_damage))
    plan.save_index = False
    assert plan.is_done


def test_blocks_that_others_have_are_left_out() -> None:
    found = Found(1, 1)
    copy = Segment(found.directory / segment_name(5), BLOCK)
    found.entries.append(entry(copy, 0, 5, 5, 10))
    found.segments.append(ScannedSegment(copy, BLOCK, CHANGED, True))
    plan = found.plan()
    assert [one.first for one in plan.run.entries] == [0, 10]
    assert plan.damage == [f"R/{copy.name}: the block at 0 has ticks 5 to 14 once more"]


def test_blocks_of_other_runs_are_told() -> None:
    found = Found(1)
    found.segments[0] = found.last._replace(foreign=[(7, "S")])
    assert found.plan().damage == [f"R/{found.last.segment.name}: at 7 is a block of run S"]


def test_a_run_without_footers_is_known_by_its_journal() -> None:
    found = Found(0)
    plan = found.plan(Journal(JournalHead(5, AT + 9, 7, 0, 0, 0), [], Ending.CLEAN))
    assert (plan.run.seq, plan.run.started, plan.run.origin, plan.unknown_since) == (5, AT + 9, 7, None)


def test_stray_blocks_are_put_where_they_belong() -> None:
    found = Found(3)
    lost = found.entries[1]
    found.entries.remove(lost)
    block = BareBlock(lost.offset, lost.frame, 5, 100, 10, 19, 10, 1)
    found.segments[0] = found.last._replace(strays=[Stray(BLOCK, 2 * BLOCK, [block])])
    plan = found.plan()
    assert [(one.first, one.ordinal, one.footer) for one in plan.run.entries] == [(0, 0, 20), (10, 10, 0), (20, 20, 20)]
    assert plan.damage == [f"R/{found.last.segment.name}: bytes 100 to 200 belong to no block, but for 10 ticks"]


# ---- ends that a crash left open ----


def open_tail(
    found: Found, flushed: int, size: int = 60, *, damaged: bool = False, uncounted: bool = False
) -> SegmentTail:
    """The open block, of which so many ticks are vouched for, and ten bytes more than those take."""
    begin = found.last.segment.size
    block = rescued(begin, found.count, flushed, closing=b"x", dated=True) if flushed else None
    journaled = JournaledBlock(begin, found.count, block, None, damaged, uncounted)
    return SegmentTail(begin, begin + size, journaled, Remains(begin, begin))


def test_an_open_block_is_cut_back_and_closed() -> None:
    found = Found(1)
    found.with_tail(open_tail(found, 3))
    plan = found.plan(found.journal(4))
    (recovery,) = plan.recoveries
    assert (recovery.keep, recovery.size, recovery.cut, recovery.ordinal) == (150, 160, 10, 10)
    assert recovery.block is not None and recovery.block.ts == [10, 11, 12]
    assert recovery.is_clean and not list(plan.tail_damage)
    assert len(plan.run.entries) == 1, "it is not closed before that is done"
    assert [one.last for one in plan.after.entries] == [9, 12]
    assert (plan.run.total, plan.after.total) == (10, 14), "the journal knows of one more, which is lost"


def test_damaged_bytes_are_kept_aside() -> None:
    found = Found(1)
    found.with_tail(open_tail(found, 3, damaged=True, uncounted=True))
    plan = found.plan(found.journal(3, Ending.DAMAGED))
    (recovery,) = plan.recoveries
    assert recovery.aside == (150, 160) and not recovery.is_clean
    assert list(plan.tail_damage) == [f"R/{found.last.segment.name}: bytes 150 to 160 are damaged"]
    assert plan.after.total == 14, "one more may be lost, nobody knows"


def test_an_open_block_of_which_nothing_is_vouched_for_goes() -> None:
    found = Found(1)
    found.with_tail(open_tail(found, 0))
    (recovery,) = found.plan(found.journal()).recoveries
    assert (recovery.keep, recovery.block, recovery.is_clean) == (BLOCK, None, True)


def remains(found: Found, size: int = 200, at: int = -1, **facts: object) -> SegmentTail:
    """Bytes that the journal says nothing of."""
    begin = found.segments[at].segment.size
    return SegmentTail(begin, begin + size, None, Remains(begin, begin + size, **{"footer_begins": False} | facts))  # type: ignore[arg-type]


@pytest.mark.parametrize("gone", [True, False], ids=["journal gone", "journal of another block"])
@pytest.mark.parametrize("shortened", [False, True])
@pytest.mark.parametrize("at", [-1, 0], ids=["last", "first"])
def test_a_block_without_a_checksum_is_believed_where_nothing_but_a_cut_happened(
    gone: bool, shortened: bool, at: int
) -> None:
    found = Found(1, 1)
    first = 20 if at else 40
    cut = rescued(BLOCK, first, 3)
    found.with_tail(remains(found, at=at, cut=cut), at, shortened=shortened)
    journal = None if gone else Journal(JournalHead(3, AT, 0, 0, 0, 0), [], Ending.CLEAN)
    (recovery,) = found.plan(journal).recoveries
    believed = shortened or (gone and at == -1)
    assert (recovery.block is not None, recovery.keep) == (believed, cut.end if believed else None)
    assert bool(recovery.damage) != believed


def test_an_open_block_whose_ticks_are_there_already_is_left_alone() -> None:
    """As where somebody copied a file: it stays where it is, and each tick is served once."""
    found = Found(1, 1)
    again = rescued(found.last.segment.size, 15, 9, dated=True)
    tail = open_tail(found, 3)
    assert tail.open is not None
    found.with_tail(tail._replace(open=tail.open._replace(flushed=again)))
    plan = found.plan(found.journal(3))
    (recovery,) = plan.recoveries
    assert (recovery.keep, recovery.block) == (None, None) and [one.last for one in plan.after.entries] == [9, 19]
    assert recovery.damage == "the block at 100 has ticks 15 to 23 once more"


def test_rubbish_that_is_shorter_than_a_footer_is_cut_off() -> None:
    """A block that was closed has a footer, one that was not has a journal: it is neither."""
    for size in (MIN_FOOTER - 1, MIN_FOOTER):
        found = Found(1)
        found.with_tail(remains(found, size))
        journal = Journal(JournalHead(3, AT, 0, 0, 0, 0), [], Ending.CLEAN)
        (recovery,) = found.plan(journal).recoveries
        assert (recovery.keep == BLOCK) == (size < MIN_FOOTER)


def test_a_seal_that_is_damaged_costs_nothing_but_itself() -> None:
    found = Found(1)
    found.with_tail(remains(found, footer=True))
    plan = found.plan()
    assert plan.recoveries[0].keep == BLOCK and list(plan.tail_damage) == [
        f"R/{found.last.segment.name}: the footer at 100 is damaged"
    ]


def test_damage_at_an_end_stays_and_its_whole_blocks_are_served() -> None:
    found = Found(1)
    block = BareBlock(130, 40, 5, 100, 10, 19, 10, 1)
    found.with_tail(remains(found, blocks=[block], whole=None))
    plan = found.plan(Journal(None, [], Ending.DAMAGED))
    (recovery,) = plan.recoveries
    assert recovery.keep is None and [(one.first, one.ordinal) for one in recovery.adopted] == [(10, 10)]
    assert recovery.damage == "bytes 100 to 300 belong to no block, but for 10 ticks"
    assert plan.after.total > plan.run.total == 10


def test_the_index_tells_how_much_a_crash_took() -> None:
    """Bytes at the end of a segment that is not the last one are no crash's."""
    found = Found(1, 1)
    found.with_tail(remains(found, 5, at=0), 0)
    plan = found.plan(Journal(JournalHead(3, AT, 0, 0, 0, 0), [], Ending.CLEAN))
    assert list(plan.tail_damage) == [f"R/{found.segments[0].segment.name}: 5 bytes at its end belonged to no block"]


def test_a_file_in_which_no_block_came_to_be_is_deleted() -> None:
    found = Found(1, 0)
    assert found.plan().empty == [found.last.segment.name]
    found.with_tail(remains(found, 5))
    plan = found.plan(Journal(JournalHead(3, AT, 0, 0, 0, 0), [], Ending.CLEAN))
    assert (plan.recoveries[0].keep, plan.empty) == (0, [found.last.segment.name])
    alone = Found(0).plan()
    assert alone.empty and not alone.save_index, "there is nothing to say"


# ---- a directory ----


def test_runs_in_the_order_in_which_they_began() -> None:
    runs = [Found(1, name=name, seq=seq).plan() for name, seq in (("b", 2), ("a", 5), ("c", 0))]
    plan = plan_directory(iter(runs))
    assert [one.run.id for one in plan.runs] == ["c", "b", "a"] and plan.damage == []


def test_a_run_of_which_nobody_knows_when_it_began_comes_behind_those_before_it() -> None:
    found = Found(0, name="stranger")
    found.with_tail(remains(found, cut=rescued(0, 0, 3)))
    late = Found(1, name="late", seq=9, started=CHANGED + 1)
    early = Found(1, name="early", seq=4)
    plan = plan_directory([found.plan(), late.plan(), early.plan()])
    assert [(one.run.id, one.run.seq) for one in plan.runs] == [("early", 4), ("stranger", 5), ("late", 9)]
    stranger = plan.runs[1]
    assert stranger.unknown_since == CHANGED and (stranger.run.started, stranger.after.started) == (0, CHANGED)


def test_two_directories_of_one_run() -> None:
    one, other = Found(1), Found(2)
    plan = plan_directory([one.plan(), plan_run(replace(other.scanned(), directory=Path("history/R~2")))])
    assert [len(found.run.entries) for found in plan.runs] == [1]
    assert plan.damage == ["R~2: run R has another folder, too; what is in this one is not read"]


def test_an_empty_directory() -> None:
    assert plan_directory([]) == DirectoryPlan([], [])


# ---- whatever was found ----


@st.composite
def tails(draw: st.DrawFn, begin: int, tip: int, least: int, *, journaled: bool) -> SegmentTail:
    """Any facts about the bytes behind a segment's last footer; ticks in them are not below ``least``."""
    size = draw(st.integers(1, 300))
    first = st.integers(max(tip - 5, least), max(tip, least) + 30)
    before = draw(st.sampled_from([0, 0, size // 2])) if journaled else size
    whole = draw(
        st.none() | st.builds(rescued, st.just(begin), first, st.integers(1, 9), there=st.integers(1, before or 1))
    )
    cut = None
    if whole is None:
        cut = draw(
            st.none() | st.builds(rescued, st.just(begin), first, st.integers(1, 9), there=st.integers(1, before or 1))
        )
    flags = [draw(st.booleans()) for _ in range(5)]
    bare = draw(first)
    blocks = [BareBlock(begin, 1, 0, 10, bare, bare + 4, 5, 1)] if draw(st.booleans()) and before else []
    rest = Remains(begin, begin + before)
    if before:
        rest = Remains(begin, begin + before, flags[0], flags[1], whole, flags[2], flags[3], cut, flags[4], blocks)
    if not journaled:
        return SegmentTail(begin, begin + size, None, rest)
    start, left = begin + before, size - before
    counts, here = st.integers(1, 9), st.just(start)
    behind = max([tip + 1, least, *_numbers(SegmentTail(0, 0, None, rest))])
    next_t = draw(st.integers(behind, behind + 3) | st.just(tip - 3 if tip > 3 else behind))  # what is there once more
    some = st.builds(rescued, here, st.just(next_t), counts, there=st.integers(1, left), dated=st.just(True))
    flushed = draw(st.none() | some)
    frame = draw(
        st.none() | st.builds(rescued, here, st.sampled_from([next_t, next_t + 1]), counts, there=st.just(left))
    )
    block = JournaledBlock(start, max(behind, next_t), flushed, frame, draw(st.booleans()), draw(st.booleans()))
    return SegmentTail(begin, begin + size, block, rest)


def _numbers(tail: SegmentTail) -> list[int]:
    """One more than each block's last number."""
    found = [one.ts[-1] + 1 for one in (tail.remains.whole, tail.remains.cut) if one is not None]
    return found + [one.last + 1 for one in tail.remains.blocks]


@settings(deadline=None)
@given(st.data(), st.lists(st.integers(0, 3), min_size=1, max_size=3), st.sampled_from(Ending), st.booleans())
def test_whatever_was_found(data: st.DataObject, blocks: list[int], ending: Ending, gone: bool) -> None:
    """No tick is there twice, what is missing is counted, no byte before a tail is touched, and the same facts come to
    the same plan."""
    found, least = Found(*blocks), 0
    journal: Journal | None = None if gone else found.journal(data.draw(st.integers(0, 9)), ending)
    for at in range(len(blocks)):
        if data.draw(st.booleans(), label="tail"):
            last = at == len(blocks) - 1
            begin, tip = found.segments[at].segment.size, sum(blocks[: at + 1]) * 10 - 1
            journaled = last and not gone and data.draw(st.booleans(), label="journaled")
            shortened = data.draw(st.booleans(), label="shortened")
            tail = data.draw(tails(begin, tip, least, journaled=journaled))
            found.with_tail(tail, at, shortened=shortened)
            least = max([least, *_numbers(tail)])
    plan = found.plan(journal)
    assert told(plan) == told(found.plan(journal)), "planning changes nothing of what was found"
    for one in plan.recoveries:
        assert one.keep is None or one.begin <= one.keep <= one.size
        assert one.keep is not None or one.block is None, "nothing is written behind damage"
        if one.aside is not None:
            assert one.keep is not None and one.keep <= one.aside[0] < one.aside[1] == one.size, "of what is cut off"
        if one.block is not None:
            assert one.keep == one.block.end and len(one.block.ats) == len(one.block.ts)
    end, tip = 0, -1
    for entry in plan.after.entries:
        assert entry.first > tip and entry.ordinal >= end
        end, tip = entry.ordinal + entry.count, entry.last
    assert plan.after.total >= max(end, plan.run.total)
    assert list(plan.run.entries) == [one for one in plan.after.entries if one in list(found.entries)]
