"""What every reading route answers, in plain Python: the protocol as a function of what was published.

A ``World`` is what was published and what of it can still be read; everything else here says, by the protocol's own
words, what a request gets. It knows no batches, blocks, buffers or sockets, and nothing of the gateway's code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass
class Tick:
    """A published tick. ``gone``: it cannot be read any more; ``dropped``: it never could, for want of room."""

    t: int
    data: bytes
    at: int
    gone: bool = False
    dropped: bool = False


@dataclass
class Run:
    """A run's ticks in order, the gone ones counted; ``over``: it ended, and readers have seen its last tick."""

    id: str
    ticks: list[Tick] = field(default_factory=list)
    over: bool = False

    @property
    def tip(self) -> int:
        return max((tick.t for tick in self.ticks if not tick.dropped), default=-1)

    @property
    def readable(self) -> list[Tick]:
        return [tick for tick in self.ticks if not tick.gone]

    @property
    def first(self) -> int | None:
        return min((tick.t for tick in self.readable), default=None)


@dataclass(frozen=True)
class Ask:
    """The parameters of a request, as values. ``start``: (run, t), or t of the current run."""

    start: tuple[str, int] | int | None = None
    tail: int | None = None
    since: int | None = None
    run: str | None = None
    fields: tuple[str, ...] = ()
    every: int = 1
    stamp: bool = False
    skip: bool = False
    backlog: int | None = None
    limit: int | None = None
    t0: int | None = None
    t1: int | None = None


# ---- what comes ----


class Shown(NamedTuple):
    """A tick that is delivered."""

    run: str
    tick: Tick


class Told(NamedTuple):
    """A gap. ``after`` and ``next`` lie between these; not ``sure``: it may be told, since nobody can know."""

    run: str
    after: tuple[int, int]
    next: tuple[int, int] | None
    sure: bool = True


class Change(NamedTuple):
    """A reset; ``complete`` None: true where no gap was told since the last one."""

    run: str
    old: str
    complete: bool | None


class Over(NamedTuple):
    """The end."""

    reason: str
    run: str
    t: int


Expected = Shown | Told | Change | Over


class Begin(NamedTuple):
    """Where a reader begins, and what it is told first."""

    run: str
    t: int
    told: tuple[Expected, ...] = ()
    not_before: int | None = None


class World:
    """All that was published."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}

    @property
    def newest(self) -> Run:
        return list(self.runs.values())[-1]

    def following(self, run: Run) -> Run | None:
        order = list(self.runs.values())
        at = order.index(run) + 1
        return order[at] if at < len(order) else None

    # ---- where a reader begins ----

    def begin(self, ask: Ask, *, oldest: bool) -> Begin:
        """``oldest``: who names no starting point begins at the first tick that can be read (pulls)."""
        home = self.runs[ask.run] if ask.run is not None else self.newest
        found = self._start(ask, home, oldest=oldest)
        if ask.skip and found.run != home.id and ask.run is None:
            run, t = self.back(1, ask.every, [home])
            return Begin(run, t, (Change(home.id, found.run, False),))
        if found.run not in self.runs or found.t > self.runs[found.run].tip:
            found = self._reset(found, home, ask)
        if ask.backlog is not None:
            found = self._forward(
                ask, found, self.back(ask.backlog, ask.every, [home] if ask.run else self.runs.values())
            )
        return found

    def _start(self, ask: Ask, home: Run, *, oldest: bool) -> Begin:
        if isinstance(ask.start, tuple):
            return Begin(*ask.start)
        if ask.start is not None:
            return Begin(home.id, ask.start)
        if ask.since is not None:
            return self._since(ask.since, home, [home] if ask.run else list(self.runs.values()))
        if ask.run is not None and ask.tail is None:
            return Begin(home.id, -1)
        if oldest and ask.tail is None:
            return Begin(home.id, home.tip if home.first is None else home.first - 1)
        return Begin(*self.back(1 if ask.tail is None else ask.tail, ask.every, [home]))

    def _reset(self, found: Begin, home: Run, ask: Ask) -> Begin:
        """A position of an unknown run, or beyond a run's tip: not waited for here."""
        old = self.runs.get(found.run)
        new = home if old is None or ask.run else self.following(old) or old
        return Begin(new.id, -1, (Change(new.id, found.run, False),))

    def back(self, count: int, every: int, runs: Any) -> tuple[str, int]:
        """The position before the last so many ticks that pass, as far back as can be read."""
        found = [(run.id, tick.t) for run in runs for tick in run.readable if tick.t % every == 0]
        newest = list(runs)[-1]
        if not found or not count:
            return newest.id, newest.tip
        run, t = found[-count] if count <= len(found) else found[0]
        return run, t - 1

    def _since(self, since: int, home: Run, runs: Sequence[Run]) -> Begin:
        for run in runs:
            wanted = [tick for tick in run.ticks if tick.at >= since and not tick.dropped]
            first = next((tick for tick in wanted if not tick.gone), None)
            lost = [tick for tick in wanted if tick.gone and (first is None or tick.t < first.t)]
            upto = first.t if first is not None else run.tip + 1
            before = max((tick.t for tick in run.readable if tick.t < upto and tick.at < since), default=-1)
            upon = None if first is None else (first.t, first.t)
            if lost:
                told = Told(run.id, (before, lost[0].t - 1), upon)
                return Begin(run.id, upto - 1, (told,))
            if first is not None:
                unsure = any(tick.gone and before < tick.t < first.t for tick in run.ticks)
                maybe = (Told(run.id, (before, first.t - 1), upon, sure=False),) if unsure else ()
                return Begin(run.id, first.t - 1, maybe)
        return Begin(home.id, home.tip, (), since)

    def _forward(self, ask: Ask, begin: Begin, target: tuple[str, int]) -> Begin:
        """Move a reader forward to where its backlog begins, and say what it does not get."""
        order, told = list(self.runs), list(begin.told)
        named = ask.start is not None or ask.run is not None  # else it stands before the first that can be read
        run, t = begin.run, begin.t
        after = (t if named else -1, t)
        last = told[-1] if told else None
        if isinstance(last, Told) and (order.index(run), t) <= (order.index(target[0]), target[1]):
            after = last.after[0], t  # one gap tells of both
            told.pop()
        complete = _complete(told)
        while order.index(run) < order.index(target[0]):
            if any(tick.t > after[0] for tick in self.runs[run].ticks):
                told.append(Told(run, after, None))
                complete = False
            old, run, t, after = run, order[order.index(run) + 1], -1, (-1, -1)
            told.append(Change(run, old, complete))
            complete = True
        if run == target[0] and any(after[0] < tick.t <= target[1] for tick in self.runs[run].ticks):
            # What comes next is the first of the backlog, or one that the view leaves out just before it.
            passing = max((tick.t for tick in self.runs[run].readable if tick.t <= target[1]), default=t)
            left_out = [tick for tick in self.runs[run].ticks if t < tick.t <= target[1]]
            sure = any(tick.gone or tick.t % ask.every == 0 for tick in left_out)
            upon = (min(passing, target[1]) + 1, target[1] + 1)
            told.append(Told(run, after, upon, sure))
            t = max(t, target[1])
        return Begin(run, t, tuple(told), begin.not_before)

    # ---- what comes then ----

    def walk(self, ask: Ask, *, oldest: bool = False) -> Iterator[Expected]:
        """All that comes, up to the tip, or to the end of ``run``."""
        begin = self.begin(ask, oldest=oldest)
        yield from begin.told
        t, complete, before = begin.t, _complete(begin.told), ""
        for run in list(self.runs.values())[list(self.runs).index(begin.run) :]:
            if before:
                yield Change(run.id, before, complete)
                t, complete = -1, True
            for event in self._walk_run(run, t):
                if isinstance(event, Told):
                    if event.next is None and run is self.newest and not (run.over and ask.run):
                        continue  # what was dropped behind the tip is told with the next tick
                    complete = _complete([event], complete)
                    yield event
                elif event.tick.t % ask.every == 0 and event.tick.at >= (begin.not_before or 0):
                    yield event
            before = run.id
            if ask.run is not None:
                if run.over:
                    yield Over("run", run.id, max(run.tip, t))
                return

    def _walk_run(self, run: Run, t: int) -> Iterator[Shown | Told]:
        gone = unsure = False
        for tick in run.ticks:
            if tick.t <= t:
                unsure = tick.gone
            elif tick.gone:
                gone = True
            else:
                if gone or (unsure and t < tick.t - 1):
                    yield Told(run.id, (t, t), (tick.t, tick.t), sure=gone)
                yield Shown(run.id, tick)
                t, gone, unsure = tick.t, False, False
        if gone:
            yield Told(run.id, (t, t), None)

    def stream(self, ask: Ask) -> tuple[list[Expected], bool]:
        """What a stream gets, and whether it ends."""
        events: list[Expected] = []
        left = ask.limit
        for event in self.walk(ask):
            events.append(event)
            if isinstance(event, Shown) and left is not None:
                left -= 1
                if not left:
                    events.append(Over("limit", event.run, event.tick.t))
            if isinstance(events[-1], Over):
                return events, True
        return events, False

    # ---- one answer ----

    def pull(self, ask: Ask, limit: int, above: int = 0, *, unsure: bool = False) -> Pull:
        """One answer of a pull; ``above``: numbers below it are passed over; ``unsure``: gaps that need not be told
        are told, where that makes a difference."""
        begin = self.begin(ask, oldest=True)
        first = begin.told[0].run if begin.told else begin.run
        pull = Pull(first, low=begin.t, high=begin.t, waits=begin.not_before is not None)
        for event in self.walk(ask, oldest=True):
            if isinstance(event, Change):
                if len(pull.ticks) == limit and pull.ticks[-1].t < self.runs[pull.run].tip:
                    break  # full before the run's end, though nothing more of it passes
                if pull.ticks or pull.reset or any(gap.sure or unsure for gap in pull.gaps):
                    self._end_before(event, pull)
                    return pull
                pull.run = pull.run_next = pull.reset = event.run
                pull.low = pull.high = -1
            elif isinstance(event, Told):
                if len(pull.ticks) == limit and (event.next is not None or ask.run is not None):
                    break
                pull.gaps.append(event)
                if event.next is None and not pull.ticks:
                    pull.low = min(pull.low, event.after[0])
                elif event.next is not None:
                    pull.low = max(pull.low, event.next[0] - 1)
            elif isinstance(event, Shown):
                if event.tick.t < above:
                    continue
                if len(pull.ticks) == limit:
                    pull.high = event.tick.t - 1
                    return pull
                pull.ticks.append(event.tick)
                pull.low = event.tick.t
            else:
                pull.over = True
        pull.high = max(self.runs[pull.run_next or pull.run].tip, pull.low)
        return pull

    def _end_before(self, change: Change, pull: Pull) -> None:
        """An answer holds ticks and gaps of one run, and one change of run."""
        if pull.reset is None:
            pull.reset, pull.low, pull.high, pull.run_next = change.run, -1, -1, change.run
        elif pull.gaps and pull.gaps[-1].next is None:
            pull.high = max(pull.low, pull.gaps.pop().after[1])  # it is told with the change
        else:
            pull.high = self.runs[pull.run].tip

    def range(self, ask: Ask) -> Pull:
        """``/range``."""
        run = self.runs[ask.run] if ask.run is not None else self.newest
        if isinstance(ask.start, tuple):
            run = self.runs[ask.start[0]]
        after = ask.start[1] if isinstance(ask.start, tuple) else ask.start if ask.start is not None else None
        low = max(ask.t0 if ask.t0 is not None else -1, after + 1 if after is not None else -1)
        if low < 0 and ask.since is None:
            low = run.first if run.first is not None else run.tip + 1
        high = run.tip if ask.t1 is None else min(ask.t1, run.tip)
        pull = Pull(run.id)
        for event in self._walk_run(run, max(low, 0) - 1):
            if isinstance(event, Told):
                after = event.after[0]
                if after < high:
                    lost = any(after < tick.t <= high and tick.gone and self._asked(ask, tick) for tick in run.ticks)
                    upto = event.next[0] - 1 if event.next is not None and ask.since is not None else after
                    pull.gaps.append(event._replace(after=(after, upto), sure=event.sure and lost))
            elif event.tick.t <= high and event.tick.t % ask.every == 0 and event.tick.at >= (ask.since or 0):
                pull.ticks.append(event.tick)
        if ask.tail is not None:
            pull.ticks = pull.ticks[len(pull.ticks) - ask.tail :] if ask.tail < len(pull.ticks) else pull.ticks
        pull.ticks = pull.ticks[: ask.limit]
        return pull

    @staticmethod
    def _asked(ask: Ask, tick: Tick) -> bool:
        """Whether a tick that is gone was surely asked for."""
        return ask.tail is None and (ask.since is None or (tick.at >= ask.since and not tick.dropped))

    def latest(self, ask: Ask) -> tuple[str, Tick] | None:
        """``/latest``."""
        run = self.runs[ask.run] if ask.run is not None else self.newest
        after = -1
        if isinstance(ask.start, tuple):
            run, after = self.runs[ask.start[0]], ask.start[1]
        elif ask.start is not None:
            after = ask.start
        found = [tick for tick in run.readable if tick.t % ask.every == 0]
        if not found or ask.tail == 0 or found[-1].t <= after or found[-1].at < (ask.since or 0):
            return None
        return run.id, found[-1]


def _complete(told: Iterable[Expected], complete: bool | None = True) -> bool | None:
    """Whether nothing was skipped since the last reset; None: whoever is told of no gap may take it so."""
    for one in told:
        if isinstance(one, Change):
            complete = True
        elif isinstance(one, Told):
            complete = False if one.sure else None if complete else complete
    return complete


@dataclass
class Pull:
    """What one answer holds.

    Attributes:
        low, high: between which the ``t`` of ``Tick-Next`` lies, in ``run_next`` (None: in ``run``).
        reset: the run of ``Tick-Reset``.
        waits: nothing is known before the time that was asked for.
    """

    run: str
    low: int = -1
    high: int = -1
    ticks: list[Tick] = field(default_factory=list)
    gaps: list[Told] = field(default_factory=list)
    reset: str | None = None
    run_next: str | None = None
    over: bool = False
    waits: bool = False


# ---- what a view shows ----


def shown(ask: Ask, run: str, tick: Tick) -> Any:
    """A tick's JSON value as the view shows it."""
    value = json.loads(tick.data)
    if ask.fields:
        value = _project(value, ["t", *ask.fields])
    return {"t": tick.t, "run": run, "at": tick.at, "data": value} if ask.stamp else value


def _project(value: Any, paths: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_project(one, paths) for one in value if isinstance(one, dict | list)]
    kept = {}
    for name, member in value.items():
        below = [path.partition(".")[2] for path in paths if path.partition(".")[0] == name]
        if "" in below:
            kept[name] = member
        elif below and isinstance(member, dict | list):
            kept[name] = _project(member, below)
    return kept
