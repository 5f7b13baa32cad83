"""Variants: everything that decides which bytes a live reader gets. Readers of one variant share every byte.

Pure: no I/O, no clock, no asyncio.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple
from weakref import ReferenceType, ref

from .cursor import Frames, Item, Span
from .notices import End
from .ring import Batch
from .tick import Position
from .view import Payload, View, arrays
from .wire import Framing
from .wire.ndjson import NDJSONFraming

_ALL: Final = 1 << 62
_KEEPING: Final = 300  # bytes of Python objects around what is kept of one batch


class Variant(NamedTuple):
    """A framing and a view, and what else readers must have in common to be written to in one go.

    Attributes:
        until_run: the run at whose end these readers stop, or None.
        heartbeat: seconds of quiet after which they get a sign of life.
    """

    framing: Framing
    view: View
    until_run: str | None
    heartbeat: float

    @property
    def takes_frames(self) -> bool:
        """Whether stored blocks can go out as they lie on disk."""
        return isinstance(self.framing, NDJSONFraming) and self.framing.coding == "zstd" and self.view.plain


class Encoded(NamedTuple):
    """Bytes for a reader, and what they are: how many ticks, up to ``position``; ``last`` where nothing may follow."""

    data: bytes
    ticks: int
    position: Position | None
    last: bool


class Encoder:
    """Makes a variant's bytes, and keeps those of whole batches for all who come by, up to ``max_bytes`` in all.

    Bytes made from whole batches are kept on the batch itself, so that they go with it when the ring lets it go: the
    encoder knows it by a weak reference alone.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: deque[tuple[ReferenceType[Batch], tuple[Framing, View], int]] = deque()
        self._kept_bytes = 0

    def encode(self, variant: Variant, items: Sequence[Item | End]) -> Encoded:
        """All of the items, in order; ends early where a notice ends the stream for this framing."""
        if variant.view.batch:
            return self.encode_some(variant, items, _ALL)
        framing, view = variant.framing, variant.view
        parts: list[bytes] = []
        count = 0
        position: Position | None = None
        for item in items:
            if isinstance(item, Span):
                data, ticks = self._span(framing, view, item)
                count += ticks
            elif isinstance(item, Frames):
                assert isinstance(framing, NDJSONFraming), "asked for by takes_frames alone"
                data = framing.stored(item.data)
                count += sum(entry.count for entry in item.row)
            elif (closing := framing.closing(item)) is not None:
                return Encoded(b"".join([*parts, framing.notice(item), closing]), count, position, True)
            else:
                data = framing.notice(item)
            parts.append(data)
            position = item.position
        return Encoded(parts[0] if len(parts) == 1 else b"".join(parts), count, position, False)

    def encode_some(self, variant: Variant, items: Sequence[Item | End], most: int) -> Encoded:
        """As ``encode``, but at most ``most`` ticks; ``position`` tells how far it came. Shares nothing."""
        framing, view = variant.framing, variant.view
        parts: list[bytes] = []
        pending: list[Payload] = []  # of the run that is being read, so that arrays reach across batches
        count = 0
        position: Position | None = None
        for item in items:
            if isinstance(item, Span):
                some = view.render(item.batch.run.id, item.ticks, most - count)
                pending += some
                count += len(some)
                position = item.position
                if count == most and some:
                    position = Position(position.run, some[-1].t)
                    break
                continue
            assert not isinstance(item, Frames), "frames have no single ticks"
            if pending and position is not None:
                parts.append(framing.messages(position.run, arrays(pending, view.batch)))
                pending = []
            parts.append(framing.notice(item))
            if (closing := framing.closing(item)) is not None:
                return Encoded(b"".join([*parts, closing]), count, position, True)
            position = item.position
        if pending and position is not None:
            parts.append(framing.messages(position.run, arrays(pending, view.batch)))
        return Encoded(b"".join(parts), count, position, False)

    def _span(self, framing: Framing, view: View, span: Span) -> tuple[bytes, int]:
        ticks = span.ticks
        count = len(ticks) if view.every == 1 else sum(1 for tick in ticks if view.passes(tick.t))
        if not span.whole:
            return self._make(framing, view, span), count
        key = (framing, view)
        data = span.batch.encoded.get(key)
        if data is None:
            data = span.batch.encoded[key] = self._make(framing, view, span)
            self._keep(span.batch, key, len(data) + _KEEPING)
        return data, count

    def _keep(self, batch: Batch, key: tuple[Framing, View], size: int) -> None:
        """Count what was made from a batch, and let go of the oldest beyond the bound."""
        self._kept.append((ref(batch), key, size))
        self._kept_bytes += size
        while self._kept_bytes > self._max_bytes and len(self._kept) > 1:
            held, old, size = self._kept.popleft()
            self._kept_bytes -= size
            if (alive := held()) is not None:
                del alive.encoded[old]

    @staticmethod
    def _make(framing: Framing, view: View, span: Span) -> bytes:
        payloads = view.render(span.batch.run.id, span.ticks)
        return framing.messages(span.batch.run.id, payloads) if payloads else b""
