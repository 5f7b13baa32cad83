"""Where a stream that gave no position may begin."""

from __future__ import annotations

from dataclasses import dataclass

from tick_gateway.model.query import Query
from tick_gateway.model.tick import Position

from .truth import Truth


@dataclass
class Start:
    """The tip when a client connected, ``run`` None on an empty bus, and what it asked for.

    ``count``: how many of the newest ticks it wanted. ``bare``: the T of a position without a run.
    """

    count: int
    run: str | None
    shown: int
    bare: int | None = None

    def check(self, truth: Truth, every: int, query: Query, position: Position, not_before: int | None) -> None:
        """Judge the position before the first tick that the gateway chose."""
        if self.run is None:
            assert position.run == next(iter(truth.lives))
            assert not truth.shown(position.run, -1, position.t, every)
        elif query.since is not None:
            assert not_before in (None, query.since)
            _check_since(truth, position, query.since, passes_over=not_before is not None)
        elif self.bare is None and query.backlog is None:
            assert position.run == self.run
            given = truth.shown(position.run, position.t, self.shown, every)
            assert sum(not truth.gone(position.run, t) for t in given) <= self.count
            before = truth.shown(position.run, -1, position.t, every)
            assert len(given) >= self.count or all(truth.gone(position.run, t) for t in before)


def _check_since(truth: Truth, position: Position, since: int, *, passes_over: bool) -> None:
    """All that was received since lies behind the position, and of what was received before only what is gone, or what
    waits for the disk and is passed over.

    But where a block has lost its footer, it is a guess when its ticks were received, and those missing around it.
    """
    ids = list(truth.lives)
    place = ids.index(position.run), position.t
    for told in truth.by_u.values():
        if (ids.index(told.run), told.t) <= place:
            guessed = truth.ledger is not None and truth.ledger.lost[told.run] and truth.gone(told.run, told.t)
            assert told.at < since or guessed, f"{told} lies before {position}"
        elif told.at < since:
            assert truth.gone(told.run, told.t) or passes_over, f"{told} is too old, and comes after {position}"
