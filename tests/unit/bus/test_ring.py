"""The ring: its bounds, and how readers find their place, against a plain list of everything that was taken in."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tick_gateway.bus.ring import Batch, Ring, Run, find_in, split
from tick_gateway.model.tick import PublishedTick

OVERHEAD = 200  # what a tick costs beside its data


def ticks_of(*ts: int, size: int = 10) -> list[PublishedTick]:
    return [PublishedTick(t, b"x" * size, 1000 + t) for t in ts]


def batch_of(run: Run, *ts: int, size: int = 10, lost: bool = False) -> Batch:
    return Batch(run, ticks_of(*ts, size=size), size * len(ts), lost)


def held(ring: Ring) -> list[tuple[str, int]]:
    return [(batch.run.id, tick.t) for batch in ring for tick in batch.ticks]


@pytest.fixture
def run() -> Run:
    return Run("r", 0, 1, 0)


def test_the_oldest_go_beyond_the_count(run: Run) -> None:
    ring = Ring(3, 1 << 20)
    ring.append(batch_of(run, 1, 2))
    ring.append(batch_of(run, 5))
    assert (held(ring), run.evicted, run.shown) == ([("r", 1), ("r", 2), ("r", 5)], -1, 5)
    ring.append(batch_of(run, 6))
    assert (held(ring), run.evicted, run.evicted_at, run.shown) == ([("r", 2), ("r", 5), ("r", 6)], 1, 1001, 6)
    assert (ring.count, ring.appended, len(ring)) == (3, 3, 3)


def test_the_oldest_go_beyond_the_bytes_overhead_included(run: Run) -> None:
    ring = Ring(100, 3 * (10 + OVERHEAD))
    ring.append(batch_of(run, 1, 2, 3))
    assert held(ring) == [("r", 1), ("r", 2), ("r", 3)]
    ring.append(batch_of(run, 4, size=11))
    assert held(ring) == [("r", 3), ("r", 4)]
    assert ring.size == 21 + 2 * OVERHEAD


def test_the_newest_tick_stays_whatever_its_size(run: Run) -> None:
    ring = Ring(100, 500)
    ring.append(batch_of(run, 1, 2))
    ring.append(batch_of(run, 3, 4, size=10_000))
    assert held(ring) == [("r", 4)]
    assert run.evicted == 3
    ring.append(batch_of(run, 5))
    assert held(ring) == [("r", 5)]


def test_a_batch_that_is_cut_is_another_batch(run: Run) -> None:
    """Whoever holds the old one still has all of it, and what was encoded from it is not taken for the rest."""
    ring = Ring(2, 1 << 20)
    whole = batch_of(run, 1, 2, 3, lost=True)
    whole.encoded["key"] = b"bytes of all three"
    ring.append(whole)
    assert held(ring) == [("r", 2), ("r", 3)]
    rest = ring[0]
    assert [tick.t for tick in whole.ticks] == [1, 2, 3]
    assert (rest is not whole, rest.encoded, rest.size, rest.lost_before) == (True, {}, 20, False)
    assert run.evicted == 1, "a reader before it has a gap all the same"


def test_a_run_is_followed_once_readers_have_ticks_of_the_next(run: Run) -> None:
    ring = Ring(2, 1 << 20)
    following = Run("s", 1, 1, 0)
    ring.append(batch_of(run, 1))
    assert run.following is None
    ring.append(batch_of(following, 1))
    ring.append(batch_of(following, 2))
    assert [run.following, following.following] == [following, None]
    assert ring.first_of(run) is None and ring.first_of(following) == 1


def test_an_empty_ring_holds_nothing(run: Run) -> None:
    ring = Ring(1, 1)
    assert (len(ring), ring.after(run, -1), ring.find(run, 1), ring.first_of(run)) == (0, 0, None, None)


@pytest.mark.parametrize(("t", "index"), [(-1, 0), (4, 0), (5, 1), (6, 1), (7, 2), (9, 3), (99, 3)])
def test_where_the_ticks_after_a_number_begin(run: Run, t: int, index: int) -> None:
    batch = batch_of(run, 5, 7, 9)
    assert batch.index_after(t) == index
    assert (batch.first, batch.last) == (5, 9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), unique=True).map(sorted), st.integers(-1, 41))
def test_finding_in_a_rising_row(ts: list[int], t: int) -> None:
    row = ticks_of(*ts)
    found = find_in(row, t)
    assert (found.t if found else None) == (t if t in ts else None)


# ---- against a list ----


class Taken(NamedTuple):
    run: Run
    tick: PublishedTick


class Step(NamedTuple):
    """A batch: whether it begins a run, how far each tick lies from the one before it, and how large each is."""

    begins: bool
    strides: list[tuple[int, int]]


steps = st.builds(
    Step,
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from([0, 10, 300, 2000])), min_size=1, max_size=6),
)


def kept(taken: list[Taken], most: int, size: int) -> list[Taken]:
    """The longest end of it that fits the bounds, or its last tick."""
    for begin in range(len(taken)):
        rest = taken[begin:]
        if len(rest) == 1 or (len(rest) <= most and sum(len(one.tick.data) + OVERHEAD for one in rest) <= size):
            return rest
    return []


def check(ring: Ring, taken: list[Taken], runs: list[Run]) -> None:
    """Every question that can be asked of a ring, answered from the list."""
    here = kept(taken, ring.max_ticks, ring.max_size)
    assert held(ring) == [(one.run.id, one.tick.t) for one in here]
    assert ring.count == len(here)
    assert ring.size == sum(len(one.tick.data) + OVERHEAD for one in here)
    assert all(batch.size == sum(len(tick.data) for tick in batch.ticks) for batch in ring)
    gone = taken[: len(taken) - len(here)]
    for run in runs:
        mine = {one.tick.t: one.tick for one in here if one.run is run}
        assert ring.first_of(run) == min(mine, default=None)
        assert run.evicted == max((one.tick.t for one in gone if one.run is run), default=-1)
        if run.evicted >= 0:
            assert run.evicted_at == 1000 + run.evicted
        assert run.shown == max(one.tick.t for one in taken if one.run is run)
        for t in range(-1, run.shown + 2):
            assert ring.find(run, t) is mine.get(t)
            index = ring.after(run, t)
            later = [one.tick for one in here if (one.run.seq, one.tick.t) > (run.seq, t)]
            if not later:
                assert index == len(ring)
                continue
            batch = ring[index]
            begin = batch.index_after(t) if batch.run is run else 0
            rest = batch.ticks[begin:] + [tick for i in range(index + 1, len(ring)) for tick in ring[i].ticks]
            assert rest == later


@settings(max_examples=50, deadline=None)
@given(st.lists(steps, min_size=1, max_size=8), st.integers(1, 8), st.sampled_from([1, 500, 1500, 5000, 1 << 20]))
def test_a_ring_is_the_end_of_a_list(batches: list[Step], most: int, size: int) -> None:
    ring = Ring(most, size)
    taken: list[Taken] = []
    runs: list[Run] = []
    t = 0
    for step in batches:
        if step.begins or not runs:
            t = 0
            runs.append(Run(f"r{len(runs)}", len(runs), 0, 0))
        ticks = []
        for stride, length in step.strides:
            ticks.append(PublishedTick(t, b"x" * length, 1000 + t))
            t += stride
        taken += [Taken(runs[-1], tick) for tick in ticks]
        ring.append(Batch(runs[-1], ticks, sum(len(tick.data) for tick in ticks), False))
        check(ring, taken, runs)
    assert ring.appended == len(batches)
    assert [run.following for run in runs] == [*runs[1:], None]
    assert list(reversed(ring)) == list(ring)[::-1]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=30),
    st.none() | st.integers(1, 6),
    st.integers(0, 5),
    st.booleans(),
)
def test_ticks_are_split_as_if_they_were_added_one_by_one(
    sizes: list[int], most: int | None, ordinal: int, lost: bool
) -> None:
    run = Run("r", 0, 1, 0)
    ticks = [PublishedTick(t, b"x" * size, 1000 + t) for t, size in enumerate(sizes)]
    expected: list[list[PublishedTick]] = []
    for tick in ticks:
        held = expected[-1] if expected else []
        if not held or sum(len(one.data) for one in [*held, tick]) > 50 or len(held) == most:
            expected.append(held := [])
        held.append(tick)
    batches = split(run, ticks, sum(sizes), ordinal, most, max_bytes=50, lost_before=lost)
    assert [batch.ticks for batch in batches] == expected
    for batch in batches:
        assert batch.run is run and batch.lost_before == (lost and batch is batches[0])
        assert batch.size == sum(len(tick.data) for tick in batch.ticks)
        assert batch.ordinal == ordinal + batch.first
