"""The pace of a replay, and how it continues after a delay.

A replay has a clock of its own. It runs while the reader takes what it is given, and stands still otherwise: while the
reader is paused or does not read, while a block takes long to load, and while the gateway itself stood still. So no
time is made up for: after a delay, ticks come at the same distance as before.

With ``lag=skip`` the clock also runs while the reader does not read; then the reader continues at the newest tick that
is due.

No clock here: callers pass ``now``, seconds.
"""

from __future__ import annotations

from typing import Final

from ..model.notices import End, Gap, Reset
from ..model.tick import Position
from ..model.view import View
from ..reading.cursor import Item, Span

_SLACK: Final = 0.1  # seconds of delay that are made up for, so that a busy loop keeps the average pace


class Pace:
    """Replays ticks at ``speed`` times the pace at which they were received."""

    def __init__(self, speed: float, now: float) -> None:
        self.speed = speed
        self._clock = 0.0  # the replay's time, in seconds
        self._since: float | None = now  # when the clock was last set; None while it stands still
        # When the next tick is due on the clock; if that is unknown, when it was last asked for.
        self._next = 0.0
        self._origin: tuple[int, float] | None = None  # a tick's receive time in ms, and when it was due on the clock
        self._last: float | None = None  # when the last tick was due

    def stand(self, now: float) -> None:
        """Stop the clock."""
        self._set(now)
        self._since = None

    def go(self, now: float) -> None:
        """Start the clock."""
        if self._since is None:
            self._since = now

    def run_on(self, now: float) -> None:
        """The clock has run all the time."""
        if self._since is not None:
            self._clock += now - self._since
            self._since, self._next = now, self._clock

    def _set(self, now: float) -> None:
        """Advance the clock to now, but not far beyond the next tick: a caller that is later than that was delayed."""
        if self._since is not None:
            passed = self._clock + now - self._since
            self._clock = max(min(passed, max(self._next, self._clock) + _SLACK), self._clock)
            self._since = now

    def take(self, items: list[Item | End], now: float) -> tuple[list[Item | End], float | None]:
        """The items due by ``now``, and when the next tick is due; None: all are."""
        self._set(now)
        self._next = self._clock
        taken: list[Item | End] = []
        for item in items:
            if isinstance(item, Reset):
                self._origin = None  # the pause between two runs is not replayed
            if isinstance(item, Span):
                ticks = item.ticks
                if self._origin is None:
                    self._origin = ticks[0].at, self._clock if self._last is None else self._last
                began, start = self._origin
                for index, tick in enumerate(ticks):
                    due = start + (tick.at - began) / 1000 / self.speed
                    if due > self._clock:
                        if index:
                            taken.append(Span(item.batch, item.begin, item.begin + index))
                        self._next = due
                        return taken, now + due - self._clock
                    self._last = due
            taken.append(item)
        return taken, None


class Skip:
    """Skips the ticks of a replay that are due, up to the newest one.

    Args:
        start: the reader's position.
    """

    def __init__(self, start: Position | None) -> None:
        self.start = start
        self._newest: Span | None = None
        self._behind: list[Item | End] = []  # notices after it
        self._passed = 0  # ticks that pass the view
        self._gap = False

    def add(self, items: list[Item | End], view: View) -> None:
        """Skip more."""
        for item in items:
            if not isinstance(item, Span):
                self._behind.append(item)
                self._gap = self._gap or isinstance(item, Gap)
                continue
            passing = [index for index in range(item.begin, item.end) if view.passes(item.batch.ticks[index].t)]
            if passing:
                self._newest = Span(item.batch, passing[-1], passing[-1] + 1)
                self._passed += len(passing)
                self._behind = []

    def told(self) -> list[Item | End]:
        """What the reader is given in place of the skipped items: the newest tick, and what was left out before it."""
        if self._newest is None:
            return self._behind
        run, t = self._newest.position
        before: list[Item | End] = []
        if self.start is not None and self.start.run != run:
            before = [Reset(run, self.start.run, False)]
        elif self.start is not None and (self._passed > 1 or self._gap):
            before = [Gap(run, self.start.t, t)]
        return [*before, self._newest, *self._behind]
