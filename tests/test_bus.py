"""The bus alone: which run a tick belongs to, what is refused, and what happens where the inbox is full."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tick_gateway.bus import TickBus, new_run_id
from tick_gateway.errors import (
    Conflict,
    InboxFull,
    Malformed,
    NotFound,
    OutOfOrder,
    ParameterError,
    RecordError,
    RunClosed,
    TickError,
    TooBig,
)
from tick_gateway.ring import BATCH_BYTES, BATCH_TICKS, Run
from tick_gateway.tick import MAX_T, RUN_ID, Position

SECONDS = 30.0  # how long a thread may take on a busy machine


def data_of(t: int, note: str = "") -> bytes:
    return b'{"t":%d,"note":"%s"}' % (t, note.encode())


def offer(bus: TickBus, *ts: int, run: str | None = None, resends: bool = True, note: str = "") -> list[bool]:
    return [bus.offer(t, data_of(t, note), run, resends=resends) for t in ts]


def seen(bus: TickBus) -> dict[str, list[int]]:
    """What readers find, by run."""
    bus.collect()
    found: dict[str, list[int]] = {}
    for batch in bus.ring:
        found.setdefault(batch.run.id, []).extend(tick.t for tick in batch.ticks)
    return found


def ticks_of(bus: TickBus) -> list[int]:
    """What readers find, of all runs."""
    return [t for ts in seen(bus).values() for t in ts]


def gaps(bus: TickBus) -> list[int]:
    """The ticks before which some are known to be lost."""
    bus.collect()
    return [batch.first for batch in bus.ring if batch.lost_before]


def read_elsewhere(bus: TickBus) -> TickBus:
    """As if a loop in another thread read it: a full inbox stays full until the test collects."""
    bus.attach(lambda: None)
    bus._collector = -1  # no thread has this ident; that of a real one that ended may come again
    return bus


# ---- runs ----


def test_ticks_of_a_run_come_out_as_they_went_in() -> None:
    bus = TickBus()
    assert bus.tip is None
    assert offer(bus, 0, 1, 5, MAX_T, run="a") == [True] * 4
    assert bus.tip is None, "readers find nothing before a collect"
    assert seen(bus) == {"a": [0, 1, 5, MAX_T]}
    assert bus.tip == Position("a", MAX_T)
    tick = bus.ring.find(bus.run("a"), 5)
    assert tick is not None and tick.data == data_of(5)
    assert (bus.run("a").count, bus.run("a").first, bus.published) == (4, 0, 4)


def test_the_gateway_names_a_run_that_its_publisher_does_not() -> None:
    bus = TickBus()
    offer(bus, 3)
    assert RUN_ID.fullmatch(bus.run(None).id)
    assert RUN_ID.fullmatch(new_run_id()) and new_run_id() != new_run_id()


def test_a_new_name_ends_the_run_before_it() -> None:
    bus = TickBus()
    offer(bus, 1, 2, run="a")
    offer(bus, 1, 7, run="b")
    assert seen(bus) == {"a": [1, 2], "b": [1, 7]}
    a, b = bus.run("a"), bus.run("b")
    assert (a.over, b.over, a.following, b.following, bus.current) == (True, False, b, None, b)
    assert a.seq < b.seq


def test_an_unnamed_tick_goes_on_in_the_current_run() -> None:
    bus = TickBus()
    offer(bus, 1, run="a")
    offer(bus, 2)
    assert seen(bus) == {"a": [1, 2]}


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a:1", "a/b", "ä", "a\n", "r" * 65])
def test_a_run_of_another_form_is_refused(name: str) -> None:
    bus = TickBus()
    for _ in range(2):  # on an empty bus, and beside a run
        with pytest.raises(ParameterError) as refusal:
            bus.offer(1, data_of(1), name)
        assert refusal.value.parameter == "run"
        offer(bus, 1, run="good")
    assert seen(bus) == {"good": [1]}


def test_runs_that_nobody_knows_are_not_found() -> None:
    bus = TickBus()
    for look in (lambda: bus.run(None), lambda: bus.run("a"), lambda: bus.end_run("a")):
        with pytest.raises(NotFound):
            look()


# ---- ticks at or below the tip ----


@pytest.mark.parametrize("collected", [False, True])
def test_the_same_bytes_again_are_a_duplicate_and_others_a_conflict(collected: bool) -> None:
    bus = TickBus()
    offer(bus, 1, 2, 5, run="a")
    if collected:
        bus.collect()
    assert offer(bus, 2, 5, 1, run="a") == [False] * 3
    assert offer(bus, 5) == [False], "without a name too: it is above the run's first tick"
    for t in (1, 2, 5):
        with pytest.raises(Conflict) as conflict:
            offer(bus, t, run="a", note="other")
        assert conflict.value.t == t
    assert seen(bus) == {"a": [1, 2, 5]}
    assert bus.published == 3
    tick = bus.ring.find(bus.run("a"), 5)
    assert tick is not None and tick.data == data_of(5), "the stored tick stands"


@pytest.mark.parametrize(("run", "t"), [("a", 4), ("a", 0), (None, 4)])
def test_a_number_that_was_skipped_is_out_of_order(run: str | None, t: int) -> None:
    bus = TickBus()
    offer(bus, 1, 2, 5, run="a")
    with pytest.raises(OutOfOrder) as refusal:
        offer(bus, t, run=run)
    assert (refusal.value.t, refusal.value.tip) == (t, 5)
    assert seen(bus) == {"a": [1, 2, 5]}


def test_a_tick_that_is_no_longer_stored_counts_as_a_duplicate() -> None:
    bus = TickBus(ring=2)
    offer(bus, 1, 2, 3, 4, run="a")
    bus.collect()
    assert offer(bus, 2, 1, run="a", note="whatever") == [False, False]
    with pytest.raises(Conflict):
        offer(bus, 3, run="a", note="other")
    assert seen(bus) == {"a": [3, 4]}


# ---- runs that are over ----


@pytest.mark.parametrize("how", ["end", "new name"])
def test_a_run_that_is_over_takes_no_more(how: str) -> None:
    bus = TickBus()
    offer(bus, 1, 3, run="a")
    if how == "end":
        bus.end_run("a")
    else:
        offer(bus, 1, run="b")
    bus.collect()
    assert bus.run("a").over
    assert offer(bus, 1, 3, run="a") == [False, False], "what is stored is a duplicate"
    for t in (0, 2, 4):
        with pytest.raises(RunClosed) as refusal:
            offer(bus, t, run="a")
        assert (refusal.value.run, refusal.value.t) == ("a", t)
    with pytest.raises(Conflict):
        offer(bus, 3, run="a", note="other")
    assert seen(bus)["a"] == [1, 3]


@pytest.mark.parametrize("t", [0, 3, 4, 9])
def test_after_an_end_an_unnamed_tick_begins_a_run(t: int) -> None:
    bus = TickBus()
    offer(bus, 3, 4, run="a")
    bus.end_run("a")
    assert offer(bus, t) == [True]
    runs = seen(bus)
    assert list(runs.values()) == [[3, 4], [t]]
    assert list(runs)[1] != "a"


def test_a_run_is_over_for_readers_once_they_have_its_last_tick() -> None:
    bus = TickBus()
    offer(bus, 1, run="a")
    bus.end_run("a")
    assert bus.run("a").ended and not bus.run("a").over
    bus.collect()
    assert bus.run("a").over


def test_old_runs_are_forgotten_once_nothing_of_them_is_left() -> None:
    bus = TickBus(ring=5)
    for number in range(1200):
        offer(bus, 1, run=f"r{number}")
        bus.collect()
    assert len(bus.runs) == 1000
    assert "r199" not in bus.runs and "r200" in bus.runs


# ---- starting over ----


@pytest.mark.parametrize("t", [0, 10])
def test_a_resending_publisher_without_a_name_starts_over_at_or_below_its_first_tick(t: int) -> None:
    bus = TickBus()
    offer(bus, 10, 11, 12)
    assert offer(bus, t) == [True]
    assert list(seen(bus).values()) == [[10, 11, 12], [t]]


def test_a_resending_publisher_without_a_name_may_send_again_what_lies_above_its_first_tick() -> None:
    bus = TickBus()
    offer(bus, 10, 11, 12)
    assert offer(bus, 11, 12, 13) == [False, False, True]
    assert ticks_of(bus) == [10, 11, 12, 13]


def test_a_publisher_that_named_its_run_never_starts_over() -> None:
    bus = TickBus()
    offer(bus, 10, 11, run="a")
    assert offer(bus, 10, run="a") == [False]
    with pytest.raises(OutOfOrder):
        offer(bus, 9, run="a")
    assert seen(bus) == {"a": [10, 11]}


@pytest.mark.parametrize("t", [0, 10, 11])
def test_in_process_a_falling_t_begins_a_run(t: int) -> None:
    bus = TickBus()
    for number in (10, 11, 12, t):
        assert bus.publish({"t": number})
    assert list(seen(bus).values()) == [[10, 11, 12], [t]]


def test_in_process_the_newest_tick_again_is_a_duplicate_or_a_conflict() -> None:
    bus = TickBus()
    bus.publish({"t": 10})
    bus.publish({"t": 11})
    assert bus.publish({"t": 11}) is False
    with pytest.raises(Conflict):
        bus.publish({"t": 11, "x": 1})
    assert ticks_of(bus) == [10, 11]


def test_in_process_a_named_run_does_not_fall() -> None:
    bus = TickBus()
    bus.publish({"t": 10}, run="a")
    with pytest.raises(OutOfOrder):
        bus.publish({"t": 9}, run="a")
    assert bus.publish({"t": 9}, run="b")
    assert seen(bus) == {"a": [10], "b": [9]}


# ---- what may be published ----


@dataclass
class Step:
    t: Any
    x: Any = 1.5


ADMITTED: dict[str, tuple[Any, dict[str, object]]] = {
    "dict": ({"t": 1, "x": [1]}, {"t": 1, "x": [1]}),
    "bytes": (b' {"t":1,\n"x":1.50} ', {"t": 1, "x": 1.5}),
    "bytearray": (bytearray(b'{"t":1}'), {"t": 1}),
    "memoryview": (memoryview(b'{"t":1}'), {"t": 1}),
    "str": ('{"t":1,"x":"ü"}', {"t": 1, "x": "ü"}),
    "dataclass": (Step(1), {"t": 1, "x": 1.5}),
    "numpy t": ({"t": np.int64(1)}, {"t": 1}),
    "numpy t in a dataclass": (Step(np.uint8(1)), {"t": 1, "x": 1.5}),
    "numpy arrays": ({"t": 1, "x": np.arange(4).reshape(2, 2)}, {"t": 1, "x": [[0, 1], [2, 3]]}),
}


@pytest.mark.parametrize("name", ADMITTED)
def test_records_of_many_kinds_are_published(name: str) -> None:
    record, meaning = ADMITTED[name]
    bus = TickBus()
    assert bus.publish(record)
    bus.collect()
    tick = bus.ring[0].ticks[0]
    assert (tick.t, json.loads(tick.data)) == (1, meaning)
    assert b"\n" not in tick.data


REFUSED: dict[str, tuple[Any, type[TickError], str]] = {
    "no t": ({"x": 1}, Malformed, 'no member "t"'),
    "no t in a dataclass": (json.JSONDecoder, RecordError, "class"),
    "bool": ({"t": True}, Malformed, "true or false"),
    "float": ({"t": 1.0}, Malformed, "1.0"),
    "numpy float": ({"t": np.float64(1)}, Malformed, "1.0"),
    "text": ({"t": "1"}, Malformed, "a string"),
    "negative": ({"t": -1}, Malformed, "0 <= t"),
    "too large": ({"t": MAX_T + 1}, Malformed, "2^53"),
    "list": ([1], RecordError, "mapping"),
    "none": (None, RecordError, "mapping"),
    "NaN": ({"t": 1, "x": float("nan")}, RecordError, "x: NaN"),
    "NaN in JSON": (b'{"t":1,"x":NaN}', Malformed, "NaN"),
    "lone surrogate": ('{"t":1,"x":"\ud800"}', Malformed, "UTF-8"),
    "too big": ({"t": 1, "x": "x" * 1000}, TooBig, "at most 500"),
    "too big, a dataclass": (Step(1, np.ones(1000)), TooBig, "at most 500"),
    "too big, JSON": (b'{"t":1,"x":"' + b"x" * 1000 + b'"}', TooBig, "at most 500"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_tick_is_refused_and_the_next_one_taken(name: str) -> None:
    record, error, reason = REFUSED[name]
    bus = TickBus(max_tick=500)
    with pytest.raises(error) as refusal:
        bus.publish(record)
    assert reason in str(refusal.value)
    assert bus.publish({"t": 1})
    assert ticks_of(bus) == [1]


def test_nan_becomes_null_where_the_setting_says_so() -> None:
    bus = TickBus(nan="null")
    bus.publish({"t": 1, "x": [float("nan"), np.float32("inf")]})
    bus.collect()
    assert json.loads(bus.ring[0].ticks[0].data) == {"t": 1, "x": [None, None]}


@pytest.mark.parametrize("wrap", [dict, lambda record: Step(1, record["x"])], ids=["dict", "dataclass"])
def test_records_nested_deeper_than_512_are_refused(wrap: Callable[[dict[str, Any]], object]) -> None:
    def nested(levels: int) -> object:
        value: object = 0
        for _ in range(levels - 1):
            value = [value]
        return wrap({"t": 1, "x": value})

    bus = TickBus()
    with pytest.raises(TickError, match="nested deeper than 512"):
        bus.publish(nested(513))
    assert bus.publish(nested(512))


# ---- the inbox ----


def test_where_the_inbox_is_full_a_tick_is_dropped_and_becomes_a_gap() -> None:
    bus = read_elsewhere(TickBus(inbox=2))
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
    bus = read_elsewhere(TickBus(inbox=1))
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
    bus = read_elsewhere(TickBus(inbox=1))
    offer(bus, 1, run="a")
    with pytest.raises(InboxFull):
        offer(bus, 2, run="a")
    bus.collect()
    offer(bus, 1, run="b")
    assert (bus.run("a").lost_tail, bus.run("b").lost_tail) == (True, False)
    assert gaps(bus) == [], "the new run lost nothing"


def test_the_inbox_is_bounded_by_bytes() -> None:
    bus = read_elsewhere(TickBus(inbox_bytes=2000))
    bus.publish({"t": 1, "x": "x" * 2000})
    with pytest.raises(InboxFull):
        bus.publish({"t": 2})
    bus.collect()
    assert bus.publish({"t": 3})


def test_duplicates_need_no_room() -> None:
    bus = read_elsewhere(TickBus(inbox=1))
    offer(bus, 1, run="a")
    assert offer(bus, 1, run="a") == [False]
    assert bus.dropped == 0


@pytest.mark.parametrize("attached", [False, True])
def test_without_a_loop_or_on_the_loop_itself_the_inbox_empties_itself(attached: bool) -> None:
    bus = TickBus(inbox=1, ring=100)
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
    bus = read_elsewhere(TickBus(inbox=1, publish_timeout=timeout))
    bus.publish({"t": 1})
    result = waiting(bus, pool, {"t": 2}, wait=wait)
    assert not result.done()
    bus.collect()
    assert result.result(SECONDS) is True
    assert ticks_of(bus) == [1, 2]
    assert bus.dropped == 0


def test_a_publisher_waits_no_longer_than_publish_timeout(pool: ThreadPoolExecutor) -> None:
    bus = read_elsewhere(TickBus(inbox=1, publish_timeout=0.02))
    bus.publish({"t": 1})
    with pytest.raises(InboxFull) as refusal:
        waiting(bus, pool, {"t": 2}).result(SECONDS)
    assert refusal.value.waited == 0.02
    assert bus.dropped == 1


def test_a_run_that_ends_while_its_publisher_waits_gets_no_more(pool: ThreadPoolExecutor) -> None:
    bus = read_elsewhere(TickBus(inbox=1))
    bus.publish({"t": 1}, run="a")
    result = waiting(bus, pool, {"t": 2}, run="a", wait=True)
    bus.end_run("a")
    bus.collect()
    with pytest.raises(RunClosed):
        result.result(SECONDS)
    assert seen(bus) == {"a": [1]}
    assert bus.run("a").over


def test_a_waiting_publisher_goes_on_where_the_reader_leaves(pool: ThreadPoolExecutor) -> None:
    bus = read_elsewhere(TickBus(inbox=1))
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
    bus = TickBus(inbox=50)
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


# ---- batches ----


def test_batches_hold_one_run_and_are_bounded() -> None:
    bus = TickBus()
    offer(bus, *range(BATCH_TICKS + 1), run="a")
    offer(bus, 0, run="b")
    big = b'{"t":%d,"x":"' + b"x" * (BATCH_BYTES // 2) + b'"}'
    for t in (1, 2, 3):
        bus.offer(t, big % t, "b")
    bus.collect()
    shape: list[tuple[Run, int]] = [(batch.run, len(batch.ticks)) for batch in bus.ring]
    a, b = bus.run("a"), bus.run("b")
    assert shape == [(a, BATCH_TICKS), (a, 1), (b, 2), (b, 1), (b, 1)]
    assert all(batch.size == sum(len(tick.data) for tick in batch.ticks) for batch in bus.ring)


def test_receive_times_never_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = TickBus()
    for t, clock in enumerate([5_000_000, 3_000_000, 6_999_999]):
        monkeypatch.setattr("tick_gateway.bus.time.time_ns", lambda clock=clock: clock)
        offer(bus, t, run="a")
    bus.collect()
    assert [tick.at for tick in bus.ring[0].ticks] == [5, 5, 6]
