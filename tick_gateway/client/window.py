"""What a publisher has on its way: ticks that were sent or will be, and that the gateway has not settled yet.

Pure: no I/O, no clock. The order of the entries is that of the input; within a run their ``t`` never falls.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class PendingTick:
    """A tick on its way.

    Attributes:
        t: its number.
        data: its bytes as they are sent.
        line: where it stood in the input, from 1.
        message: which message of the present connection carried it, from 1; 0: none yet.
        sent: it went out before, on whichever connection.
    """

    t: int
    data: bytes
    line: int
    message: int = 0
    sent: bool = False


class Window:
    """The ticks of one run that are not settled yet, oldest first. Pure.

    Args:
        max_ticks, max_bytes: what it holds at most; one tick always fits.
    """

    def __init__(self, max_ticks: int = 10_000, max_bytes: int = 1 << 25) -> None:
        self._max_ticks, self._max_bytes = max_ticks, max_bytes
        self._entries: deque[PendingTick] = deque()
        self._bytes = 0
        self._sent = 0  # how many of the entries, from the left, the present connection carried
        self._messages = 0
        self.resent = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        return len(self._entries) >= self._max_ticks or self._bytes >= self._max_bytes

    @property
    def waiting(self) -> bool:
        """Whether the gateway still has to answer for something that this connection carried."""
        return self._sent > 0

    def add(self, entry: PendingTick) -> None:
        self._entries.append(entry)
        self._bytes += len(entry.data)

    def connected(self) -> None:
        """A new connection: all that is left has to go out on it."""
        self._sent = self._messages = 0

    def next(self) -> PendingTick | None:
        """The next to send, which counts as sent with this call; None: all were."""
        if self._sent == len(self._entries):
            return None
        entry = self._entries[self._sent]
        self._sent += 1
        self._messages += 1
        self.resent += entry.sent
        entry.message, entry.sent = self._messages, True
        return entry

    def acknowledged(self, t: int) -> int:
        """Every message up to ``t`` is settled; returns how many those were."""
        count = 0
        while self._sent and self._entries[0].t <= t:
            self._bytes -= len(self._entries.popleft().data)
            self._sent -= 1
            count += 1
        return count

    def refused(self, t: object, message: object) -> PendingTick | None:
        """Take out the entry that a refusal names, by the number of its message or else its ``t``; None: no such."""
        for entry in [self._entries[i] for i in range(self._sent)]:
            if entry.message == message or (message is None and entry.t == t):
                return self._take_out(entry)
        return None

    def largest_sent(self) -> PendingTick | None:
        """The largest of those sent, taken out: where the gateway found one too big, this one was."""
        sent = [self._entries[i] for i in range(self._sent)]
        return self._take_out(max(sent, key=lambda entry: len(entry.data))) if sent else None

    def _take_out(self, entry: PendingTick) -> PendingTick:
        self._entries.remove(entry)
        self._sent -= 1
        self._bytes -= len(entry.data)
        return entry


@dataclass(slots=True)
class PublishSummary:
    """What became of the input: ticks, and the names of the runs they went to."""

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
