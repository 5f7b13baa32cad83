"""The bus between threads: a full inbox, waiting for room, and how its reader is woken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.errors import (
    InboxFull,
    OutOfOrder,
    RunClosed,
)
from tick_gateway.settings import Settings

from ...support.bus import data_of, gaps, offer, seen, ticks_of

SECONDS = 30.0  # how long a thread may take on a busy machine


def read_elsewhere(bus: TickBus) -> TickBus:
    """As if a loop in another thread read it: a full inbox stays full until the test collects."""
    bus.attach(lambda: None)
    bus._collector = -1  # no thread has this ident; that of a real one that ended may come again
    return bus


# ---- the inbox ----


def test_where_the_inbox_is_full_a_tick_is_dropped_and_becomes_a_gap() -> None:
    bus = read_elsewhere(TickBus(Settings(inbox=2)))
    for t in (1, 2):
        bus.publish({"t": t})
    for t in (3, 4):
        with pytest.raises(InboxFull) as refusal:
            bus.publish({"t": t})
        assert (refusal.value.t, refusal.value.waited) == (t, 0.0)
    assert (bus.published, bus.dropped) == (2, 2)
    bus.collect()
    bus.publish({"t": 5})
    bus.publish({"t": 6})
    assert ticks_of(bus) == [1, 2, 5, 6]
    assert gaps(bus) == [5]


def test_a_dropped_tick_may_be_sent_again_and_leaves_no_gap() -> None:
    bus = read_elsewhere(TickBus(Settings(inbox=1)))
    offer(bus, 1, run="a")
    for t in (2, 3):
        with pytest.raises(InboxFull):
            offer(bus, t, run="a")
    for t in (2, 3):
        bus.collect()
        offer(bus, t, run="a")
    assert seen(bus) == {"a": [1, 2, 3]}
    assert gaps(bus) == []


def test_what_was_dropped_at_the_end_of_a_run_is_remembered_with_it() -> None:
    bus = read_elsewhere(TickBus(Settings(inbox=1)))
    offer(bus, 1, run="a")
    with pytest.raises(InboxFull):
        offer(bus, 2, run="a")
    bus.collect()
    offer(bus, 1, run="b")
    assert (bus.run("a").lost_tail, bus.run("b").lost_tail) == (True, False)
    assert gaps(bus) == [], "the new run lost nothing"


def test_what_was_dropped_before_another_thread_s_tick_is_told_behind_it() -> None:
    bus = read_elsewhere(TickBus(Settings(inbox=1)))
    offer(bus, 1, run="a")
    with pytest.raises(InboxFull):
        offer(bus, 5, run="a")
    for t in (3, 4, 7):
        bus.collect()
        offer(bus, t, run="a")
    assert seen(bus) == {"a": [1, 3, 4, 7]}
    assert gaps(bus) == [7]


def test_what_a_new_run_lost_before_it_began_is_its_own() -> None:
    bus = read_elsewhere(TickBus(Settings(inbox=1)))
    offer(bus, 9, run="a")
    for t in (0, 1):
        with pytest.raises(InboxFull):
            offer(bus, t, run="b")
    bus.collect()
    offer(bus, 2, run="b")
    assert seen(bus) == {"a": [9], "b": [2]}
    assert gaps(bus) == [2]
    bus.end_run("b")
    assert (bus.run("a").lost_tail, bus.run("b").lost_tail) == (False, False)


def test_a_run_that_is_ended_remembers_what_was_dropped_at_its_end() -> None:
    bus = read_elsewhere(TickBus(Settings(inbox=1)))
    offer(bus, 1, run="a")
    with pytest.raises(InboxFull):
        offer(bus, 2, run="a")
    bus.end_run("a")
    assert bus.run("a").lost_tail


def test_a_run_is_not_forgotten_while_its_ticks_wait_in_the_inbox() -> None:
    bus = read_elsewhere(TickBus())
    for number in range(1100):
        offer(bus, 1, run=f"r{number}")
    assert len(seen(bus)) == len(bus.runs) == 1100


def test_the_inbox_is_bounded_by_bytes() -> None:
    bus = read_elsewhere(TickBus(Settings(inbox_bytes=2000)))
    bus.publish({"t": 1, "x": "x" * 2000})
    with pytest.raises(InboxFull):
        bus.publish({"t": 2})
    bus.collect()
    assert bus.publish({"t": 3})


def test_duplicates_need_no_room() -> None:
    bus = read_elsewhere(TickBus(Settings(inbox=1)))
    offer(bus, 1, run="a")
    assert offer(bus, 1, run="a") == [False]
    assert bus.dropped == 0


@pytest.mark.parametrize("attached", [False, True])
def test_without_a_loop_or_on_the_loop_itself_the_inbox_empties_itself(attached: bool) -> None:
    bus = TickBus(Settings(inbox=1, ring=100))
    if attached:
        bus.attach(lambda: None)
    for t in range(50):
        bus.publish({"t": t})
    assert ticks_of(bus) == list(range(50))
    assert bus.dropped == 0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def waiting(bus: TickBus, pool: ThreadPoolExecutor, record: object, **kw: Any) -> Future[bool]:
    """A publisher in another thread that waits for room: the bus says so by asking its condition."""
    asked = threading.Event()
    wait = bus._room.wait

    def noticed(timeout: float | None = None) -> bool:
        asked.set()
        return wait(timeout)

    bus._room.wait = noticed  # type: ignore[method-assign]
    result = pool.submit(bus.publish, record, **kw)
    assert asked.wait(SECONDS)
    return result


@pytest.mark.parametrize(("timeout", "wait"), [(3600.0, False), (0.0, True)])
def test_a_publisher_that_may_wait_goes_on_once_there_is_room(
    pool: ThreadPoolExecutor, timeout: float, wait: bool
) -> None:
    bus = read_elsewhere(TickBus(Settings(inbox=1, publish_timeout=timeout)))
    bus.publish({"t": 1})
    result = waiting(bus, pool, {"t": 2}, wait=wait)
    assert not result.done()
    bus.collect()
    assert result.result(SECONDS) is True
    assert ticks_of(bus) == [1, 2]
    assert bus.dropped == 0


def test_a_publisher_waits_no_longer_than_publish_timeout(pool: ThreadPoolExecutor) -> None:
    bus = read_elsewhere(TickBus(Settings(inbox=1, publish_timeout=0.02)))
    bus.publish({"t": 1})
    with pytest.raises(InboxFull) as refusal:
        waiting(bus, pool, {"t": 2}).result(SECONDS)
    assert refusal.value.waited == 0.02
    assert bus.dropped == 1


def test_a_run_that_ends_while_its_publisher_waits_gets_no_more(pool: ThreadPoolExecutor) -> None:
    bus = read_elsewhere(TickBus(Settings(inbox=1)))
    bus.publish({"t": 1}, run="a")
    result = waiting(bus, pool, {"t": 2}, run="a", wait=True)
    bus.end_run("a")
    bus.collect()
    with pytest.raises(RunClosed):
        result.result(SECONDS)
    assert seen(bus) == {"a": [1]}
    assert bus.run("a").over


def test_a_waiting_publisher_goes_on_where_the_reader_leaves(pool: ThreadPoolExecutor) -> None:
    bus = read_elsewhere(TickBus(Settings(inbox=1)))
    bus.publish({"t": 1})
    result = waiting(bus, pool, {"t": 2}, wait=True)
    bus.detach()
    assert result.result(SECONDS) is True


# ---- threads ----


def test_the_reader_is_woken_once_between_two_collects() -> None:
    bus = TickBus()
    calls: list[int] = []
    bus.attach(lambda: calls.append(bus.published))
    assert not bus.pending
    for t in range(5):
        bus.publish({"t": t}, run="a")
    assert calls == [1] and bus.pending
    bus.collect()
    assert not bus.pending
    bus.publish({"t": 5}, run="a")
    bus.publish({"t": 5}, run="a")
    assert calls == [1, 6]
    bus.collect()
    bus.publish({"t": 5}, run="a")
    assert calls == [1, 6], "a duplicate is no news"
    bus.end_run("a")
    assert calls == [1, 6, 6], "the end of a run is"


def test_what_came_before_the_reader_wakes_it() -> None:
    bus = TickBus()
    bus.publish({"t": 1})
    calls: list[None] = []
    bus.attach(lambda: calls.append(None))
    assert calls == [None]


def test_many_threads_publish_and_every_tick_comes_out_once(pool: ThreadPoolExecutor) -> None:
    bus = TickBus(Settings(inbox=50))
    woken = threading.Event()
    bus.attach(woken.set)
    counter = iter(range(3000))
    order = threading.Lock()

    def publish() -> int:
        count = 0
        while True:
            with order:  # t rises in the order in which publishers come
                t = next(counter, None)
                if t is None:
                    return count
                bus.publish({"t": t}, run="a", wait=True)
            count += 1

    results = [pool.submit(publish) for _ in range(8)]
    while bus.published < 3000 or bus.pending:
        assert woken.wait(SECONDS), "ticks lie in the inbox and nobody was told"
        woken.clear()
        bus.collect()
    assert sum(result.result(SECONDS) for result in results) == 3000
    assert ticks_of(bus) == list(range(3000))
    assert gaps(bus) == []


def test_threads_that_publish_the_same_ticks_have_each_taken_once(pool: ThreadPoolExecutor) -> None:
    bus = TickBus()
    together = threading.Barrier(8)

    def publish() -> int:
        together.wait(SECONDS)
        taken = 0
        for t in range(300):
            try:
                taken += bus.offer(t, data_of(t), "a", resends=True)
            except OutOfOrder as error:
                raise AssertionError("each thread sends every tick, so that none is skipped") from error
        return taken

    results = [pool.submit(publish) for _ in range(8)]
    assert sum(result.result(SECONDS) for result in results) == 300
    assert seen(bus) == {"a": list(range(300))}
