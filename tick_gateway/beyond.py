"""Positions beyond the tip, and how long each waits for it: counted from the first request that asked for it.

So a client that gives up sooner, and comes back, learns of a restart that lost ticks as well as one that waits: a pull
with a short timeout, or a stream behind a proxy that cuts it.

Pure: callers pass ``now``.
"""

from __future__ import annotations

from typing import Final

from .tick import Position

_MOST: Final = 1000  # positions remembered


class Beyond:
    """Remembers the positions that were asked for, those asked for last."""

    def __init__(self) -> None:
        self._until: dict[Position, float] = {}  # those asked for least lately first

    def deadline(self, position: Position, now: float, seconds: float) -> float:
        """When a position stops waiting, where the first one that asks for it waits so many seconds."""
        until = self._until.pop(position, now + seconds)
        self._until[position] = until
        if len(self._until) > _MOST:
            del self._until[next(iter(self._until))]
        return until
