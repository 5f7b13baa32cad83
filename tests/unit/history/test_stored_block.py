"""What an entry says of its block."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tick_gateway.history.format.block_record import BlockRecord
from tick_gateway.history.local.segment_file import Segment
from tick_gateway.history.stored_block import Entry

VOLUME = Segment(Path("0.jsonl.zst"))


def entry(ts: list[int], step: int = 0, offset: int = 10, volume: Segment = VOLUME, crc: int = 7) -> Entry:
    return Entry(
        volume, offset, 60, ordinal=3, first=ts[0], last=ts[-1], first_at=1000, last_at=1010, count=len(ts), step=step,
        size=500, frame=100, crc=crc,
    )  # fmt: skip


@settings(deadline=None)
@given(st.sets(st.integers(0, 60), min_size=1, max_size=20), st.integers(1, 12))
def test_how_many_ticks_pass_is_right_where_it_is_told(some: set[int], every: int) -> None:
    ts = sorted(some)
    steps = {b - a for a, b in pairwise(ts)}
    told = entry(ts, steps.pop() if len(steps) == 1 else 0).passing(every)
    assert told in (None, sum(t % every == 0 for t in ts))


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 12))
def test_of_numbers_without_holes_it_is_always_told(first: int, count: int, every: int) -> None:
    ts = list(range(first, first + count))
    assert entry(ts, 1).passing(every) == sum(t % every == 0 for t in ts)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(2, 9), st.integers(1, 4), st.integers(1, 6))
def test_of_equal_steps_it_is_told_where_they_are_multiples(first: int, count: int, times: int, every: int) -> None:
    ts = [first + number * times * every for number in range(count)]
    assert entry(ts, times * every).passing(every) == sum(t % every == 0 for t in ts)


def test_an_entry_is_a_value() -> None:
    one = entry([1, 2])
    assert one == entry([1, 2]) and hash(one) == hash(entry([1, 2]))
    others = (entry([1, 2], offset=11), entry([1, 2], crc=8), entry([1, 2], volume=Segment(Path("0.jsonl.zst"))))
    assert all(one != other for other in others) and one != "0.jsonl.zst"


def test_an_entry_and_its_record_say_the_same() -> None:
    one = entry([1, 3, 5], 2)
    record = one.record(before=40)
    assert isinstance(record, BlockRecord) and record.before == 40
    again = Entry.of_record(VOLUME, record)
    names = [name for name in Entry.__slots__ if name != "verified"]
    assert [getattr(again, name) for name in names] == [getattr(one, name) for name in names]
