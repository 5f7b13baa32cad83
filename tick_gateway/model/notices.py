"""Notices: what a stream says beside its ticks. A notice never has a member ``t``; that tells it from a tick.

A notice is a class of this module, and a member of ``Notice`` if streams send it. Its ``name`` is what the wire calls
it, both as member ``notice`` and as event of Server-Sent Events, so no reader may use it as the parameter ``event``.

Pure values. ``event_id`` is the id of the notice on Server-Sent Events: the client's position after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal, get_args

from ..errors import Overloaded
from .tick import UNKNOWN_RUN, Position

FINAL_EVENT_ID: Final = "end"  # the id of an end that is final


@dataclass(frozen=True, slots=True)
class Gap:
    """Published ticks after ``after`` are gone, or may be; ``next`` is the number of the tick that follows.

    ``next`` is None where the rest of that run cannot be read.
    """

    name: ClassVar[str] = "gap"
    run: str
    after: int
    next: int | None

    @property
    def position(self) -> Position:
        return Position(self.run, self.after if self.next is None else self.next - 1)

    def as_dict(self) -> dict[str, object]:
        return {"notice": self.name, "run": self.run, "after": self.after, "next": self.next}

    @property
    def event_id(self) -> str:
        return str(self.position)


@dataclass(frozen=True, slots=True)
class Reset:
    """The stream continues with run ``run``; ``complete``: the rest of ``old`` was delivered without loss."""

    name: ClassVar[str] = "reset"
    run: str
    old: str
    complete: bool

    @property
    def position(self) -> Position:
        return Position(self.run, -1)

    def as_dict(self) -> dict[str, object]:
        old = None if self.old == UNKNOWN_RUN else self.old
        return {"notice": self.name, "run": self.run, "old": old, "complete": self.complete}

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
"""Reasons for which a gateway ends all streams."""


@dataclass(frozen=True, slots=True)
class End:
    """The stream ends, and ``reason`` says why (``REASONS``). After limit and run, the client need not come back."""

    name: ClassVar[str] = "end"
    reason: str
    position: Position | None

    @property
    def final(self) -> bool:
        return self.reason in ("limit", "run")

    def as_dict(self) -> dict[str, object]:
        return {"notice": self.name, "reason": self.reason, "position": str(self.position) if self.position else None}

    @property
    def event_id(self) -> str | None:
        return FINAL_EVENT_ID if self.final else str(self.position) if self.position else None


@dataclass(frozen=True, slots=True)
class Hello:
    """The stream begins: the current run, its oldest readable tick and its tip; all None before the first tick ever."""

    name: ClassVar[str] = "hello"
    run: str | None
    first: int | None
    tip: int | None

    def as_dict(self) -> dict[str, object]:
        return {"notice": self.name, "run": self.run, "first": self.first, "tip": self.tip}

    @property
    def event_id(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class Refusal:
    """There is no room for this reader. Server-Sent Events carry it in place of a stream: EventSource cannot read the
    body of an error status, and stops reconnecting after one."""

    name: ClassVar[str] = "overloaded"
    error: Overloaded

    def as_dict(self) -> dict[str, object]:
        return {"notice": self.name} | self.error.as_dict()

    @property
    def event_id(self) -> str | None:
        return None


Notice = Gap | Reset | End | Hello
"""What a stream says."""

_KINDS: Final[tuple[type[Notice | Refusal], ...]] = (*get_args(Notice), Refusal)
NAMES: Final = frozenset(kind.name for kind in _KINDS)
"""What the wire calls them."""
