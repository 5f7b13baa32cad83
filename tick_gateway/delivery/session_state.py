"""The states of a session, and which state may follow which.

    NEW ──connection made──► CATCHING_UP ◄──────────────────┐
                                │   ▲                       │
         a portion was written, │   │ more was flushed, the │ buffer drained
         and nothing is left    ▼   │ block came, its time  │
                STARTING, LOADING, WAITING, LIVE ──────► BLOCKED ◄──resume── PAUSED_BLOCKED
                                │               buffer full                    ▲
                                └──pause──► PAUSED ──────────────buffer full───┘

A session may end from any state: CLOSING, and CLOSED when the connection is gone. From CATCHING_UP it may be blocked or
paused, like from the four states below it; PAUSED leads back there when the reader resumes.

Only values: ``session`` decides on transitions, the fan-out reads the state.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class State(Enum):
    """A state of a session."""

    NEW = auto()
    """It has no connection yet."""
    CATCHING_UP = auto()
    """It has something to read, and is in the fan-out's queue, or has its turn."""
    STARTING = auto()
    """Its start position is being looked for."""
    LOADING = auto()
    """What it reads next is on its way from disk."""
    WAITING = auto()
    """It reads by itself and has nothing to read: nothing was published yet or it stands beyond the tip, or it reads to
    a ``limit`` or at a ``speed``. The next flush wakes it, or its time."""
    LIVE = auto()
    """It stands at the horizon, and its group writes to it."""
    BLOCKED = auto()
    """The transport's buffer is full."""
    PAUSED = auto()
    """The reader asked for nothing until it resumes."""
    PAUSED_BLOCKED = auto()
    """Both."""
    CLOSING = auto()
    """Its end was written, and the peer has yet to take it."""
    CLOSED = auto()
    """The connection is gone."""

    @property
    def live(self) -> bool:
        return self is State.LIVE

    @property
    def blocked(self) -> bool:
        """Whether nothing can be written."""
        return self is State.BLOCKED or self is State.PAUSED_BLOCKED

    @property
    def paused(self) -> bool:
        return self is State.PAUSED or self is State.PAUSED_BLOCKED

    @property
    def ended(self) -> bool:
        """Whether nothing will be written any more."""
        return self is State.CLOSING or self is State.CLOSED

    @property
    def reads(self) -> bool:
        """Whether it has something to read by itself, and can write it."""
        return self in _READS

    @property
    def wakes(self) -> bool:
        """Whether it reads on when it is woken."""
        return self in _WAKES


_READS: Final = frozenset((State.NEW, State.CATCHING_UP, State.STARTING, State.LOADING))
_WAKES: Final = frozenset((State.NEW, State.CATCHING_UP, State.LOADING, State.WAITING))
_ENDS: Final = frozenset((State.CLOSING, State.CLOSED))
_STOPS: Final = _ENDS | {State.CATCHING_UP, State.BLOCKED, State.PAUSED}

TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.NEW: _ENDS | {State.CATCHING_UP, State.BLOCKED},
    State.CATCHING_UP: _STOPS | {State.STARTING, State.LOADING, State.WAITING, State.LIVE},
    State.STARTING: _STOPS,
    State.LOADING: _STOPS,
    State.WAITING: _STOPS,
    State.LIVE: _STOPS,
    State.BLOCKED: _ENDS | {State.CATCHING_UP, State.PAUSED_BLOCKED},
    State.PAUSED: _ENDS | {State.CATCHING_UP, State.PAUSED_BLOCKED},
    State.PAUSED_BLOCKED: _ENDS | {State.BLOCKED, State.PAUSED},
    State.CLOSING: frozenset((State.CLOSED,)),
    State.CLOSED: frozenset(),
}
"""Which states may follow each."""
