"""Extents: the next ticks of a run after a number, in memory or on disk, and whether any are missing before them.

It knows nothing of readers; ``feed`` decides what they are given. No asyncio and no clock. Called on the loop only.
"""

from __future__ import annotations

from ..bus.ring import Batch, Run
from ..bus.tick_bus import TickBus
from ..history.archive import Archive
from ..model.notices import Gap
from .cursor import BlockRef, Span

Extent = Span | BlockRef
"""What comes next: ticks in memory, or a block on disk."""


class Extents:
    """Finds the next ticks of runs in a bus and its history.

    Attributes:
        bus, archive: the bus, and its history.
    """

    def __init__(self, bus: TickBus, archive: Archive) -> None:
        self.bus = bus
        self.archive = archive
        self._ring = bus.ring

    def first(self, run: Run) -> int | None:
        """The oldest readable ``t`` of a run, in memory or history, or None."""
        found = [t for t in (self._ring.first_of(run), self.archive.first(run)) if t is not None]
        return min(found, default=None)

    def next(
        self, run: Run, t: int, *, high: int | None = None, end: int | None = None, stored: bool = False
    ) -> Extent | None:
        """The extent with the first readable tick of a run after ``t``: in memory, else on disk; None: there is none.

        Args:
            high: leave out ticks beyond it.
            end: index of the first batch in memory that may not be read.
            stored: prefer blocks on disk, even if memory has their ticks.
        """
        if high is not None and t >= high:
            return None
        ring = self._ring
        index = ring.after(run, t)
        there = index < len(ring) and ring[index].run is run
        if (stored or t < run.evicted) and (found := self.archive.after(run, t)) is not None:
            if not there or found.first < ring[index].first or (stored and found.first <= ring[index].first):
                if high is not None and found.first > high:
                    return None
                if not isinstance(found, Batch):
                    return BlockRef(run, found)
                span = _span(found, t, high)
                return span if span.begin < span.end else None
        if not there or (end is not None and index >= end) or (high is not None and ring[index].first > high):
            return None
        span = _span(ring[index], t, high)
        return span if span.begin < span.end else None

    def first_after(self, run: Run, t: int) -> int | None:
        """The lowest readable ``t`` after a number, or None."""
        extent = self.next(run, t)
        if extent is None:
            return None
        return extent.first

    def missing(self, run: Run, t: int, extent: Extent) -> bool:
        """Whether published ticks between ``t`` and the extent that follows it are gone."""
        if isinstance(extent, BlockRef):
            return self.archive.history(run).missing_before(extent.entry, t)
        batch = extent.batch
        if t >= batch.first - 1:
            return False
        if t < run.evicted:
            if self._ring.first_of(run) == batch.first:
                return True
            return self.archive.history(run).missing_before(batch, t)
        return batch.lost_before

    def gaps(self, run: Run, low: int, high: int) -> list[Gap]:
        """The gaps in the ticks with low < t <= high of a run, as far as they are known without reading blocks."""
        found: list[Gap] = []
        t = low
        while t < high:
            extent = self.next(run, t)
            if extent is None:
                if t < run.evicted:
                    found.append(Gap(run.id, t, None))
                break
            first = extent.first
            if self.missing(run, t, extent):
                found.append(Gap(run.id, t, first))
            t = self.archive.history(run).unbroken(extent.entry, high) if isinstance(extent, BlockRef) else extent.last
        return found


def _span(batch: Batch, t: int, high: int | None) -> Span:
    return Span(batch, batch.index_after(t), len(batch.ticks) if high is None else batch.index_after(high))
