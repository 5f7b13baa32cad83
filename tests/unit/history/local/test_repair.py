"""What a repair plans for a segment, by what is wrong with its blocks. (What a repair does: ``test_verify``.)"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.recorded import AT
from tick_gateway.history.local.repair import KeptRange, SegmentRepair, plan_repair
from tick_gateway.history.local.run import LocalRun
from tick_gateway.history.local.segment_file import Segment, segment_name
from tick_gateway.history.stored_block import Entry

BLOCK, FOOTER, SEAL = 100, 20, 30  # bytes; those of a block with its footer


def made(blocks: int, *, bare: frozenset[int] = frozenset()) -> tuple[LocalRun, list[Entry]]:
    """A run in one segment; some of its blocks have lost their footers."""
    segment = Segment(Path(segment_name(0)), blocks * BLOCK)
    run = LocalRun("R", 3, AT, segments=[segment])
    for number in range(blocks):
        run.entries.append(Entry(
            segment, number * BLOCK, 0 if number in bare else FOOTER, ordinal=number, first=number, last=number,
            first_at=AT, last_at=AT, count=1, step=0, size=9, frame=BLOCK - FOOTER, crc=number,
        ))  # fmt: skip
    run.know(blocks, blocks - 1)
    return run, list(run.entries)


def planned(
    run: LocalRun, size: int, problems: dict[Entry, str], seals: list[tuple[int, int]] | None = None
) -> SegmentRepair | None:
    return plan_repair(run, run.segments[0], size, problems, seals or [])


def test_a_sound_segment_is_left_alone() -> None:
    run, entries = made(3)
    assert planned(run, 3 * BLOCK, dict.fromkeys(entries, "")) is None
    assert planned(run, 3 * BLOCK + SEAL, dict.fromkeys(entries, ""), [(3 * BLOCK, 3 * BLOCK + SEAL)]) is None


def test_a_damaged_block_is_cut_out() -> None:
    run, entries = made(3)
    repair = planned(run, 3 * BLOCK, dict.fromkeys(entries, "") | {entries[1]: "damaged"})
    assert repair is not None and repair.kept == [KeptRange(0, BLOCK), KeptRange(2 * BLOCK, 3 * BLOCK)]
    assert (repair.cuts, repair.lost, repair.seal) == ([(BLOCK, 2 * BLOCK)], [entries[1]], None)
    assert str(repair) == "100 bytes were cut out of it, and are kept beside it as .damaged files; ticks lost: 1 to 1"


@pytest.mark.parametrize("sealed", [False, True])
def test_what_was_published_last_and_is_lost_stays_known(sealed: bool) -> None:
    run, entries = made(2)
    seals = [(2 * BLOCK, 2 * BLOCK + SEAL)] if sealed else []
    repair = planned(run, 2 * BLOCK + SEAL * sealed, dict.fromkeys(entries, "") | {entries[1]: "damaged"}, seals)
    assert repair is not None and (repair.seal is None) == sealed, "a seal tells how much was published"
    assert sealed or (repair.seal is not None and (repair.seal.ordinal, repair.seal.last) == (2, 1))


def test_the_end_of_a_run_stays_known() -> None:
    run, entries = made(1)
    run.ended = True
    repair = planned(run, BLOCK, dict.fromkeys(entries, ""))
    assert repair is not None and repair.seal is not None and repair.seal.ended and not repair.cuts
    assert str(repair) == "was ended"


def test_a_block_that_lost_its_footer_gets_a_new_one() -> None:
    run, entries = made(2, bare=frozenset({0}))
    repair = planned(run, 2 * BLOCK, {entries[0]: "has lost its footer", entries[1]: ""})
    assert repair is not None and repair.kept[0] == KeptRange(0, BLOCK - FOOTER, entries[0])
    assert repair.cuts[0] == (BLOCK - FOOTER, BLOCK), "what is left of the old one"
    assert "1 block got a new footer" in str(repair)


@given(st.data(), st.integers(0, 6), st.integers(0, 50), st.booleans())
def test_whatever_is_wrong(data: st.DataObject, blocks: int, behind: int, sealed: bool) -> None:
    """Each byte is kept or cut, once; each sound block is kept, and no other."""
    numbers = st.frozensets(st.integers(0, max(blocks - 1, 0)))
    bare, wrong = data.draw(numbers, label="bare"), data.draw(numbers, label="damaged")
    run, entries = made(blocks, bare=bare)
    end = blocks * BLOCK + SEAL * sealed
    seals = [(blocks * BLOCK, end)] if sealed else []
    problems = {entry: "damaged" if number in wrong else "" for number, entry in enumerate(entries)}
    repair = planned(run, end + behind, problems, seals)
    if repair is None:
        assert not behind and not (wrong | bare) & set(range(blocks)) and end
        return
    parts = sorted([*((one.begin, one.end) for one in repair.kept), *repair.cuts])
    assert [begin for begin, _ in parts] == [0, *(stop for _, stop in parts)][: len(parts)]
    assert (parts[-1][1] if parts else 0) == end + behind
    kept = {one.begin for one in repair.kept}
    for number, entry in enumerate(entries):
        assert (entry.offset in kept) == (number not in wrong or not entry.footer)
    assert {one.bare for one in repair.kept if one.bare is not None} == {one for one in entries if not one.footer}
