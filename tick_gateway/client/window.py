"""A publisher's window: ticks that were sent or will be, and that the gateway has not settled yet.

Pure: no I/O, no clock. The entries are in the order of the input; within a run their ``t`` never falls.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class PendingTick:
    """A tick that is not settled yet.

    Attributes:
        t: its number.
        data: its bytes, as they are sent.
        line: its line in the input, from 1.
        message: the number of its message on the current connection, from 1; 0: not sent on it yet.
        sent: it was sent before, on any connection.
    """

    t: int
    data: bytes
    line: int
    message: int = 0
    sent: bool = False


class Window:
    """The ticks of one run that are not settled yet, oldest first. Pure.

    Args:
        max_ticks, max_bytes: maximum content; one tick always fits.
    """

    def __init__(self, max_ticks: int = 10_000, max_bytes: int = 1 << 25) -> None:
        self._max_ticks, self._max_bytes = max_ticks, max_bytes
        self._entries: deque[PendingTick] = deque()
        self._bytes = 0
        self._sent = 0  # how many entries, from the left, were sent on the current connection
        self._messages = 0
        self.resent = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        return len(self._entries) >= self._max_ticks or self._bytes >= self._max_bytes

    @property
    def waiting(self) -> bool:
        """Whether an answer is pending for something sent on this connection."""
        return self._sent > 0

    def add(self, entry: PendingTick) -> None:
        self._entries.append(entry)
        self._bytes += len(entry.data)

    def connected(self) -> None:
        """There is a new connection: everything left has to be sent on it."""
        self._sent = self._messages = 0

    def next(self) -> PendingTick | None:
        """The next tick to send, which counts as sent after this call; None: all were sent."""
        if self._sent == len(self._entries):
            return None
        entry = self._entries[self._sent]
        self._sent += 1
        self._messages += 1
        self.resent += entry.sent
        entry.message, entry.sent = self._messages, True
        return entry

    def acknowledged(self, t: int) -> int:
        """Settle every message up to ``t``; returns how many there were."""
        count = 0
        while self._sent and self._entries[0].t <= t:
            self._bytes -= len(self._entries.popleft().data)
            self._sent -= 1
            count += 1
        return count

    def refused(self, t: object, message: object) -> PendingTick | None:
        """Remove the entry that a refusal names, by the number of its message or else its ``t``; None: there is
        none."""
        for entry in [self._entries[i] for i in range(self._sent)]:
            if entry.message == message or (message is None and entry.t == t):
                return self._take_out(entry)
        return None

    def largest_sent(self) -> PendingTick | None:
        """Remove the largest tick sent, after the gateway reported one as too big."""
        sent = [self._entries[i] for i in range(self._sent)]
        return self._take_out(max(sent, key=lambda entry: len(entry.data))) if sent else None

    def _take_out(self, entry: PendingTick) -> PendingTick:
        self._entries.remove(entry)
        self._sent -= 1
        self._bytes -= len(entry.data)
        return entry


@dataclass(slots=True)
class PublishSummary:
    """The outcome of publishing: counts of ticks, and the ids of their runs."""

    published: int = 0
    refused: int = 0
    resent: int = 0
    runs: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        runs = ", ".join(self.runs[:3]) + (f" and {len(self.runs) - 3} more" if len(self.runs) > 3 else "")
        ticks = "1 tick" if self.published == 1 else f"{self.published} ticks"
        again = f", {self.resent} sent again" if self.resent else ""
        return f"{ticks} published to {runs} in {self.seconds:.1f} s, {self.refused} refused{again}"
