"""The block index against a plain list of the same blocks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded import AT
from tests.support.stored_blocks import rows
from tick_gateway.history.block_index import Blocks
from tick_gateway.history.local.segment_file import Segment
from tick_gateway.history.record_page import HeldRecords
from tick_gateway.history.stored_block import Entry

FIELDS = (
    "volume", "offset", "footer", "ordinal", "first", "last", "first_at", "last_at", "count", "step", "size", "frame",
    "crc", "raw", "verified",
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("small_pages")


def _told(entries: Sequence[Entry]) -> list[list[object]]:
    return [[getattr(entry, name) for name in FIELDS] for entry in entries]


@settings(deadline=None, max_examples=60)
@given(rows(), st.integers(0, 200), st.integers(1, 3), st.integers(0, 40))
def test_it_is_a_list_that_is_bisected(entries: list[Entry], value: int, every: int, count: int) -> None:
    blocks = Blocks(entries)
    assert _told(list(blocks)) == _told(entries)
    assert _told(list(reversed(blocks))) == _told(entries[::-1])
    assert _told([blocks[at] for at in range(-len(entries), len(entries))]) == _told(entries + entries)
    assert (len(blocks), blocks.ticks) == (len(entries), sum(entry.count for entry in entries))
    assert blocks.after(value) == bisect_right(entries, value, key=lambda entry: entry.last)
    assert blocks.below(value) == bisect_left(entries, value, key=lambda entry: entry.first)
    assert blocks.upto(value) == bisect_right(entries, value, key=lambda entry: entry.first)
    assert blocks.since(AT + value) == bisect_left(entries, AT + value, key=lambda entry: entry.last_at)
    assert blocks.has(value) == any(entry.ordinal == value for entry in entries)
    assert all(entry in blocks for entry in entries)
    left, upto, before = blocks.back(value, count, every)
    passed = [entry for entry in entries if upto < entry.last and entry.first <= value]
    if upto != value:
        assert all(entry.last <= value and entry.first > upto for entry in passed)
        numbers = [t for entry in passed for t in range(entry.first, entry.last + 1, entry.step or 1)]
        assert count - left == sum(t % every == 0 for t in numbers)
        assert (before is None) == (count == left)
        assert before is None or upto <= before < min(t for t in numbers if t % every == 0)


@settings(deadline=None, max_examples=40)
@given(rows(), st.integers(0, 40))
def test_what_is_taken_away_is_gone(entries: list[Entry], number: int) -> None:
    if not entries:
        return
    one = entries[number % len(entries)]
    blocks = Blocks(entries)
    assert _told(blocks.of(one.volume)) == _told([entry for entry in entries if entry.volume is one.volume])
    same = Blocks(blocks)
    same.drop(one.volume)
    assert _told(list(same)) == _told([entry for entry in entries if entry.volume is not one.volume])
    blocks.remove(one)
    assert _told(list(blocks)) == _told([entry for entry in entries if entry is not one])
    assert one not in blocks and one not in same
    blocks.put(one)
    assert _told(list(blocks)) == _told(entries)
    files = [(file.volume, file.first, file.last, file.ticks) for file in blocks.files]
    assert [file[0] for file in files] == list(dict.fromkeys(entry.volume for entry in entries))
    assert sum(file[3] for file in files) == blocks.ticks


@settings(deadline=None, max_examples=60)
@given(rows(), st.integers(0, 40), st.integers(0, 200))
def test_how_far_nothing_is_missing(entries: list[Entry], number: int, high: int) -> None:
    if not entries:
        return
    at = number % len(entries)
    expected = entries[at].last
    for before, entry in zip(entries[at:], entries[at + 1 :], strict=False):
        if entry.ordinal != before.ordinal + before.count or entry.last > high:
            break
        expected = entry.last
    if entries[at].last < high:
        assert Blocks(entries).unbroken(at, high) == expected


@settings(deadline=None, max_examples=60)
@given(rows(), st.integers(0, 40))
def test_a_block_is_taken_away(entries: list[Entry], number: int) -> None:
    blocks, before = Blocks(entries), Blocks(entries)
    if not entries:
        return
    gone = entries[number % len(entries)]
    blocks.remove(gone)
    left = [entry for entry in entries if entry is not gone]
    assert _told(list(blocks)) == _told(left) and len(blocks) == len(left)
    assert [blocks[at].ordinal for at in range(len(left))] == [entry.ordinal for entry in left]
    assert gone not in blocks and list(before) == entries
    for t in range(entries[-1].last + 2):
        assert blocks.after(t) == bisect_right(left, t, key=lambda entry: entry.last)
    with pytest.raises(ValueError, match="begins with tick"):
        blocks.remove(gone)


def test_what_was_verified_stays_so_while_it_is_looked_at() -> None:
    volume = Segment(Path("0"))
    entries = [
        Entry(volume, 100 * n, 10, ordinal=n, first=n, last=n, first_at=AT, last_at=AT, count=1, step=0, size=9,
              frame=90, crc=n)
        for n in range(12)
    ]  # fmt: skip
    blocks = Blocks(entries)
    blocks[0].verified = True
    assert blocks[0].verified
    for at in range(12):  # the page is packed again
        assert blocks[at].first == at
    assert blocks[0].verified and not blocks[1].verified


@settings(deadline=None, max_examples=60)
@given(rows(), st.lists(st.integers(0, 40), max_size=3), st.integers(0, 200))
def test_records_that_are_elsewhere_from_now_on(entries: list[Entry], lost: list[int], t: int) -> None:
    """In index files: of blocks that were taken away before, too, which these still have."""
    blocks, left = Blocks(entries), list(entries)
    for number in lost:
        if left:
            blocks.remove(left.pop(number % len(left)))
    copy = Blocks(blocks)
    files = {id(entry.volume): entry.volume for entry in entries}
    for volume in files.values():
        there = HeldRecords(entry for entry in entries if entry.volume is volume)
        blocks.settle({volume: there})
        assert all(one.records is there for one in blocks.ranges(volume))
        assert len(blocks.ranges(volume)) <= 1 + len(lost)
    for one in (blocks, copy):
        assert _told(list(one)) == _told(left)
        assert one.after(t) == bisect_right(left, t, key=lambda entry: entry.last)
        assert one.ticks == sum(entry.count for entry in left)
    if not lost:
        assert [one.volume for one in blocks.files] == [one.volume for one in blocks._ranges]


@settings(deadline=None, max_examples=40)
@given(rows())
def test_what_is_added_to_one_index_is_not_in_its_copy(entries: list[Entry]) -> None:
    half = len(entries) // 2
    blocks = Blocks(entries[:half])
    copy = Blocks(blocks)
    assert _told(list(copy)) == _told(entries[:half])
    for entry in entries[half:]:
        blocks.append(entry)
        assert len(copy) == half
    copy.extend(entries[half:])
    assert _told(list(copy)) == _told(list(blocks)) == _told(entries)
