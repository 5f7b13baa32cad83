"""Views: what a reader asks to see of each tick (``fields``, ``every``, ``batch``, ``stamp``).

A view turns ticks into payloads, the bytes that a framing wraps. It is a value: equal views share what was made for
one of them.

Pure: no I/O, no clock, no asyncio.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple

from .projection import project
from .tick import PublishedTick

BATCH_MESSAGE_BYTES: Final = 256 * 1024  # where a batch message is cut before it is full
MAX_PATHS: Final = 64
MAX_PARTS: Final = 16


class Payload(NamedTuple):
    """One message's content, and the ``t`` of its last tick."""

    t: int
    data: bytes


class View(NamedTuple):
    """What to show of each tick.

    Attributes:
        fields: dotted paths to keep; empty: the whole tick.
        every: only ticks whose ``t`` is a multiple of it.
        batch: up to this many ticks a message, as a JSON array; 0: one message per tick.
        stamp: wrap each tick with its run and receive time.
    """

    fields: tuple[str, ...] = ()
    every: int = 1
    batch: int = 0
    stamp: bool = False

    @property
    def plain(self) -> bool:
        """Ticks go out unchanged, as they were published."""
        return self == _PLAIN

    def passes(self, t: int) -> bool:
        return t % self.every == 0

    def render(self, run: str, ticks: Iterable[PublishedTick], most: int | None = None) -> list[Payload]:
        """One payload for each tick that passes, at most ``most`` (``batch`` is left to ``arrays``)."""
        if self.every > 1:
            ticks = (tick for tick in ticks if tick.t % self.every == 0)
        if most is not None:
            ticks = islice(ticks, max(most, 0))
        if not self.fields and not self.stamp:
            return [Payload(t, data) for t, data, _ in ticks]
        return [Payload(tick.t, self.show(run, tick)) for tick in ticks]

    def show(self, run: str, tick: PublishedTick) -> bytes:
        """One tick's payload."""
        data = tick.data
        if self.fields:
            data = project(data, self.fields)
        if self.stamp:
            data = b'{"t":%d,"run":"%s","at":%d,"data":%s}' % (tick.t, run.encode(), tick.at, data)
        return data


_PLAIN: Final = View()


def cut(payloads: Sequence[Payload], batch: int) -> int | None:
    """How many payloads make the first full message: ``batch`` ticks, or fewer if they are large; None: it is not full
    yet."""
    size = 0
    for index, payload in enumerate(payloads):
        size += len(payload.data)
        if index and size > BATCH_MESSAGE_BYTES:
            return index
        if index + 1 == batch:
            return batch
    return None


def join(payloads: Sequence[Payload]) -> Payload:
    """One message of several ticks, as a JSON array."""
    return Payload(payloads[-1].t, b"[" + b",".join(p.data for p in payloads) + b"]")


def arrays(payloads: Sequence[Payload], batch: int) -> Sequence[Payload]:
    """Payloads as messages: unchanged (``batch`` 0), or joined to arrays, of which the last may not be full."""
    if not batch:
        return payloads
    messages: list[Payload] = []
    begin = 0
    while begin < len(payloads):
        size = cut(payloads[begin : begin + batch], batch) or len(payloads) - begin
        messages.append(join(payloads[begin : begin + size]))
        begin += size
    return messages


def full_arrays(payloads: Sequence[Payload], batch: int) -> tuple[Sequence[Payload], Sequence[Payload]]:
    """Where more payloads will follow: the messages that are full already, and the payloads that are left."""
    if not batch:
        return payloads, ()
    messages: list[Payload] = []
    begin = 0
    while (size := cut(payloads[begin : begin + batch], batch)) is not None:
        messages.append(join(payloads[begin : begin + size]))
        begin += size
    return messages, payloads[begin:]


def weight(key: Hashable) -> int:
    """The bytes of a key that contains views; clients choose their fields, and so the size."""
    return sys.getsizeof(key) + (sum(map(weight, key)) if isinstance(key, tuple) else 0)
