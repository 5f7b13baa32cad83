"""What a stream says beside its ticks. A notice never has a member ``t``, so that readers can tell the two apart.

Pure values; ``event_id`` is the id under which Server-Sent Events carry a notice, the position a client has after it.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from .query import FINAL_EVENT_ID, UNKNOWN_RUN
from .tick import Position


class Gap(NamedTuple):
    """Published ticks after ``after`` are gone, or it cannot be known whether any were; ``next`` comes next.

    ``next`` None: the rest of that run cannot be read.
    """

    run: str
    after: int
    next: int | None

    @property
    def name(self) -> str:
        return "gap"

    @property
    def position(self) -> Position:
        return Position(self.run, self.after if self.next is None else self.next - 1)

    def as_dict(self) -> dict[str, object]:
        return {"notice": "gap", "run": self.run, "after": self.after, "next": self.next}

    @property
    def event_id(self) -> str:
        return str(self.position)


class Reset(NamedTuple):
    """The stream goes over to run ``run``; ``complete`` tells whether the rest of ``old`` was delivered whole."""

    run: str
    old: str
    complete: bool

    @property
    def name(self) -> str:
        return "reset"

    @property
    def position(self) -> Position:
        return Position(self.run, -1)

    def as_dict(self) -> dict[str, object]:
        old = None if self.old == UNKNOWN_RUN else self.old
        return {"notice": "reset", "run": self.run, "old": old, "complete": self.complete}

    @property
    def event_id(self) -> str:
        return str(self.position)


REASONS: Final = {
    "limit": "the reader has as many ticks as it asked for",
    "run": "the run that it asked for is over",
    "finished": "the simulation has finished, and its gateway ends with it",
    "shutdown": "the gateway shuts down, and may come back",
    "failed": "the simulation, or what brought its ticks, has failed, and the gateway ends with it",
}
EndReason = Literal["finished", "shutdown", "failed"]
"""Why a gateway ends all streams."""


class End(NamedTuple):
    """The stream ends, and ``reason`` says why (``REASONS``). After limit and run that is final for the client."""

    reason: str
    position: Position | None

    @property
    def name(self) -> str:
        return "end"

    @property
    def final(self) -> bool:
        return self.reason in ("limit", "run")

    def as_dict(self) -> dict[str, object]:
        return {"notice": "end", "reason": self.reason, "position": str(self.position) if self.position else None}

    @property
    def event_id(self) -> str | None:
        return FINAL_EVENT_ID if self.final else str(self.position) if self.position else None


class Hello(NamedTuple):
    """The stream begins: the current run, its oldest readable tick and its tip; all None before the first tick ever."""

    run: str | None
    first: int | None
    tip: int | None

    @property
    def name(self) -> str:
        return "hello"

    def as_dict(self) -> dict[str, object]:
        return {"notice": "hello", "run": self.run, "first": self.first, "tip": self.tip}

    @property
    def event_id(self) -> str | None:
        return None


Notice = Gap | Reset | End | Hello
