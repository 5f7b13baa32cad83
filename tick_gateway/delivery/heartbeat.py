"""The heartbeat of a session: when one is sent, and when the peer is considered gone.

    quiet for ``interval`` ──► a beat is due ──► missed, and again … more than ``missed_beats`` in a row ──► gone
    blocked ─────────────────► its peer takes no byte for that long, ``stall_seconds`` at least ──────────► gone

A peer misses a beat when its system did not take it; where peers answer beats (a WebSocket's pongs), also when it does
not answer. A slow reader takes some bytes now and then, and is kept.

No clock and nothing is written here: callers pass the time (seconds, monotonic), and how many bytes the peer has not
taken, which ``unsent_bytes`` asks the system for.
"""

from __future__ import annotations

import array
import asyncio

from ..access.file_descriptors import descriptor_of
from .patience import Patience

try:
    import fcntl
    import termios
except ImportError:  # Windows, where only the process's own buffer is known
    fcntl = None  # type: ignore[assignment]


class Heartbeat:
    """When one session beats, and whether its peer is still there.

    Args:
        interval: seconds of quiet before a beat.
        answered: its peer answers beats; the session calls ``heard`` when it says anything.
    """

    __slots__ = ("_answered", "_interval", "_missed", "_moved_at", "_patience", "_quiet_since", "_unsent")

    def __init__(self, interval: float, patience: Patience, now: float, *, answered: bool = False) -> None:
        self._interval = interval
        self._patience = patience
        self._answered = answered
        self._quiet_since = now  # when the session last wrote by itself, rather than its group
        self._missed = 0  # consecutive beats
        self._unsent = -1  # bytes that its peer had not taken at the last check; -1: more was written since
        self._moved_at = 0.0  # while blocked: when its peer was last seen to take some

    def wrote(self, now: float) -> None:
        """The session wrote something by itself."""
        self._quiet_since = now
        self._unsent = -1

    def heard(self) -> None:
        """Its peer said something."""
        self._missed = 0

    def blocked(self) -> None:
        """Its peer does not take what was written."""
        self._unsent = -1

    def drained(self) -> None:
        """Its peer took what was written."""
        self._unsent, self._missed = -1, 0

    def stalled(self, unsent: int, now: float) -> bool:
        """Whether the peer of a blocked session is gone: it has taken nothing for as long as beats may be missed."""
        if self._unsent < 0 or unsent < self._unsent:
            self._unsent, self._moved_at = unsent, now
            return False
        patience = self._patience
        return now - self._moved_at >= max(self._interval * (patience.missed_beats + 1), patience.stall_seconds)

    def due(self, now: float, group_wrote: float) -> bool:
        """Whether a beat is due; its group wrote at ``group_wrote``. If so, the quiet begins anew."""
        if now - max(self._quiet_since, group_wrote) < self._interval:
            return False
        if group_wrote > self._quiet_since:
            self._unsent = -1  # more than the last beat was written since
        self._quiet_since = now
        return True

    def miss(self, unsent: int) -> bool:
        """Count whether the last beat was missed; returns whether these are too many, and the peer is gone.

        Where beats are answered, one that the peer's system took and that has no answer is missed, too. While its
        peer takes what was written before a beat, it has not come to that one.
        """
        stuck = 0 <= self._unsent <= unsent  # it took none since the last beat, and nothing else was written
        if self._answered:
            self._missed += stuck or not unsent
        else:
            self._missed = self._missed + 1 if unsent and stuck else 0
        return self._missed > self._patience.missed_beats

    def beat(self, unsent: int) -> None:
        """A beat was written; ``unsent``: with it."""
        self._unsent = unsent


def unsent_bytes(transport: asyncio.WriteTransport) -> int:
    """Bytes still in this process, or in its system without an acknowledgement by the peer's."""
    count = transport.get_write_buffer_size()
    descriptor = descriptor_of(transport)
    if fcntl is not None and descriptor >= 0:
        found = array.array("i", [0])
        try:
            fcntl.ioctl(descriptor, termios.TIOCOUTQ, found)  # on a socket: SIOCOUTQ (Linux: tcp(7))
        except OSError:
            return count
        count += found[0]
    return count
