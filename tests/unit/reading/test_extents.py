"""What there is of a run behind a number, and what is missing before it, against a list of all that was published."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.history.archive import Archive
from tick_gateway.history.local.limits import Limits
from tick_gateway.model.notices import Gap
from tick_gateway.reading.cursor import BlockRef, Span
from tick_gateway.reading.extents import Extents
from tick_gateway.settings import Settings

from ...simulation.disk import Disk
from ...simulation.room import Room

places = st.integers(-1, 60)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=20), st.integers(1, 20), st.integers(-1, 60), st.integers(0, 60)
)
def test_in_memory(steps: list[int], ring: int, t: int, high: int) -> None:
    bus, numbers = TickBus(Settings(ring=ring)), list[int]()
    for step in steps:
        numbers.append((numbers[-1] if numbers else 0) + step)
        bus.offer(numbers[-1], b'{"t":%d}' % numbers[-1], "a")
        if step == 2:
            bus.collect()
    bus.collect()
    extents, run, kept = Extents(bus, Archive()), bus.runs["a"], numbers[-ring:]
    assert extents.first(run) == kept[0]
    found = extents.next(run, t, high=high)
    behind = [one for one in kept if t < one <= high]
    if not behind:
        assert found is None
    else:
        assert isinstance(found, Span) and found.ticks[0].t == behind[0] and found.ticks[-1].t <= high
        lost = any(t < one < behind[0] for one in numbers)
        assert extents.missing(run, t, found) == (lost and t < run.evicted)
    gone = [one for one in numbers[: len(numbers) - len(kept)] if t < one]
    told = extents.gaps(run, t, high)
    assert bool(told) == (bool(gone) and t < high)
    if told:
        assert told == [Gap("a", t, kept[0])]


def test_on_disk() -> None:
    room = Room(ring=2, disk=Disk(Limits(block_bytes=300, level=1, fsync="never"), cache_bytes=1))
    try:
        room.tell(*range(1, 40), run="a")
        feed, run = room.feed, room.bus.runs["a"]
        first = feed.next(run, 0)
        assert isinstance(first, BlockRef) and (first.first, feed.first(run)) == (1, 1)
        assert isinstance(feed.next(run, 38), Span)
        assert isinstance(feed.next(run, 37, stored=True), Span | BlockRef)
        assert feed.next(run, 39) is None and feed.next(run, 5, high=5) is None
        assert feed.first_after(run, first.last) == first.last + 1
        assert not feed.missing(run, 0, first) and feed.gaps(run, 0, 39) == []
        feed.archive.history(run).remove(first.entry)
        second = feed.next(run, 0)
        assert second is not None and second.first == first.last + 1
        assert feed.missing(run, 0, second) and not feed.missing(run, first.last, second)
        assert feed.gaps(run, 0, 39) == [Gap("a", 0, second.first)]
    finally:
        room.close()
