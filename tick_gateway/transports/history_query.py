"""A running WebSocket command ``history``: a range of the past in messages, between the ticks of the present.

No asyncio and no clock: the session waits for blocks to load.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from ..bus.ring import Batch, Run
from ..delivery.fanout import FanOut
from ..history.archive import Load
from ..model.notices import Gap
from ..model.view import BATCH_MESSAGE_BYTES, View
from ..reading.cursor import BlockRef, Span


class HistoryQuery:
    """A running ``history`` command. It keeps numbers, not ticks: ticks that are deleted meanwhile become a gap.

    Args:
        fanout: has the encoder and, in its policy, the size of a message.
        run, t0, t1: the range; ``t0`` None: from the first readable tick.

    Attributes:
        load: the block that the next message needs, while it is loading.
    """

    def __init__(self, id: object, fanout: FanOut, run: Run, t0: int | None, t1: int) -> None:
        self.id = id
        self._encoder = fanout.encoder
        self._most = fanout.policy.history_ticks
        self.gap: Gap | None = None
        self.load: Load | None = None
        self._feed = feed = fanout.feed
        self._run, self._high = run, t1
        first = feed.first(run)
        self._t = t0 - 1 if t0 is not None else first - 1 if first is not None else run.shown

    @property
    def done(self) -> dict[str, object]:
        """The last message."""
        gap = {"gap": {"after": self.gap.after, "next": self.gap.next}} if self.gap else {}
        return {"history": self.id, "done": True} | gap

    @property
    def waits(self) -> bool:
        """Whether the block that the next message needs is still loading."""
        return self.load is not None and not self.load.done

    def next(self, view: View) -> bytes | None:
        """The next message, or None at the end, or while it ``waits``."""
        payloads: list[bytes] = []
        size = 0
        full = False
        while not full and (batches := self._read()):
            for batch, index in _places(batches, self._t):
                tick = batch.ticks[index]
                if tick.t > self._high:
                    self._t = self._high
                    break
                full = len(payloads) == self._most or bool(payloads and size + len(tick.data) > BATCH_MESSAGE_BYTES)
                if full:
                    break
                rendered = self._render(view, Span(batch, index, index + 1))
                payloads += rendered
                size += sum(map(len, rendered))
                self._t = tick.t
        if not payloads:
            return None
        return b'{"history":%s,"ticks":[%s]}' % (json.dumps(self.id).encode(), b",".join(payloads))

    def _render(self, view: View, one: Span) -> list[bytes]:
        """A tick's payload, if it passes the view; one that cannot be encoded becomes a part of the gap."""

        def make(span: Span) -> list[bytes]:
            return [payload.data for payload in view.render(self._run.id, span.ticks)]

        try:
            return make(one)
        except Exception:
            found: list[bytes] = []
            for part in self._encoder.servable(view, [one], make):
                if isinstance(part, Gap):
                    self._tell(part)
                elif isinstance(part, Span):
                    found += make(part)
            return found

    def _read(self) -> list[Batch]:
        """Read what comes next; nothing at the end, and while it ``waits``."""
        while (extent := self._feed.next(self._run, self._t, high=self._high)) is not None:
            first = extent.first
            if self._feed.missing(self._run, self._t, extent):
                self._tell(Gap(self._run.id, self._t, first))
                self._t = first - 1
            if not isinstance(extent, BlockRef):
                return [extent.batch]
            load, self.load = self.load, None
            if load is not None and load.entry == extent.entry:
                if load.batches:
                    return load.batches
                continue  # deleted meanwhile
            got = self._feed.archive.get(extent.run, extent.entry)
            if not isinstance(got, Load):
                return got
            self.load = got
            return []
        self.load = None
        if self._t < min(self._run.evicted, self._high):
            self._tell(Gap(self._run.id, self._t, self._feed.first_after(self._run, self._t)))
            self._t = self._high
        return []

    def _tell(self, gap: Gap) -> None:
        """Extend the gap: one covers everything from the first to the last tick that is gone."""
        self.gap = gap if self.gap is None else replace(self.gap, next=gap.next)


def _places(batches: list[Batch], t: int) -> Iterator[tuple[Batch, int]]:
    """The batches and indices of the ticks after ``t``."""
    for batch in batches:
        for index in range(batch.index_after(t), len(batch.ticks)):
            yield batch, index
