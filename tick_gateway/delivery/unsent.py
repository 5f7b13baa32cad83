"""Large bodies that clients have yet to take: each is kept once for all its clients, and they are bounded by bytes.

A client that requests megabytes and reads nothing would hold them in memory, and a crowd of such clients would hold all
of it. If the bodies exceed the bound, those taken most slowly are dropped and their connections cut; the clients may
ask again.

No I/O and no clock: callers pass ``now`` (seconds) and a function that cuts a connection. On the loop's thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

MAX_BYTES: Final = 256 << 20


@dataclass(eq=False, slots=True)
class Sending:
    """A client that takes a body: since when, and how many bytes it has taken."""

    cut: Callable[[], object]
    begun: float
    taken: int = 0

    def rate(self, now: float) -> float:
        """Bytes per second. One that has just begun does not count as slow."""
        return self.taken / (now - self.begun) if now - self.begun > 1 else float("inf")


@dataclass(eq=False, slots=True)
class UnsentBody:
    data: bytes
    sendings: set[Sending] = field(default_factory=set)


class Unsent:
    """The bodies, by their content.

    Attributes:
        bytes: the total of all bodies.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._bodies: dict[Hashable, UnsentBody] = {}

    def find(self, key: Hashable) -> bytes | None:
        """The body of a key, if a client is taking it now."""
        body = self._bodies.get(key)
        return body.data if body is not None else None

    def add(self, key: Hashable, data: bytes, sending: Sending) -> None:
        """A client begins to take a body; if there is no room for it, slower clients are cut."""
        body = self._bodies.get(key)
        if body is None:
            body = self._bodies[key] = UnsentBody(data)
            self.bytes += len(data)
            self._make_room(body, sending.begun)
        body.sendings.add(sending)

    def remove(self, key: Hashable, sending: Sending) -> None:
        """A client has finished, or is gone."""
        body = self._bodies.get(key)
        if body is not None and sending in body.sendings:
            body.sendings.discard(sending)
            if not body.sendings:
                self._drop(key)

    def _make_room(self, newest: UnsentBody, now: float) -> None:
        def fastest(key: Hashable) -> float:
            return max(sending.rate(now) for sending in self._bodies[key].sendings)

        others = [key for key, body in self._bodies.items() if body is not newest]
        for key in sorted(others, key=fastest):  # the earliest first, among equals
            if self.bytes <= self._max_bytes:
                return
            for sending in self._drop(key):
                sending.cut()

    def _drop(self, key: Hashable) -> set[Sending]:
        body = self._bodies.pop(key)
        self.bytes -= len(body.data)
        return body.sendings
