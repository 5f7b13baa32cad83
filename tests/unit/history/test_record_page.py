"""Pages of records, and those that are in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tick_gateway.history.format.block_record import BEFORE, COUNT, FIRST, LAST_AT, ORDINAL
from tick_gateway.history.local.segment_file import Segment
from tick_gateway.history.record_page import HeldEntries, HeldRecords, RecordPage
from tick_gateway.history.stored_block import Entry, Page

VOLUME = Segment(Path("0.jsonl.zst"))


def entries(count: int) -> list[Entry]:
    """Blocks of three ticks each, one behind the other."""
    return [
        Entry(
            VOLUME, 160 * number, 60, ordinal=3 * number, first=10 * number, last=10 * number + 2,
            first_at=1000 * number, last_at=1000 * number + 5, count=3, step=1, size=300, frame=100, crc=number,
        )
        for number in range(count)
    ]  # fmt: skip


def held_entries(some: list[Entry]) -> HeldEntries:
    held = HeldEntries()
    for entry in some:
        held.add(entry)
    return held


SOURCES: list[Callable[[list[Entry]], HeldRecords | HeldEntries]] = [HeldRecords, held_entries]


@pytest.mark.parametrize("make", SOURCES)
def test_a_page_says_what_was_added(make: Callable[[list[Entry]], HeldRecords | HeldEntries]) -> None:
    some = entries(7)
    source = make(some)
    page = source.page(2, 5, VOLUME)
    assert len(source) == 7
    assert [page.entry(number) for number in range(3)] == some[2:5]
    fields = (FIRST, LAST_AT, ORDINAL, COUNT, BEFORE)
    told = [[page.value(number, field) for field in fields] for number in range(3)]
    assert told == [[10 * at, 1000 * at + 5, 3 * at, 3, 3 * at] for at in (2, 3, 4)]


@pytest.mark.parametrize("make", SOURCES)
def test_a_page_in_memory_has_what_is_added_later(make: Callable[[list[Entry]], HeldRecords | HeldEntries]) -> None:
    some = entries(5)
    source = make(some[:3])
    page = source.page(0, 3, VOLUME)
    for entry in some[3:]:
        source.add(entry)
    assert [page.entry(number) for number in range(5)] == some


def test_a_page_remembers_which_blocks_were_verified() -> None:
    source = HeldRecords(entries(4))
    page: Page = source.page(0, 4, VOLUME)
    page.entry(1).verified = page.entry(3).verified = True
    assert page.verified == 0b1010
    again: Page = source.page(0, 4, VOLUME)
    again.verified = page.verified
    assert [again.entry(number).verified for number in range(4)] == [False, True, False, True]
    again.entry(0).verified = True
    assert again.verified == 0b1011


def test_a_page_makes_an_entry_once() -> None:
    page = HeldRecords(entries(2)).page(0, 2, VOLUME)
    assert isinstance(page, RecordPage) and page.entry(1) is page.entry(1)


def test_entries_of_other_programs_files_are_handed_out_themselves() -> None:
    some = entries(2)
    assert held_entries(some).page(0, 2, VOLUME).entry(1) is some[1]


def test_records_are_packed_as_in_an_index_file() -> None:
    """Those packed twice are the same bytes; those of another segment are not."""
    held = HeldRecords(entries(3))
    assert held.pack(1) == HeldRecords(entries(3)).pack(1) != held.pack(2)
