"""Variants, and the encoder: a variant is everything that decides which bytes a live reader gets, so all readers of a
variant share all bytes.

Pure: no I/O, no clock, no asyncio.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple
from weakref import ReferenceType, ref

from ..bus.ring import Batch
from ..model.notices import End, Gap, Notice, Reset
from ..model.tick import Position
from ..model.view import Payload, View, arrays, weight
from ..reading.cursor import Item, RawBlocks, Span
from ..wire.framing import Framed, Framing, SharedStream, joined
from ..wire.ndjson import NDJSONFraming

_ALL: Final = 1 << 62
_MOST_FAULTY: Final = 1000  # ticks remembered for which encoding failed
_KEEPING: Final = 300  # bytes of Python objects for what is kept of one batch


class Variant(NamedTuple):
    """A framing and a view, and what else readers must have in common to share bytes.

    Attributes:
        until_run: the run after which these readers stop, or None.
    """

    framing: Framing
    view: View
    until_run: str | None = None

    @property
    def costs(self) -> Hashable:
        """A key of what is made for these readers beyond the published ticks; None: nothing."""
        event = getattr(self.framing, "event", None)  # of SSE: each event name is a framing of its own
        return None if self.view.plain and event is None else (self.view, event)

    @property
    def takes_frames(self) -> bool:
        """Whether stored blocks can be sent unchanged."""
        return isinstance(self.framing, NDJSONFraming) and self.framing.takes_frames and self.view.plain


class Encoded(NamedTuple):
    """A piece for a reader: how many ticks it has, up to ``position``; ``end``: the notice in it after which the stream
    has to be closed, or None."""

    piece: Framed
    ticks: int
    position: Position | None
    end: Notice | None


class Encoder:
    """Makes a variant's bytes, and keeps those of whole batches for later readers, up to ``max_bytes`` in total.

    They are kept in the batch itself, so that they are deleted with it when the ring evicts it; the encoder has only a
    weak reference to the batch.

    Attributes:
        projections: number of ticks reduced to a view's fields.
        encodings: number of ticks framed, or compressed for a shared stream.
        complain: called with a message for the log when encoding fails.
    """

    def __init__(self, max_bytes: int) -> None:
        self.projections = 0
        self.encodings = 0
        self._max_bytes = max_bytes
        self._faulty: dict[tuple[Hashable, str, int], None] = {}  # ticks for which it failed, oldest first
        self.complain: Callable[[str, Exception], None] = lambda sentence, error: None
        self._kept: deque[tuple[ReferenceType[Batch], Hashable, int]] = deque()
        self._kept_bytes = 0

    def payloads(self, view: View, span: Span, most: int | None = None) -> list[Payload]:
        """A span's ticks as payloads of a view (without ``batch``), at most ``most`` (0: none).

        A tick's projection is made once for all framings and views that need it.
        """
        run = span.batch.run.id
        if not view.fields:
            return view.render(run, span.ticks, most)
        key, found, size = (view.fields, view.stamp), list[Payload](), 0
        row = span.batch.projected.get(key)
        if row is None:
            row = span.batch.projected[key] = [None] * len(span.batch.ticks)
            size = _KEEPING + 8 * len(row)
        for index in range(span.begin, span.end):
            if most is not None and len(found) >= most:
                break
            tick = span.batch.ticks[index]
            if not view.passes(tick.t):
                continue
            payload = row[index]
            if payload is None:
                payload = row[index] = Payload(tick.t, view.show(run, tick))
                self.projections += 1
                size += len(payload.data) + _KEEPING
            found.append(payload)
        if size:
            self._keep(span.batch, key, size)
        return found

    def encode(self, variant: Variant, items: Sequence[Item | End]) -> Encoded:
        """Encode all items, in order; stops after a notice that ends the stream for this framing."""
        if variant.view.batch:
            return self.encode_some(variant, items, _ALL)
        framing, view = variant.framing, variant.view
        parts: list[Framed] = []
        count = 0
        position: Position | None = None
        for item in items:
            if isinstance(item, Span):
                piece, ticks = self._span(framing, view, item)
                count += ticks
            elif isinstance(item, RawBlocks):
                assert isinstance(framing, NDJSONFraming), "asked for by takes_frames alone"
                piece = framing.stored(item.data)
                count += sum(entry.count for entry in item.row)
            else:
                piece = framing.notice(item)
                if framing.ends(item):
                    return Encoded(joined([*parts, piece]), count, position, item)
            parts.append(piece)
            position = item.position
        return Encoded(joined(parts), count, position, None)

    def encode_some(self, variant: Variant, items: Sequence[Item | End], most: int) -> Encoded:
        """As ``encode``, but at most ``most`` ticks; ``position`` says how far it came. The bytes are not shared."""
        framing, view = variant.framing, variant.view
        parts: list[Framed] = []
        pending: list[Payload] = []  # of the current run, so that arrays can span batches
        count = 0
        position: Position | None = None
        for item in items:
            if isinstance(item, Span):
                some = self.payloads(view, item, most - count)
                pending += some
                count += len(some)
                position = item.position
                if count == most and some:
                    position = Position(position.run, some[-1].t)
                    break
                continue
            assert not isinstance(item, RawBlocks), "frames have no single ticks"
            if pending and position is not None:
                parts.append(framing.messages(position.run, arrays(pending, view.batch)))
                pending = []
            parts.append(framing.notice(item))
            if framing.ends(item):
                return Encoded(joined(parts), count, position, item)
            position = item.position
        if pending and position is not None:
            parts.append(framing.messages(position.run, arrays(pending, view.batch)))
        return Encoded(joined(parts), count, position, None)

    def encode_shared(self, shared: SharedStream, variant: Variant, items: Sequence[Item | End]) -> Encoded:
        """As ``encode``, for the readers of a shared stream, which counts the content; for views without ``batch``."""
        framing, view = variant.framing, variant.view
        parts: list[bytes] = []
        count = 0
        position: Position | None = None
        for item in items:
            if isinstance(item, Span):
                payloads = self.payloads(view, item)
                count += len(payloads)
                self.encodings += len(payloads)
                parts.append(shared.messages(item.batch.run.id, payloads) if payloads else b"")
            else:
                assert not isinstance(item, RawBlocks), "live sessions read from memory"
                parts.append(shared.notice(item))
                if framing.ends(item):
                    return Encoded(Framed(b"".join([*parts, shared.rest])), count, position, item)
            position = item.position
        return Encoded(Framed(b"".join(parts)), count, position, None)

    def servable(self, key: Hashable, items: Sequence[Item | End], make: Callable[[Span], object]) -> list[Item | End]:
        """Items without the ticks that cannot be encoded: each of these is replaced by a gap, so that a reader gets all
        others. Items whose ticks can all be encoded are returned unchanged.

        Args:
            key: of what is made from them.
            make: makes it from a span, or raises.
        """
        found: list[Item | End] = []
        lacking: set[str] = set()  # runs of which the reader lacks something
        for item in items:
            if isinstance(item, Reset) and item.old in lacking:
                found.append(replace(item, complete=False))
            elif not isinstance(item, Span):
                found.append(item)
            else:
                parts = self._servable(key, item, make)
                if len(parts) > 1 or not isinstance(parts[0], Span):
                    lacking.add(item.batch.run.id)
                found += parts
        return found

    def _servable(self, key: Hashable, span: Span, make: Callable[[Span], object]) -> list[Span | Gap]:
        batch, begin = span.batch, span.begin
        found: list[Span | Gap] = []
        for index in range(span.begin, span.end):
            if self._makes(key, Span(batch, index, index + 1), make):
                continue
            if begin < index:
                found.append(Span(batch, begin, index))
            t, begin = batch.ticks[index].t, index + 1
            found.append(Gap(batch.run.id, t - 1, t + 1))
        if begin < span.end:
            found.append(Span(batch, begin, span.end))
        return found

    def _makes(self, key: Hashable, one: Span, make: Callable[[Span], object]) -> bool:
        run, t = one.position
        if (key, run, t) in self._faulty:
            return False
        try:
            make(one)
        except Exception as error:
            self._faulty[key, run, t] = None
            if len(self._faulty) > _MOST_FAULTY:
                del self._faulty[next(iter(self._faulty))]
            sentence = f"tick {t} of run {run} cannot be put into the form that some readers asked for; they get a gap"
            self.complain(sentence, error)
            return False
        return True

    def _span(self, framing: Framing, view: View, span: Span) -> tuple[Framed, int]:
        ticks = span.ticks
        count = len(ticks) if view.every == 1 else sum(1 for tick in ticks if view.passes(tick.t))
        if not span.whole:
            return self._make(framing, view, span), count
        key = (framing, view)
        piece: Framed | None = span.batch.encoded.get(key)
        if piece is None:
            piece = span.batch.encoded[key] = self._make(framing, view, span)
            self._keep(span.batch, key, len(piece.data) + _KEEPING)
        return piece, count

    def _keep(self, batch: Batch, key: Hashable, size: int) -> None:
        """Count what was made from a batch, and evict the oldest beyond the bound."""
        size += weight(key)
        self._kept.append((ref(batch), key, size))
        self._kept_bytes += size
        while self._kept_bytes > self._max_bytes and len(self._kept) > 1:
            held, old, size = self._kept.popleft()
            self._kept_bytes -= size
            if (alive := held()) is not None:
                alive.forget(old)

    def _make(self, framing: Framing, view: View, span: Span) -> Framed:
        payloads = self.payloads(view, span)
        self.encodings += len(payloads)
        return framing.messages(span.batch.run.id, payloads) if payloads else Framed()
