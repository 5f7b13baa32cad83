"""The built-in demonstration: a flock after Reynolds (separation, alignment, cohesion) on a torus.

Plain Python and pure: no clock, no I/O, nothing of the gateway; the caller decides when to step. It uses only
operations that IEEE 754 rounds exactly (no sine, no power), so a seed gives the same ticks on every machine.
"""

from __future__ import annotations

from math import sqrt
from random import Random
from typing import Any, Final

import orjson

_NEIGHBOURS: Final = 6.0  # of an agent, if all were spread evenly; determines the range of sight
_CROWD: Final = 0.4  # agents closer than this share of the range of sight move apart
_ALIGNMENT: Final = 0.12
_COHESION: Final = 0.004
_SEPARATION: Final = 0.05
_WANDER: Final = 0.22
_MIN_SPEED: Final = 0.006  # of the world's size per step
_MAX_SPEED: Final = 0.012
_PI: Final = 3.141592653589793


class Flock:
    """Agents that see their neighbours, steer with them, and leave the world on one side to enter on the opposite one.

    Args:
        agents: their number, at least 1.
        seed: the same seed, number and size give the same ticks.
        size: edge of the square world; positions are 0 <= x < size, up to rounding.

    Raises:
        ValueError: no agents, or no room.
    """

    def __init__(self, agents: int, seed: int, size: float = 100.0) -> None:
        if agents < 1:
            raise ValueError(f"a flock has at least 1 agent, not {agents}")
        if not 0 < size < float("inf"):
            raise ValueError(f"the world's size is a positive number, not {size}")
        self._random = Random(seed)
        self._size = float(size)
        self._t = 0
        self._sight = min(size / 3, size * sqrt(_NEIGHBOURS / (_PI * agents)))
        self._cells = int(size / self._sight)  # per edge, each at least as wide as the range of sight: 3 or more
        uniform = self._random.uniform
        self._x = [uniform(0, size) for _ in range(agents)]
        self._y = [uniform(0, size) for _ in range(agents)]
        self._vx = [uniform(-1, 1) * _MAX_SPEED * size for _ in range(agents)]
        self._vy = [uniform(-1, 1) * _MAX_SPEED * size for _ in range(agents)]

    def step(self) -> dict[str, Any]:
        """The next tick: ``{"t": 0, "agents": [{"id", "x", "y", "vx", "vy"}, ...]}``; velocities are per step.

        Numbers have 3 digits after the point. The first tick shows the initial positions.
        """
        if self._t:
            self._move()
        agents = [
            {"id": i, "x": round(x, 3), "y": round(y, 3), "vx": round(vx, 3), "vy": round(vy, 3)}
            for i, (x, y, vx, vy) in enumerate(zip(self._x, self._y, self._vx, self._vy, strict=True))
        ]
        tick = {"t": self._t, "agents": agents}
        self._t += 1
        return tick

    def _move(self) -> None:
        """Steer every agent by what it sees now, then move all of them one step."""
        size, wander, uniform = self._size, _WANDER * _MAX_SPEED * self._size, self._random.uniform
        slowest, fastest = _MIN_SPEED * size, _MAX_SPEED * size
        for i, (ax, ay) in enumerate(self._steering()):
            vx = self._vx[i] + ax + uniform(-wander, wander)
            vy = self._vy[i] + ay + uniform(-wander, wander)
            speed = sqrt(vx * vx + vy * vy)
            if speed > fastest:
                vx, vy = vx * fastest / speed, vy * fastest / speed
            elif 0 < speed < slowest:
                vx, vy = vx * slowest / speed, vy * slowest / speed
            self._vx[i], self._vy[i] = vx, vy
            self._x[i] = (self._x[i] + vx) % size
            self._y[i] = (self._y[i] + vy) % size

    def _steering(self) -> list[tuple[float, float]]:
        """What each agent adds to its velocity, from the sums over its neighbours."""
        steering = []
        for i, (count, dx, dy, vx, vy, away_x, away_y) in enumerate(self._sums()):
            ax, ay = _SEPARATION * away_x, _SEPARATION * away_y
            if count:
                ax += _COHESION * dx / count + _ALIGNMENT * (vx / count - self._vx[i])
                ay += _COHESION * dy / count + _ALIGNMENT * (vy / count - self._vy[i])
            steering.append((ax, ay))
        return steering

    def _sums(self) -> list[list[float]]:
        """For each agent, over all that it sees: count, offsets, velocities, and the push away from those too close.

        Every pair is visited once: the grid gives each cell's own pairs and those with half of its eight neighbours.
        """
        sums = [[0.0] * 7 for _ in self._x]
        cells, width = self._cells, self._size / self._cells
        grid: dict[tuple[int, int], list[int]] = {}
        for i, (x, y) in enumerate(zip(self._x, self._y, strict=True)):
            grid.setdefault((int(x / width) % cells, int(y / width) % cells), []).append(i)
        for (column, row), members in grid.items():
            right, up, down = (column + 1) % cells, (row + 1) % cells, (row - 1) % cells
            others = [
                j for cell in ((right, down), (right, row), (right, up), (column, up)) for j in grid.get(cell, ())
            ]
            for place, i in enumerate(members):
                self._pairs(i, members[place + 1 :], sums)
                self._pairs(i, others, sums)
        return sums

    def _pairs(self, i: int, others: list[int], sums: list[list[float]]) -> None:
        """Add agent ``i`` to the sums of every other agent that it sees, and them to its own."""
        xs, ys, vxs, vys = self._x, self._y, self._vx, self._vy
        size, half = self._size, self._size / 2
        sight2 = self._sight * self._sight
        registry = _CROWD * self._sight
        registry2 = registry * registry
        x, y, vx, vy, mine = xs[i], ys[i], vxs[i], vys[i], sums[i]
        for j in others:
            dx = xs[j] - x
            if dx > half:
                dx -= size
            elif dx < -half:
                dx += size
            dy = ys[j] - y
            if dy > half:
                dy -= size
            elif dy < -half:
                dy += size
            distance2 = dx * dx + dy * dy
            if distance2 >= sight2:
                continue
            theirs = sums[j]
            mine[0] += 1
            mine[1] += dx
            mine[2] += dy
            mine[3] += vxs[j]
            mine[4] += vys[j]
            theirs[0] += 1
            theirs[1] -= dx
            theirs[2] -= dy
            theirs[3] += vx
            theirs[4] += vy
            if distance2 < registry2:
                push = 1 - sqrt(distance2) / registry
                mine[5] -= dx * push
                mine[6] -= dy * push
                theirs[5] += dx * push
                theirs[6] += dy * push


def padded(record: dict[str, Any], size: int) -> dict[str, Any]:
    """The record with a member ``pad`` that brings its JSON to ``size`` bytes; unchanged if it is already that long.

    The filler is noise derived from ``t`` (the same for the same tick), of which compressors save about half: constant
    filler would flatter every figure about compression.

    Args:
        record: a tick from ``Flock.step``.
        size: bytes of the whole tick as compact JSON.
    """
    missing = size - len(orjson.dumps(record)) - len(b',"pad":""')
    if missing < 0:
        return record
    return {**record, "pad": Random(record["t"]).randbytes(missing // 2 + 1).hex()[:missing]}
