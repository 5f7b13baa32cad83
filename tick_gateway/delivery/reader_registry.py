"""The registry of readers: who is connected, how many were refused, and how many different views there are. Each view
costs work per tick, however few readers have it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable

from ..errors import TooManyViews
from ..logs import ThrottledLog
from .encoder import Variant
from .group import Member

log = logging.getLogger("tick_gateway")


class ReaderRegistry:
    """All sessions with a connection.

    Attributes:
        dropped: sessions cut because their peer took nothing, or answered no ping, for long.
        refused: readers refused because there was no room, including polls that would have waited.

    Args:
        max_views: maximum number of different views, whole ticks not counted.
    """

    def __init__(self, max_views: int) -> None:
        self.sessions: set[Member] = set()
        self.dropped = 0
        self.refused = 0
        self._max_views = max_views
        self._views: Counter[Hashable] = Counter()
        self._log = ThrottledLog(log)

    @property
    def views(self) -> int:
        """The number of different views, whole ticks not counted."""
        return len(self._views) - (None in self._views)

    def check_views(self, variant: Variant) -> None:
        """Refuse a view beyond the maximum.

        Raises:
            TooManyViews: the view is new, and there are already as many as allowed.
        """
        costs = variant.costs
        if costs is not None and costs not in self._views and self.views >= self._max_views:
            raise TooManyViews(self._max_views)

    def refuse(self, reason: str) -> None:
        """Count a refused reader, and log the reason (throttled)."""
        self.refused += 1
        self._log.tell(logging.WARNING, f"readers are refused: {reason}")

    def admit(self, session: Member) -> None:
        """Add a session, whose connection was made."""
        self.sessions.add(session)
        self._views[session.variant.costs] += 1

    def dismiss(self, session: Member) -> None:
        """Remove a session, whose connection is closed."""
        if session in self.sessions:
            self.sessions.discard(session)
            self._release(session.variant)

    def revise(self, session: Member, variant: Variant) -> None:
        """Account for a session's new variant, which the session then sets itself.

        Raises:
            TooManyViews: as for ``check_views``.
        """
        self._release(session.variant)  # its old view makes room
        try:
            self.check_views(variant)
        except TooManyViews:
            variant = session.variant
            raise
        finally:
            self._views[variant.costs] += 1

    def _release(self, variant: Variant) -> None:
        self._views[variant.costs] -= 1
        if not self._views[variant.costs]:
            del self._views[variant.costs]
