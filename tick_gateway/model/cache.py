"""A cache bounded by the bytes of its entries; the least recently used are evicted first.

Pure: no clock, no lock. A cache belongs to one thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteBoundedCache(Generic[K, V]):
    """Values by key.

    Args:
        max_bytes: the bound for all entries together.
        cost: the bytes of an entry; called once, when it is put in.
        least: this many of the most recently used entries stay, whatever they cost.

    Attributes:
        bytes: the cost of all entries.
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
        """Whether the key is held; does not count as a use."""
        return key in self._entries

    def values(self) -> Iterator[V]:
        """All values, the least recently used first; does not count as a use."""
        return (value for value, _ in self._entries.values())

    def get(self, key: K) -> V | None:
        """The value of a key, now the most recently used; None: not held."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V) -> None:
        """Add a value, in place of the key's old one, and evict entries beyond the bound, possibly this one too."""
        self.pop(key)
        cost = self._cost(key, value)
        self._entries[key] = value, cost
        self.bytes += cost
        while self.bytes > self._max_bytes and len(self._entries) > self._least:
            _, (_, cost) = self._entries.popitem(last=False)
            self.bytes -= cost

    def discard(self, gone: Callable[[K], bool]) -> None:
        """Remove the keys for which ``gone`` is true."""
        for key in [key for key in self._entries if gone(key)]:
            self.pop(key)

    def pop(self, key: K) -> V | None:
        """Remove a key; returns its value, or None where it is not held."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.bytes -= entry[1]
        return entry[0]
