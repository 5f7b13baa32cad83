"""Who is connected, who was not let in, and how many different views there are: each view costs work a tick, however
few ask for it."""

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
    """All sessions that have a connection.

    Attributes:
        dropped: how many were cut since their peer took nothing, or answered no ping, for long.
        refused: how many were not let in since there was no room, polls that would have waited among them.

    Args:
        max_views: how many different views they may have, whole ticks not counted.
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
        """How many different views they have, whole ticks not counted."""
        return len(self._views) - (None in self._views)

    def check_views(self, variant: Variant) -> None:
        """Refuse one view too many.

        Raises:
            TooManyViews: nobody has this one yet, and there are as many as there may be.
        """
        costs = variant.costs
        if costs is not None and costs not in self._views and self.views >= self._max_views:
            raise TooManyViews(self._max_views)

    def refuse(self, reason: str) -> None:
        """Count a reader that is not let in, and say why in the log, now and then."""
        self.refused += 1
        self._log.tell(logging.WARNING, f"readers are refused: {reason}")

    def admit(self, session: Member) -> None:
        """A session has a connection."""
        self.sessions.add(session)
        self._views[session.variant.costs] += 1

    def dismiss(self, session: Member) -> None:
        """A session's connection is closed."""
        if session in self.sessions:
            self.sessions.discard(session)
            self._release(session.variant)

    def revise(self, session: Member, variant: Variant) -> None:
        """A session takes another variant, which it sets itself behind this.

        Raises:
            TooManyViews: as ``check_views``.
        """
        self._release(session.variant)  # what it leaves makes room
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
