"""The bus alone: which run a tick belongs to, what is refused, and what happens where the inbox is full."""

from __future__ import annotations

from typing import Any

import pytest

from tick_gateway.bus.ring import BATCH_BYTES, BATCH_TICKS, Run
from tick_gateway.bus.tick_bus import TickBus, new_run_id
from tick_gateway.errors import (
    Conflict,
    NotFound,
    OutOfOrder,
    ParameterError,
    RunClosed,
)
from tick_gateway.model.tick import MAX_T, RUN_ID, Position
from tick_gateway.settings import Settings

from ...support.bus import data_of, offer, seen, ticks_of

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


@pytest.mark.parametrize("name", [42, 4.2, b"seed", ("a",)])
def test_a_run_that_is_no_string_is_refused_and_the_refusal_says_so(name: Any) -> None:
    bus = TickBus()
    for _ in range(2):
        with pytest.raises(ParameterError, match="run: .* is no run id; accepted: a string"):
            bus.publish({"t": 1}, run=name)
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
    bus = TickBus(Settings(ring=2))
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
    bus = TickBus(Settings(ring=5))
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
        monkeypatch.setattr("tick_gateway.bus.tick_bus.time.time_ns", lambda clock=clock: clock)
        offer(bus, t, run="a")
    bus.collect()
    assert [tick.at for tick in bus.ring[0].ticks] == [5, 5, 6]
