"""A cache bounded by the bytes that its entries take; the least recently used go first.

Pure: no clock, no lock. A cache belongs to one thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteBoundedCache(Generic[K, V]):
    """Values by key, the least recently used first.

    Args:
        max_bytes: what all entries may take.
        cost: the bytes that an entry takes; called once, when it is put in.
        least: as many entries stay whatever they take, the most recently used.

    Attributes:
        bytes: what all entries take.
    """

    __slots__ = ("_cost", "_entries", "_least", "_max_bytes", "bytes")

    def __init__(self, max_bytes: int, cost: Callable[[K, V], int], *, least: int = 0) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._cost = cost
        self._least = least
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        """Whether it holds a key, which is not thereby used."""
        return key in self._entries

    def values(self) -> Iterator[V]:
        """All values, the least recently used first; none is thereby used."""
        return (value for value, _ in self._entries.values())

    def get(self, key: K) -> V | None:
        """The value of a key, which is thereby used; None: it is not held."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V) -> None:
        """Hold a value, in place of the key's old one; entries beyond the bound go, in the end this one too."""
        self.pop(key)
        cost = self._cost(key, value)
        self._entries[key] = value, cost
        self.bytes += cost
        while self.bytes > self._max_bytes and len(self._entries) > self._least:
            _, (_, cost) = self._entries.popitem(last=False)
            self.bytes -= cost

    def discard(self, gone: Callable[[K], bool]) -> None:
        """Let go of the keys of which that is said."""
        for key in [key for key in self._entries if gone(key)]:
            self.pop(key)

    def pop(self, key: K) -> V | None:
        """Let go of a key; returns its value, or None where it is not held."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.bytes -= entry[1]
        return entry[0]
