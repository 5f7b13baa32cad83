"""The block index against a plain list of the same blocks."""

from __future__ import annotations

import errno
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded import AT
from tick_gateway.bus.ring import Run
from tick_gateway.history.block_index import Blocks
from tick_gateway.history.local.segment_file import Segment
from tick_gateway.history.record_page import HeldRecords, Page
from tick_gateway.history.run_history import RunHistory
from tick_gateway.history.stored_block import Entry, Volume

FIELDS = (
    "volume", "offset", "footer", "ordinal", "first", "last", "first_at", "last_at", "count", "step", "size", "frame",
    "crc", "raw", "verified",
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_pages() -> object:
    """Pages of three blocks, of which two stay in memory."""
    with patch("tick_gateway.history.block_index._PAGE", 3), patch("tick_gateway.history.block_index._PAGES", 2):
        yield


@st.composite
def rows(draw: st.DrawFn) -> list[Entry]:
    """Blocks of some files, with holes in their numbers and ticks that are missing."""
    found: list[Entry] = []
    volume, offset, ordinal, t, at = Segment(Path("0")), 0, draw(st.integers(0, 3)), draw(st.integers(0, 9)), AT
    for number in range(draw(st.integers(0, 30))):
        if draw(st.integers(0, 4)) == 0:
            volume, offset = Segment(Path(str(number))), 0
        count = draw(st.integers(1, 4))
        step = draw(st.sampled_from((1, 1, 1, 5)))
        ordinal += draw(st.sampled_from((0, 0, 0, 2)))
        last = t + step * (count - 1)
        frame, footer = draw(st.integers(20, 2**31)), draw(st.integers(0, 200))
        found.append(Entry(
            volume, offset, footer, ordinal=ordinal, first=t, last=last, first_at=at, last_at=at + count,
            count=count, step=step if count > 1 else 0, size=draw(st.integers(0, 2**32 - 1)), frame=frame,
            crc=draw(st.integers(0, 2**32 - 1)), raw=True,
        ))  # fmt: skip
        offset, ordinal, t = offset + frame + footer, ordinal + count, last + draw(st.sampled_from((1, 1, 7)))
        at += draw(st.sampled_from((0, 4, 2000)))
    return found


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


@settings(deadline=None, max_examples=30)
@given(rows(), st.integers(-1, 200))
def test_backwards_one_after_another(entries: list[Entry], t: int) -> None:
    history = RunHistory(Run("R", 0, 0, AT), entries)
    assert list(history.upto(t)) == [entry for entry in reversed(entries) if entry.first <= t]


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
        blocks.settle(volume, there)
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


class Nowhere:
    """Records that cannot be read."""

    def __len__(self) -> int:
        return 2

    def page(self, begin: int, end: int, volume: Volume) -> Page:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@settings(deadline=None, max_examples=60)
@given(rows(), st.integers(0, 40))
def test_records_that_cannot_be_read(entries: list[Entry], number: int) -> None:
    """Their file's blocks are missing from then on, which is told once; whatever is asked, the others are found."""
    if not entries:
        return
    volume = entries[number % len(entries)].volume
    left = [entry for entry in entries if entry.volume is not volume]
    asks: list[Callable[[RunHistory], object]] = [
        lambda history: list(history.newest_first()),
        lambda history: [history.after(t) for t in range(entries[-1].last + 2)],
        lambda history: [history.received_since(at) for at in range(AT, entries[-1].last_at + 2, 50)],
        lambda history: [history.missing_before(entry, entry.first - 2) for entry in left],
        lambda history: [history.unbroken(entry, entries[-1].last) for entry in left],
        lambda history: [history.row(entry, None, 1 << 40) for entry in left],
        lambda history: [history.between(t, t + 5) for t in range(entries[-1].last + 2)],
        lambda history: [history.holds(entry.first, entry.last) for entry in entries],
        lambda history: [history.back(t, 3, 2)[0] for t in range(entries[-1].last + 2)],
    ]
    told: list[object] = []
    for ask in asks:
        told.clear()
        history = RunHistory(Run("R", 0, 0, AT), entries, lost=lambda *lost: told.append(lost))
        blocks = history.entries
        blocks._set([one._replace(records=Nowhere()) if one.volume is volume else one for one in blocks._ranges])
        ask(history)
        assert len(told) <= 1
        if told:
            assert list(history.entries) == left and history.has(entries[0]) == (entries[0] in left)
    history = RunHistory(Run("R", 0, 0, AT), left)
    assert list(history.newest_first()) == left[::-1]
