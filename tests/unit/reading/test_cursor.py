"""A cursor is a value: whoever reads from one twice gets the same, and whoever takes a part of what was read goes on
behind that part as if the rest had never been read."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.model.notices import End, Gap, Reset
from tick_gateway.model.query import Query
from tick_gateway.model.tick import Position
from tick_gateway.model.view import View
from tick_gateway.reading.cursor import Cursor, Item, Span
from tick_gateway.reading.feed import Feed
from tick_gateway.settings import Settings


class Publishing(NamedTuple):
    """Some ticks, published together."""

    run: int
    ticks: int
    step: int


publishings = st.lists(
    st.builds(Publishing, st.integers(0, 1), st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=12
)


def fed(told: list[Publishing], ring: int) -> Feed:
    """A feed whose memory holds the last of these; runs follow each other, the ends of some are lost."""
    bus = TickBus(Settings(ring=ring, inbox=5, publish_timeout=0.0))
    feed = Feed(bus)
    run, t = 0, 0
    for one in told:
        run, t = (run + 1, 0) if one.run else (run, t)
        for _ in range(one.ticks):
            t += one.step
            bus.offer(t, b'{"t":%d}' % t, f"r{run}")
        bus.collect()
    feed.offer(1 << 30)
    return feed


def all_of(feed: Feed, cursor: Cursor, max_bytes: int = 1 << 30) -> list[Item]:
    """Everything from a cursor on."""
    found: list[Item] = []
    while True:
        portion = feed.read(cursor, 0.0, max_bytes)
        if not portion.items:
            return found
        found += portion.items
        cursor = portion.cursor


def flat(items: list[Item]) -> list[object]:
    """Ticks and notices, however they were portioned."""
    found: list[object] = []
    for item in items:
        found += [(item.batch.run.id, tick.t) for tick in item.ticks] if isinstance(item, Span) else [item]
    return found


@settings(deadline=None)
@given(publishings, st.integers(1, 30), st.integers(-1, 40), st.integers(1, 30), st.data())
def test_a_part_of_what_was_read_can_be_taken(
    told: list[Publishing], ring: int, t: int, max_bytes: int, data: st.DataObject
) -> None:
    feed = fed(told, ring)
    begin = cursor = Cursor(Position("r0", t)) if "r0" in feed.bus.runs else Cursor(Position("gone", t))
    taken: list[Item] = []
    for _ in range(20):
        portion = feed.read(cursor, 0.0, max_bytes)
        assert feed.read(cursor, 0.0, max_bytes) == portion, "the same again"
        if not portion.items:
            break
        # A replay cuts before or in a span, and takes every notice that comes before it.
        ends = [index for index, item in enumerate(portion.items) if isinstance(item, Span)]
        at = data.draw(st.sampled_from([*ends, len(portion.items)]))
        some = portion.items[:at]
        if at < len(portion.items):
            span = portion.items[at]
            assert isinstance(span, Span)
            if (end := data.draw(st.integers(span.begin, span.end))) > span.begin:
                some = [*some, Span(span.batch, span.begin, end)]
        taken += some
        cursor = portion.cursor if some == portion.items else cursor.behind(some)
    taken += all_of(feed, cursor)
    assert flat(taken) == flat(all_of(feed, begin))


@settings(deadline=None)
@given(publishings, st.integers(1, 30))
def test_behind_all_that_was_read_is_the_cursor_of_the_portion(told: list[Publishing], ring: int) -> None:
    feed = fed(told, ring)
    cursor = Cursor(Position("gone", 3))
    while (portion := feed.read(cursor, 0.0, 1)).items:
        if isinstance(portion.items[-1], Span):
            assert cursor.behind(portion.items) == portion.cursor
        cursor = portion.cursor


def test_notices_are_told_once() -> None:
    reset = Reset("A", "gone", False)
    cursor = Cursor(Position("A", 5), notices=(reset,))
    assert cursor.behind([reset]).position == Position("A", 5), "the position lies behind them"
    assert cursor.told([reset]) == Cursor(Position("A", 5))


def test_what_is_told_in_the_place_of_ticks_counts() -> None:
    cursor = Cursor(Position("A", 5))
    assert not cursor.told([Gap("A", 2, 4)]).complete
    assert cursor.told([Gap("A", 2, None), Reset("B", "A", False)]).complete
    assert cursor.told([End("limit", None)]) == cursor


def test_another_view_counts_for_what_is_still_to_be_found() -> None:
    view = View(every=5)
    asked = Cursor.of(Query(tail=3))
    assert asked.seen_as(view).query == Query(tail=3, view=view)
    assert Cursor(Position("A", 1)).seen_as(view) == Cursor(Position("A", 1))
