"""A run's history against a plain list of all that was published: where a tick is, and what is missing before it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded import AT, data_of
from tests.support.stored_blocks import MemoryVolume, batch_of, rows
from tick_gateway.bus.ring import BATCH_BYTES, Run
from tick_gateway.history.run_history import RunHistory, Stored, batches_of
from tick_gateway.history.stored_block import Block, Entry, Page, Volume

pytestmark = pytest.mark.usefixtures("small_pages")


@dataclass
class Published:
    """All that a run published, in order, and what became of it.

    Attributes:
        ts: every ``t``.
        stored: what is in history: its place in ``ts``, and how many ticks it holds.
        removed: of blocks that were: where in ``ts`` they ended.
    """

    history: RunHistory
    ts: list[int] = field(default_factory=list)
    stored: list[tuple[Stored, int]] = field(default_factory=list)
    removed: set[int] = field(default_factory=set)

    @property
    def entries(self) -> list[Entry]:
        return [one for one, _ in self.stored if isinstance(one, Entry)]

    @property
    def kept(self) -> set[int]:
        return {t for one, count in self.stored for t in self.ts[one.ordinal : one.ordinal + count]}

    def remove(self, entry: Entry) -> None:
        self.stored = [(one, count) for one, count in self.stored if one is not entry]
        self.removed.add(entry.ordinal + entry.count)

    def missing_before(self, one: Stored, t: int) -> bool:
        """Where the tick just before was in a block, its ``t`` is known; otherwise all that is known is the hole."""
        before = max((other.ordinal + count for other, count in self.stored if other.ordinal < one.ordinal), default=0)
        if t >= one.first - 1 or before == one.ordinal:
            return False
        return not (one.ordinal in self.removed and t >= self.ts[one.ordinal - 1])


@st.composite
def published(draw: st.DrawFn) -> Published:
    """Ticks in closed blocks of some files and in an open one; some were never stored, and some blocks are gone."""
    run = Run("R", 0, 0, AT)
    history = RunHistory(run)
    found = Published(history)
    volume, t = MemoryVolume(), draw(st.integers(0, 3))
    parts = draw(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.integers(0, 5)), max_size=14))
    closed = draw(st.integers(0, len(parts)))
    for number, (count, dense, fate) in enumerate(parts):
        ts = [t + i * (1 if dense else 3) for i in range(count)]
        ordinal, t = len(found.ts), ts[-1] + (1 if dense else 4)
        found.ts += ts
        if fate == 0:
            continue  # it was never stored
        if fate == 1:
            volume = MemoryVolume()
        one: Stored
        if number < closed:
            one = volume.add(ts, ordinal)
            history.close(one)
        else:
            one = batch_of(run, ts, ordinal)
            history.open.append(one)
        found.stored.append((one, count))
    for number in draw(st.lists(st.integers(0, 20), max_size=4)):
        if entries := found.entries:
            entry = entries[number % len(entries)]
            if number % 2:
                history.remove(entry)
                found.remove(entry)
            else:
                history.drop(entry.volume)
                for other in entries:
                    if other.volume is entry.volume:
                        found.remove(other)
    return found


def places(told: Published) -> Iterator[int]:
    yield from range(-1, (told.ts[-1] if told.ts else 0) + 3)


@settings(deadline=None, max_examples=60)
@given(published())
def test_what_is_found_behind_and_before_a_number(told: Published) -> None:
    history, stored = told.history, [one for one, _ in told.stored]
    assert (history.first, history.last) == (
        (min(told.kept), max(told.kept)) if told.kept else (None, None)
    )  # fmt: skip
    assert history.closed == max((entry.last for entry in told.entries), default=-1)
    assert list(history.newest_first()) == told.entries[::-1]
    for t in places(told):
        found = history.after(t)
        assert found == next((one for one in stored if one.last > t), None)
        assert list(history.upto(t)) == [one for one in reversed(stored) if one.first <= t]
        for high in (t, t + 4):
            inside = [entry for entry in told.entries if entry.last > t and entry.first <= high]
            assert history.between(t, high) == (len(inside), inside[0] if inside else None)
        if found is not None:
            assert history.missing_before(found, t) == told.missing_before(found, t)
            if found.first > t + 1 and t in {-1, *told.ts}:  # a reader that has just this tick is told no gap in vain
                gone = any(t < one < found.first for one in told.ts if one not in told.kept)
                assert not gone or history.missing_before(found, t)


@settings(deadline=None, max_examples=60)
@given(published())
def test_who_has_every_tick_before_a_block_misses_nothing(told: Published) -> None:
    for number, (one, _) in enumerate(told.stored):
        before = told.stored[number - 1][0] if number else None
        whole = one.ordinal == (before.ordinal + told.stored[number - 1][1] if before is not None else 0)
        t = before.last if before is not None else -1
        assert told.history.missing_before(one, t) == (not whole and t < one.first - 1)
        if one.ordinal in told.removed:
            assert told.history.edge(one.ordinal) == told.ts[one.ordinal - 1]
            assert not told.history.missing_before(one, told.ts[one.ordinal - 1])


@settings(deadline=None, max_examples=60)
@given(published())
def test_whether_all_between_two_ticks_is_stored(told: Published) -> None:
    kept = told.kept
    for index, low in enumerate(told.ts):
        for end in range(index, min(index + 8, len(told.ts))):
            assert told.history.holds(low, told.ts[end]) == (set(told.ts[index : end + 1]) <= kept)


@settings(deadline=None, max_examples=60)
@given(published())
def test_blocks_that_are_read_in_one_go(told: Published) -> None:
    """As many as lie behind each other, to the byte and to the tick."""
    for number, entry in enumerate(told.entries):
        row = [entry]
        for one in told.entries[number + 1 :]:
            before = row[-1]
            if one.volume is not entry.volume or one.ordinal != before.ordinal + before.count:
                break
            if one.offset != before.offset + before.frame + before.footer:
                break
            row.append(one)
        sizes = [sum(one.frame for one in row[: count + 1]) for count in range(len(row))]
        assert told.history.row(entry, None, sizes[-1]) == row
        for count, (size, last) in enumerate(zip(sizes, row, strict=True), 1):
            assert told.history.row(entry, None, size) == told.history.row(entry, last.last, 1 << 40) == row[:count]
            assert told.history.row(entry, None, size - 1) == row[: max(count - 1, 1)]
            assert told.history.row(entry, last.last - 1, 1 << 40) == row[: max(count - 1, 1)]


def test_no_more_blocks_in_one_go_than_a_system_takes() -> None:
    volume = MemoryVolume()
    entries = [volume.add([t], t) for t in range(300)]
    history = RunHistory(Run("R", 0, 0, AT), entries)
    assert history.row(entries[10], None, 1 << 40) == entries[10 : 10 + 256]


@settings(deadline=None, max_examples=60)
@given(published())
def test_the_first_that_was_received_since(told: Published) -> None:
    for number in range(-1, len(told.ts) + 2):
        ends = [(one, one.ordinal + count - 1) for one, count in told.stored]
        expected = next((one for one, last in ends if last >= number), None)
        assert told.history.received_since(AT + number) == expected


@settings(deadline=None, max_examples=60)
@given(published())
def test_how_far_nothing_is_missing(told: Published) -> None:
    for number, entry in enumerate(told.entries):
        for high in range(entry.last + 1, entry.last + 12):
            expected, end = entry.last, entry.ordinal + entry.count
            for one in told.entries[number + 1 :]:
                if one.ordinal != end or one.last > high:
                    break
                expected, end = one.last, one.ordinal + one.count
            assert told.history.unbroken(entry, high) == expected


@settings(deadline=None, max_examples=60)
@given(published(), st.integers(0, 30), st.sampled_from((1, 2, 3)))
def test_skipping_blocks_backwards(told: Published, count: int, every: int) -> None:
    """Only blocks that can be told from their bounds, and never past what is still to be counted."""
    history = told.history
    for upto in places(told):
        left, end, before = history.back(upto, count, every)
        if not count or (history.open and history.open[0].first <= upto):
            assert (left, end, before) == (count, upto, None)
            continue
        passed = [t for t in told.ts if t in told.kept and end < t <= upto]
        counted = [t for t in passed if t % every == 0]
        assert 0 <= left == count - len(counted) and end <= upto
        assert (before is None) == (not counted)
        assert before is None or end <= before < counted[0]
        assert end == upto or end + 1 in {entry.first for entry in told.entries}


@settings(deadline=None, max_examples=30)
@given(published(), st.data())
def test_blocks_are_closed_in_any_order(told: Published, data: st.DataObject) -> None:
    """After a crash they are found again one by one."""
    again = RunHistory(told.history.run)
    for entry in data.draw(st.permutations(told.entries)):
        again.close(entry)
    assert list(again.entries) == told.entries


def test_a_block_takes_the_place_of_its_batches() -> None:
    run = Run("R", 0, 0, AT)
    history = RunHistory(run)
    history.open = [batch_of(run, [t, t + 1], t) for t in (0, 2, 4)]
    entry = MemoryVolume().add([0, 1, 2, 3], 0)
    history.close(entry)
    assert (list(history.entries), [batch.first for batch in history.open]) == ([entry], [4])
    assert history.after(1) == entry and history.after(3) is history.open[0]
    assert not history.missing_before(history.open[0], 3)
    history.remove(entry)
    assert history.missing_before(history.open[0], 2) and not history.missing_before(history.open[0], 3)


@pytest.mark.parametrize("size, sizes", [(1000, [3]), (BATCH_BYTES // 2 - 100, [2, 1]), (BATCH_BYTES, [1, 1, 1])])
def test_the_batches_of_a_block(size: int, sizes: list[int]) -> None:
    lines = [data_of(t)[:-1] + b',"pad":"' + b"x" * size + b'"}' for t in (5, 6, 9)]
    found = batches_of(Run("R", 0, 0, AT), Block(b"".join(line + b"\n" for line in lines), [5, 6, 9], [1, 2, 3]), 40)
    assert [len(batch.ticks) for batch in found] == sizes
    assert [tick for batch in found for tick in batch.ticks] == list(zip([5, 6, 9], lines, [1, 2, 3], strict=True))
    assert [batch.ordinal for batch in found] == [40 + sum(sizes[:number]) for number in range(len(sizes))]
    assert [batch.size for batch in found] == [sum(len(tick.data) for tick in batch.ticks) for batch in found]


# ---- records that cannot be read ----


@settings(deadline=None, max_examples=30)
@given(rows(), st.integers(-1, 200))
def test_backwards_one_after_another(entries: list[Entry], t: int) -> None:
    history = RunHistory(Run("R", 0, 0, AT), entries)
    assert list(history.upto(t)) == [entry for entry in reversed(entries) if entry.first <= t]


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
