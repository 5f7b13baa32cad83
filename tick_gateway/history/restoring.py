"""From what a directory holds to what is kept in memory: crash recovery run by run, and the bus as it was.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Final

from ..bus import TickBus
from ..errors import HistoryError
from ..ring import Batch, Run
from .archive import Archive
from .catalog import StoredRun, save_index
from .recovery import recover_tail
from .shelf import Shelf

log = logging.getLogger("tick_gateway.history")

_TICK_BYTES: Final = 200  # what the ring counts for Python's own of each tick


def recover(directory: Path, run: StoredRun, damage: list[str]) -> None:
    """Close what a crash left open in a run's segments; what cannot be recovered is added to ``damage``."""
    folder = directory / run.id
    changed = False
    for segment in run.segments:
        try:
            recovered = recover_tail(folder, run, segment)
        except OSError as error:
            damage.append(f"{run.id}/{segment.name}: its end cannot be recovered: {error.strerror}")
            continue
        if recovered.cut:
            log.warning("history: %s/%s: %d torn bytes were cut off", run.id, segment.name, recovered.cut)
        changed = changed or recovered.entry is not None or bool(recovered.cut)
    run.entries.sort(key=lambda entry: entry.first)
    if changed:
        with contextlib.suppress(OSError):  # a cache: it is made anew at the next start
            save_index(folder, run)


def restore(bus: TickBus, archive: Archive, stored: list[StoredRun]) -> None:
    """Let a bus that nothing was published to begin with stored runs, oldest first, and put their blocks on shelves."""
    runs: list[Run] = []
    for one in stored:
        run = Run(one.id, one.seq, one.origin, one.started)
        run.tip = run.shown = run.evicted = one.tip
        run.evicted_at = one.entries[-1].last_at if one.entries else 0
        run.count = sum(entry.count for entry in one.entries)
        run.lost = one.total - run.count
        run.ended, run.lost_tail, run.restored = one.ended or one is not stored[-1], one.lost_tail, True
        runs.append(run)
        if one.entries:
            archive.shelves[run.id] = Shelf(run, one.entries)
    bus.restore(runs, _newest(bus, archive, runs[-1]) if runs else [])


def _newest(bus: TickBus, archive: Archive, run: Run) -> list[Batch]:
    """The last ticks of a run, as many as memory takes."""
    shelf = archive.shelves.get(run.id)
    found: list[Batch] = []
    ticks = size = 0
    while shelf is not None and shelf.entries and ticks < bus.ring.max_ticks and size < bus.ring.max_size:
        at = len(shelf.entries) - 1
        while at >= 0 and found and shelf.entries[at].first >= found[0].first:
            at -= 1
        if at < 0 or (found and _hole(shelf, at, found[0])):
            break
        entry = shelf.entries[at]
        try:
            batches = entry.batches(run, entry.volume.read(entry))
        except (HistoryError, OSError) as error:
            archive.fail(run, entry, error)
            if found:
                break
            continue
        found = batches + found
        ticks += entry.count
        size += entry.size + _TICK_BYTES * entry.count
    if found:
        run.evicted, run.evicted_at = found[0].first - 1, found[0].ticks[0].at
    return found


def _hole(shelf: Shelf, at: int, behind: Batch) -> bool:
    """Whether ticks are missing between a block and what was found behind it: memory holds no holes."""
    entry = shelf.entries[at]
    return entry.ordinal + entry.count != behind.ordinal
