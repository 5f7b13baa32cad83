"""What was published, kept apart from the gateway: the measure for what its readers are told."""

import json
from bisect import bisect_left, bisect_right
from typing import Any, NamedTuple

from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.history.local.store import Store
from tick_gateway.model.tick import Position
from tick_gateway.model.view import View

from .ledger import Ledger


class Told(NamedTuple):
    """A tick that the bus took in; ``u`` is unique among all runs, and a member of it."""

    run: str
    t: int
    u: int
    data: bytes
    at: int


class Life:
    """A run: ``ts`` are the ticks taken in, ``dropped`` those that a full inbox lost, ``forgotten`` those that a
    process took with it when it ended: whether they are told as a gap is left open.

    The bus keeps two numbers of what it dropped, lowest and highest, and so may tell a gap anywhere below ``fog``, the
    highest.
    """

    def __init__(self, id: str) -> None:
        self.id = id
        self.ts: list[int] = []
        self.dropped: list[int] = []
        self.forgotten: dict[int, Told] = {}
        self.fog = -1

    @property
    def highest(self) -> int:
        """The highest number that its publisher used."""
        return max([*self.ts[-1:], *self.forgotten], default=-1)

    def at(self, t: int) -> int:
        """Where the ticks from ``t`` on begin."""
        return bisect_left(self.ts, t)

    def drop(self, t: int) -> None:
        self.dropped.append(t)
        self.fog = max(self.fog, t)


class Truth:
    """Every run in order, and every tick.

    Attributes:
        bus: of the process that runs now.
        strays: ticks that were dropped and would have begun a run; the bus counts them to the next one that begins.
        ledger: what of it is on disk; None: there is no history.
        lost: the forgotten ticks of runs of which nothing is left.
    """

    def __init__(self) -> None:
        self.bus = TickBus()
        self.lives: dict[str, Life] = {}
        self.by_u: dict[int, Told] = {}
        self.strays: list[int] = []
        self.draining = False
        self.ledger: Ledger | None = None
        self.lost: dict[str, dict[int, Told]] = {}

    def take(self, told: Told) -> None:
        if told.run not in self.lives:
            life = self.lives[told.run] = Life(told.run)
            life.forgotten = self.lost.pop(told.run, {})
            life.fog = max(self.strays, default=-1)
            self.strays = []
        life = self.lives[told.run]
        life.forgotten.pop(told.t, None)
        assert not life.ts or told.t > life.ts[-1], "t rises strictly inside a run"
        life.ts.append(told.t)
        life.dropped = [t for t in life.dropped if t != told.t]
        self.by_u[told.u] = told

    # ---- oracles ----

    def told(self, item: dict[str, Any], view: View) -> Told:
        """The tick that a client was given, by its ``u``."""
        told = self.by_u[(item["data"] if view.stamp else item)["u"]]
        if view.stamp and self.ledger is not None and told.t in self.ledger.lost[told.run]:
            return told._replace(at=item["at"])  # its block has lost its footer: when it was received is a guess
        return told

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
        ts = self.lives[run].ts if run in self.lives else []
        return [t for t in ts[bisect_right(ts, low) : bisect_right(ts, high)] if t % every == 0]

    def dropped(self, run: str, low: int, high: int, every: int = 1) -> list[int]:
        """The ticks lost on the way in with low < t <= high."""
        dropped = self.lives[run].dropped if run in self.lives else []
        return [t for t in dropped if low < t <= high and t % every == 0]

    def beyond(self, position: Position) -> bool:
        """Whether a position lies beyond the tip of its run."""
        return position.run in self.lives and position.t > self.lives[position.run].ts[-1]

    def gone(self, run: str, t: int) -> bool:
        """Whether a tick cannot be read, or could not at some time: memory has let it go, and history has it not."""
        known, ledger = self.bus.runs.get(run), self.ledger
        evicted = known is None or t <= known.evicted
        if ledger is None:
            return evicted
        return t in ledger.late[run] or (evicted and t not in ledger.known[run])

    def holes(self, run: str) -> bool:
        """Whether anything of a run cannot be read."""
        life = self.lives[run]
        return bool(life.forgotten) or any(self.gone(run, t) for t in life.ts)

    def foggy(self, run: str, after: int) -> bool:
        """Whether it cannot be known that nothing was lost behind ``after``: of a hole that reaches that far, history
        knows how many ticks are missing in it, not which."""
        life = self.lives[run]
        last = life.at(after + 1) - 1
        hole = last >= 0 and self.gone(run, life.ts[last])
        return hole or life.fog >= after or any(t >= after for t in life.forgotten)

    def received(self, run: str, t: int) -> int:
        """When a tick was received, ms since the epoch; of one that was dropped, 0."""
        return next((told.at for told in self.by_u.values() if (told.run, told.t) == (run, t)), 0)

    def readable(self, run: str, t: int) -> bool:
        """Whether memory or history has a tick, and readers can have it."""
        known = self.bus.runs.get(run)
        if known is None or t > known.shown:
            return False
        return t > known.evicted or (self.ledger is not None and t in self.ledger.known[run])

    # ---- a new process ----

    def restarted(self, bus: TickBus, store: Store) -> None:
        """Another process goes on with what is on disk: what was neither stored nor shown is lost with the first, and
        nobody was ever told of it."""
        ledger = self.ledger
        assert ledger is not None
        self.bus, self.draining, self.strays = bus, False, []
        ledger.reopened(store)
        for life in list(self.lives.values()):
            run = bus.runs.get(life.id)
            tip = run.tip if run is not None else -1
            assert tip == -1 or tip in life.ts
            taken_back = [t for t in life.ts if t > tip]
            for t in taken_back:
                excused = t in ledger.excused[life.id] or t in ledger.lost[life.id]
                assert excused or t not in ledger.seen[life.id], f"{life.id}:{t} was shown, and a crash took it back"
            life.ts = life.ts[: life.at(tip + 1)]
            life.forgotten |= {t: one for t in taken_back if (one := self._forget(life.id, t)) is not None}
            if run is None or not run.lost_tail:
                life.dropped = [t for t in life.dropped if t <= tip]
            if not life.ts:
                self.lost[life.id] = life.forgotten
                del self.lives[life.id]

    def _forget(self, run: str, t: int) -> Told | None:
        found = next((told for told in self.by_u.values() if (told.run, told.t) == (run, t)), None)
        if found is not None:
            del self.by_u[found.u]
        return found


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
