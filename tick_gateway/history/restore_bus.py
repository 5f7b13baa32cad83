"""Restores the bus from stored runs.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Final

from ..bus.ring import Batch, Run
from ..bus.tick_bus import TickBus
from ..errors import HistoryError
from .archive import Archive
from .run_history import RunHistory, batches_of
from .stored_block import Entry
from .stored_run import StoredRun, UnclosedBlock

_ANY_TIME: Final = 1 << 62  # ms since the epoch
LARGE_BYTES: Final = 4 << 20  # bytes; a block of this size has very large ticks
_TICK_BYTES: Final = 200  # what the ring counts as Python's overhead per tick


def restore(bus: TickBus, archive: Archive, stored: Sequence[StoredRun], unclosed: Mapping[str, UnclosedBlock]) -> None:
    """Start a bus, to which nothing was published yet, with stored runs, oldest first, and put their blocks on
    histories.

    Args:
        unclosed: by run, blocks without a footer.
    """
    runs: list[Run] = []
    newest: list[Batch] = []
    torn_tail = False
    for one, following in zip_longest(stored, stored[1:]):
        # keeps rising, even if the journal that had it is lost
        seq = max(one.seq, runs[-1].seq + 1) if runs else one.seq
        run = Run(one.id, seq, one.origin, one.started)
        end = unclosed.get(one.id)
        opened = batches_of(run, end.block, end.ordinal) if end is not None else []
        stored_to = opened[-1].ordinal + len(opened[-1].ticks) if opened else one.stored
        total = max(one.total, stored_to)
        run.tip = run.shown = run.evicted = max(one.tip, opened[-1].last if opened else -1)
        run.evicted_at = _last_at(run, one, opened, following)
        run.count = one.entries.ticks + sum(len(batch.ticks) for batch in opened)
        run.lost = total - run.count
        run.ended, run.lost_tail, run.restored = one.ended or one is not stored[-1], one.lost_tail, True
        runs.append(run)
        if one.entries or opened:
            history = archive.add(run, one.entries, one.edges)
            history.open = opened
            if one is stored[-1]:
                newest = _newest(bus, archive, history, total)
                torn_tail = total > stored_to and history.last == run.tip
    bus.restore(runs, newest, torn=torn_tail)


def _last_at(run: Run, stored: StoredRun, opened: Sequence[Batch], following: StoredRun | None) -> int:
    """When a run's last tick was received; if that tick is missing, an upper bound."""
    if opened and opened[-1].last == run.tip:
        return opened[-1].ticks[-1].at
    bounds = stored.entries.bounds
    if bounds and bounds[1].last == run.tip:
        return bounds[1].last_at
    return following.started if following is not None else _ANY_TIME


def _newest(bus: TickBus, archive: Archive, history: RunHistory, total: int) -> list[Batch]:
    """The last ticks of a run that published ``total``, as many as fit into memory. Memory holds no holes: if the very
    last ones are missing, it holds none."""
    run, found = history.run, list(history.open) if history.last == history.run.tip else []
    before = found[0].ordinal if found else total  # ticks published before those found
    ticks, size = total - before, sum(batch.size for batch in found) + _TICK_BYTES * (total - before)
    wanted: list[Entry] = []
    for entry in history.newest_first():
        if entry.ordinal + entry.count != before or ticks >= bus.ring.max_ticks or size >= bus.ring.max_size:
            break
        if wanted and entry.size >= LARGE_BYTES and size + entry.size > bus.ring.max_size:
            break  # memory would evict nearly all of it at once
        wanted.append(entry)
        before = entry.ordinal
        ticks += entry.count
        size += entry.size + _TICK_BYTES * entry.count
    closed: list[Batch] = []
    for entry in reversed(wanted):  # in the order of their file: one of another program is read only once
        try:
            closed += batches_of(run, entry.volume.read(entry), entry.ordinal)
        except (HistoryError, OSError) as error:
            archive.fail(run, entry, error)
            closed, before = [], entry.ordinal + entry.count
    found = closed + found
    if found:
        left = next(history.newest_first(found[0].first - 1), None)
        if left is not None and left.ordinal + left.count == before:
            run.evicted, run.evicted_at = left.last, left.last_at
        else:
            edge = history.edge(before)
            run.evicted = edge if edge is not None else found[0].first - 1 if before else -1
            run.evicted_at = found[0].ticks[0].at if before else 0
    return found
