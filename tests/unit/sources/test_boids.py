"""The demonstration flock: the same on every machine, complete in its neighbourhoods, and a flock."""

from __future__ import annotations

import hashlib
import itertools
from math import hypot, isclose
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.sources.boids import Flock, padded


def order(tick: dict[str, Any]) -> float:
    """1 where all fly in one direction, about 0 where each has its own."""
    agents = tick["agents"]
    total = hypot(sum(a["vx"] for a in agents), sum(a["vy"] for a in agents))
    return total / sum(hypot(a["vx"], a["vy"]) for a in agents)


def test_ticks_have_their_shape() -> None:
    flock = Flock(30, seed=1)
    for t in range(50):
        tick = flock.step()
        assert list(tick) == ["t", "agents"]
        assert tick["t"] == t
        assert [agent["id"] for agent in tick["agents"]] == list(range(30))
        for agent in tick["agents"]:
            assert list(agent) == ["id", "x", "y", "vx", "vy"]
            assert 0 <= agent["x"] <= 100 and 0 <= agent["y"] <= 100
            assert hypot(agent["vx"], agent["vy"]) <= 100
            assert all(round(agent[key], 3) == agent[key] for key in ("x", "y", "vx", "vy"))


def test_a_seed_gives_the_same_ticks_everywhere() -> None:
    flock, twin, other = Flock(20, seed=7), Flock(20, seed=7), Flock(20, seed=8)
    ticks = [flock.step() for _ in range(200)]
    assert ticks == [twin.step() for _ in range(200)]
    assert ticks != [other.step() for _ in range(200)]
    # A golden value: only exactly rounded operations are used, so that it holds for every platform and release.
    assert hashlib.sha256(orjson.dumps(ticks)).hexdigest()[:16] == "e3443bcfdf4ad121"


def test_it_flocks() -> None:
    flock = Flock(100, seed=1)
    first = flock.step()
    last = [flock.step() for _ in range(300)][-1]
    assert order(first) < 0.2
    assert order(last) > 0.6


def test_they_fly_steadily_and_across_the_border() -> None:
    flock = Flock(40, seed=3)
    crossings = 0
    for before, after in itertools.pairwise([flock.step() for _ in range(200)]):
        for a, b in zip(before["agents"], after["agents"], strict=True):
            for axis, velocity in (("x", "vx"), ("y", "vy")):
                moved = b[axis] - a[axis]
                if abs(moved) > 50:
                    crossings += 1
                    moved -= 100 if moved > 0 else -100
                assert abs(moved - b[velocity]) < 0.003  # rounding of three numbers
    assert crossings > 0


@given(st.integers(1, 60), st.integers(0, 2**32), st.sampled_from([1.0, 100.0, 1e6]))
def test_the_grid_misses_no_neighbour_and_counts_none_twice(agents: int, seed: int, size: float) -> None:
    flock = Flock(agents, seed, size)
    for _ in range(3):
        flock.step()
    xs, ys, sight = flock._x, flock._y, flock._sight
    for i, sums in enumerate(flock._sums()):
        near = []
        for j in range(agents):
            dx = (xs[j] - xs[i] + size / 2) % size - size / 2
            dy = (ys[j] - ys[i] + size / 2) % size - size / 2
            distance = hypot(dx, dy)
            if isclose(distance, sight, rel_tol=1e-9):
                return  # whether it is seen is a matter of rounding
            if j != i and distance < sight:
                near.append((dx, dy))
        assert sums[0] == len(near)
        assert isclose(sums[1], sum(dx for dx, _ in near), rel_tol=1e-6, abs_tol=1e-6 * size)
        assert isclose(sums[2], sum(dy for _, dy in near), rel_tol=1e-6, abs_tol=1e-6 * size)


@pytest.mark.parametrize("size", [200, 201, 1000, 4096, 1_000_000])
def test_padded_to_the_byte(size: int) -> None:
    flock = Flock(2, seed=1)
    for tick in (flock.step(), flock.step()):
        data = orjson.dumps(padded(tick, size))
        assert len(data) == size
        assert {key: value for key, value in orjson.loads(data).items() if key != "pad"} == tick
        assert padded(tick, size) == padded(tick, size)


def test_padding_never_cuts() -> None:
    tick = Flock(5, seed=1).step()
    assert padded(tick, 1) is tick
    assert padded(tick, len(orjson.dumps(tick)) + 8) is tick  # no room for the member itself


@pytest.mark.parametrize(("agents", "size"), [(0, 100.0), (-1, 100.0), (1, 0.0), (1, -5.0), (1, float("inf"))])
def test_nonsense_is_refused(agents: int, size: float) -> None:
    with pytest.raises(ValueError, match="at least 1 agent|positive number"):
        Flock(agents, 1, size)
