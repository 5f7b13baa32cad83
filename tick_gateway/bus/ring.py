"""The ring: the ticks in memory, as one deque of batches bounded by ticks and by bytes.

A batch is ticks of one run that were collected together, in order. It is the unit that is encoded once for all readers:
a thousand slow readers find their place by bisection over batches, and share the bytes from there.

Pure: no clock, no lock, no asyncio. The ring is guarded by the bus's lock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

from ..model.tick import PublishedTick

BATCH_BYTES: Final = 256 * 1024  # small enough that writing it to one slow socket does not hold up the others
BATCH_TICKS: Final = 512
# of the Python objects around a tick's bytes, so that the bound in bytes holds for tiny ticks too
_TICK_OVERHEAD: Final = 200


class Run:
    """One life of the simulation: ``t`` rises strictly inside it.

    Attributes:
        id: its name on the wire.
        seq: its place in the order of runs.
        first: the first ``t`` published.
        tip: the newest ``t`` published; the publishers' side of the run.
        shown: the newest ``t`` that readers can have, -1 for none yet; the readers' side of the run.
        count: ticks published.
        lost: how many more there were at least, dropped because the inbox was full, or not stored.
        started: when its first tick came, milliseconds since the epoch.
        ended: the publishers' side takes no more ticks.
        evicted: the newest ``t`` that the ring has evicted, -1 for none: a position below it has a gap ahead.
        evicted_at: when that tick was received, milliseconds since the epoch.
        lost_tail: ticks after the tip were dropped because the inbox was full, and then the run ended.
        following: the run after this one, once readers can have ticks of it.
        restored: found in history, with nothing published to it since.
    """

    __slots__ = (
        "count", "ended", "evicted", "evicted_at", "first", "following", "id", "lost", "lost_tail", "restored", "seq",
        "shown", "started", "tip",
    )  # fmt: skip

    def __init__(self, id: str, seq: int, first: int, started: int) -> None:
        self.id = id
        self.seq = seq
        self.first = first
        self.tip = -1
        self.shown = -1
        self.count = 0
        self.lost = 0
        self.restored = False
        self.started = started
        self.ended = False
        self.evicted = -1
        self.evicted_at = 0
        self.lost_tail = False
        self.following: Run | None = None

    @property
    def over(self) -> bool:
        """Whether readers have seen the last tick that this run will ever have."""
        return self.ended and self.shown == self.tip


class Batch:
    """Ticks of one run that were collected together.

    Attributes:
        run: the run they belong to.
        ticks: at least one, ``t`` rising.
        size: bytes of their data.
        lost_before: ticks just before the first one were dropped because the inbox was full.
        ordinal: how many ticks its run published before its first one, including dropped ones.
        encoded: bytes made from the whole batch, by (framing, view); filled and bounded by the encoder.
        projected: each tick as a view's payload, or None, by the view's fields; also bounded by the encoder.
    """

    __slots__ = ("__weakref__", "encoded", "lost_before", "ordinal", "projected", "run", "size", "ticks")

    def __init__(self, run: Run, ticks: list[PublishedTick], size: int, lost_before: bool, ordinal: int = 0) -> None:
        self.run = run
        self.ticks = ticks
        self.size = size
        self.lost_before = lost_before
        self.ordinal = ordinal
        self.encoded: dict[Hashable, Any] = {}
        self.projected: dict[Hashable, list[Any]] = {}

    @property
    def first(self) -> int:
        return self.ticks[0].t

    @property
    def last(self) -> int:
        return self.ticks[-1].t

    def forget(self, key: Hashable) -> None:
        """Delete what was made under a key."""
        self.encoded.pop(key, None)
        self.projected.pop(key, None)

    def index_after(self, t: int) -> int:
        """The index of the first tick after ``t``."""
        return bisect_right(self.ticks, t, key=_number) if t >= self.ticks[0].t else 0


def split(
    run: Run,
    ticks: list[PublishedTick],
    size: int,
    ordinal: int,
    max_ticks: int | None = None,
    *,
    max_bytes: int | None = None,
    lost_before: bool = False,
) -> list[Batch]:
    """Ticks of one run as batches of at most ``max_bytes`` (None: ``BATCH_BYTES``); a larger tick is a batch by itself.

    Args:
        ticks: at least one, ``t`` rising; none between them was dropped.
        size: bytes of their data.
        ordinal: how many ticks the run published before the first one.
        max_ticks: of each batch; None: any number.
        lost_before: ticks just before the first one were dropped.
    """
    most, largest = max_ticks or len(ticks), BATCH_BYTES if max_bytes is None else max_bytes
    if size <= largest and len(ticks) <= most:
        return [Batch(run, ticks, size, lost_before, ordinal)]
    ends = [0, *accumulate(len(tick.data) for tick in ticks)]
    found: list[Batch] = []
    begin = 0
    while begin < len(ticks):
        end = max(bisect_right(ends, ends[begin] + largest) - 1, begin + 1)
        end = min(end, begin + most)
        lost = lost_before and begin == 0
        found.append(Batch(run, ticks[begin:end], ends[end] - ends[begin], lost, ordinal + begin))
        begin = end
    return found


def _number(tick: PublishedTick) -> int:
    return tick.t


def _end(batch: Batch) -> tuple[int, int]:
    return batch.run.seq, batch.ticks[-1].t


class Ring:
    """Batches in the order of their runs and numbers, oldest first.

    Args:
        ticks: the maximum number of ticks (at least 1).
        size: the maximum number of bytes, including Python's overhead; the newest tick is kept whatever its size.

    Attributes:
        newest: the last run that readers can have ticks of, from the ring or from history; None before the first tick
            ever.
        appended: the number of batches ever added.
    """

    def __init__(self, ticks: int, size: int) -> None:
        self.max_ticks = ticks
        self.max_size = size
        self.count = 0
        self.size = 0
        self.appended = 0
        self.newest: Run | None = None
        self._batches: deque[Batch] = deque()

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:
        return self._batches[index]

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._batches)

    def __reversed__(self) -> Iterator[Batch]:
        return reversed(self._batches)

    def append(self, batch: Batch) -> None:
        """Append a batch, show it to readers, and evict the oldest ticks beyond the bounds."""
        if self.newest is not batch.run:
            if self.newest is not None:
                self.newest.following = batch.run
            self.newest = batch.run
        batch.run.shown = batch.last
        self._batches.append(batch)
        self.appended += 1
        self.count += len(batch.ticks)
        self.size += _cost(batch.ticks)
        while self.count > self.max_ticks or (self.size > self.max_size and self.count > 1):
            self._evict(self._batches[0])

    def _evict(self, batch: Batch) -> None:
        """Evict the oldest batch, or as many of its first ticks as necessary."""
        drop = cost = 0
        for tick in batch.ticks:
            if self.count - drop <= self.max_ticks and (self.size - cost <= self.max_size or self.count - drop <= 1):
                break
            drop += 1
            cost += len(tick.data) + _TICK_OVERHEAD
        batch.run.evicted = batch.ticks[drop - 1].t
        batch.run.evicted_at = batch.ticks[drop - 1].at
        self.count -= drop
        self.size -= cost
        if drop == len(batch.ticks):
            self._batches.popleft()
        else:
            rest = batch.ticks[drop:]
            size = sum(len(tick.data) for tick in rest)
            self._batches[0] = Batch(batch.run, rest, size, False, batch.ordinal + drop)

    def after(self, run: Run, t: int) -> int:
        """The index of the first batch with a tick after position (run, t), or of a later run; ``len()`` if there is
        none."""
        if not self._batches or _end(self._batches[-1]) <= (run.seq, t):  # the usual case: a reader at the tip
            return len(self._batches)
        return bisect_right(self._batches, (run.seq, t), key=_end)

    def find(self, run: Run, t: int) -> PublishedTick | None:
        """The tick, or None if the ring does not have it."""
        index = self.after(run, t - 1)
        if index == len(self._batches) or self._batches[index].run is not run:
            return None
        return find_in(self._batches[index].ticks, t)

    def first_of(self, run: Run) -> int | None:
        """The oldest ``t`` of a run in the ring, or None."""
        index = self.after(run, -1)
        return self._batches[index].first if index < len(self._batches) and self._batches[index].run is run else None


def _cost(ticks: Sequence[PublishedTick]) -> int:
    return sum(len(tick.data) for tick in ticks) + _TICK_OVERHEAD * len(ticks)


def find_in(ticks: Sequence[PublishedTick], t: int) -> PublishedTick | None:
    """The tick with number ``t`` in a sorted sequence of ticks, or None."""
    index = bisect_right(ticks, t, key=_number)
    return ticks[index - 1] if index and ticks[index - 1].t == t else None
