"""What was published, kept apart from the gateway: the measure for what its readers are told."""

import json
from bisect import bisect_left, bisect_right
from typing import Any, NamedTuple

from tick_gateway.bus import TickBus
from tick_gateway.view import View


class Told(NamedTuple):
    """A tick that the bus took in; ``u`` is unique among all runs, and a member of it."""

    run: str
    t: int
    u: int
    data: bytes
    at: int


class Life:
    """A run: ``ts`` are the ticks taken in, ``dropped`` those that a full inbox lost."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.ts: list[int] = []
        self.dropped: list[int] = []


class Truth:
    """Every run in order, and every tick.

    Attributes:
        strays: ticks were dropped of which the bus cannot know whether they began a run that never came; from then on
            it may announce gaps where nothing was lost.
    """

    def __init__(self, bus: TickBus) -> None:
        self.bus = bus
        self.lives: dict[str, Life] = {}
        self.by_u: dict[int, Told] = {}
        self.strays = False
        self.draining = False

    def take(self, told: Told) -> None:
        life = self.lives.setdefault(told.run, Life(told.run))
        assert not life.ts or told.t > life.ts[-1], "t rises strictly inside a run"
        life.ts.append(told.t)
        self.by_u[told.u] = told

    # ---- oracles ----

    @property
    def tip(self) -> tuple[str, int] | None:
        for life in reversed(self.lives.values()):
            return life.id, life.ts[-1]
        return None

    def follower(self, run: str) -> str | None:
        """The run after this one."""
        ids = list(self.lives)
        at = ids.index(run) + 1
        return ids[at] if at < len(ids) else None

    def shown(self, run: str, low: int, high: int, every: int = 1) -> list[int]:
        """The ticks taken in with low < t <= high that a view lets through."""
        ts = self.lives[run].ts
        return [t for t in ts[bisect_right(ts, low) : bisect_right(ts, high)] if t % every == 0]

    def dropped(self, run: str, low: int, high: int, every: int = 1) -> list[int]:
        """The ticks lost on the way in with low < t <= high."""
        return [t for t in self.lives[run].dropped if low < t <= high and t % every == 0]

    def gone(self, run: str, t: int) -> bool:
        """Whether memory has let a tick go."""
        known = self.bus.runs.get(run)
        return known is None or t <= known.evicted

    def since(self, at: int) -> Told | None:
        """The first tick received at or after a time, in milliseconds."""
        told = list(self.by_u.values())
        index = bisect_left(told, at, key=lambda one: one.at)
        return told[index] if index < len(told) else None


def expected(view: View, told: Told) -> bytes:
    """What a view makes of a tick, with nothing of the gateway's."""
    data = told.data
    if view.fields:
        tree: dict[str, Any] = {"t": None}
        for path in view.fields:
            _plant(tree, path.split("."))
        data = json.dumps(_pick(json.loads(data), tree), separators=(",", ":"), ensure_ascii=False).encode()
    if view.stamp:
        head = json.dumps({"t": told.t, "run": told.run, "at": told.at}, separators=(",", ":"))
        data = head[:-1].encode() + b',"data":' + data + b"}"
    return data


def _plant(tree: dict[str, Any], path: list[str]) -> None:
    name, *rest = path
    if not rest:
        tree[name] = None
    elif tree.get(name, {}) is not None:
        _plant(tree.setdefault(name, {}), rest)


def _pick(value: Any, tree: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_pick(one, tree) for one in value if isinstance(one, dict | list)]
    return {
        name: member if tree[name] is None else _pick(member, tree[name])
        for name, member in value.items()
        if name in tree and (tree[name] is None or isinstance(member, dict | list))
    }
