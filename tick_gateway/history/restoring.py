"""From what a directory holds to what is kept in memory: crash recovery run by run, and the bus as it was.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from ..bus.ring import Batch, Run
from ..bus.tick_bus import TickBus
from ..errors import HistoryError
from .archive import Archive
from .block_index import Entry
from .local.events import BlockClosed, StorageEvent
from .local.index import save_index
from .local.segment_file import Segment
from .local.tail_recovery import Recovered, Torn, peek_tail, recover_tail
from .run_history import RunHistory, batches_of
from .stored_run import StoredRun

log = logging.getLogger("tick_gateway.history")

_ANY_TIME: Final = 1 << 62  # ms since the epoch
_LARGE_BYTES: Final = 4 << 20  # a block of ticks that are about as large as they may be
_TICK_BYTES: Final = 200  # what the ring counts for Python's own of each tick


@dataclass
class Debt:
    """What could not be done when a directory was opened, and is owed before anything is written there.

    Attributes:
        trouble: why, as a sentence; empty: nothing is owed.
        tails: segments whose ends could not be recovered, with their runs.
        torn: what is in those that are their run's last, by run.
        damage: what was found to be wrong besides.
    """

    trouble: str = ""
    tails: list[tuple[StoredRun, Segment]] = field(default_factory=list)
    torn: dict[str, Torn] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)

    def owe(self, run: StoredRun, segment: Segment) -> None:
        """Leave a segment's end as it is, and learn what is in it.

        Raises:
            OSError: it cannot be read.
        """
        self.tails.append((run, segment))
        torn = peek_tail(run, segment)
        if torn is not None and segment is run.segments[-1]:
            self.torn[run.id] = torn

    def pay(self, events: list[StorageEvent]) -> None:
        """Recover what is owed; ``events`` are told of blocks that were closed.

        Raises:
            OSError: it still cannot be done; what could be is done.
        """
        while self.tails:
            run, segment = self.tails[0]
            recovered = _recover(run, segment)
            if recovered.entry is not None:
                events.append(BlockClosed(run.id, recovered.entry))
            del self.tails[0]


def recover(run: StoredRun, debt: Debt, *, writable: bool) -> None:
    """Close what a crash left open in a run's segments; what the disk does not let be closed is owed. Where the index
    did not say all of it, it is saved anew, so that the next start need not ask the footers again.

    Raises:
        OSError: a file cannot be read.
    """
    changed = False
    for segment in run.segments:
        if not writable:
            debt.owe(run, segment)
            continue
        try:
            recovered = _recover(run, segment)
        except OSError as error:
            debt.trouble = f"what a crash left cannot be closed: {error.strerror}"
            debt.owe(run, segment)
            continue
        changed = changed or recovered != Recovered()
        if recovered.damage:
            debt.damage.append(f"{run.id}/{segment.name}: {recovered.damage}")
        elif recovered.cut and segment is not run.segments[-1]:  # no crash did that
            debt.damage.append(f"{run.id}/{segment.name}: {recovered.cut} bytes at its end belonged to no block")
    run.entries.sort()
    run.prune()
    owed = {segment for _, segment in debt.tails}
    for segment in [one for one in run.segments if one not in owed and not one.path.stat().st_size]:  # no block came
        with contextlib.suppress(OSError):
            segment.path.unlink()
            run.segments.remove(segment)
    if changed or (writable and run.told_by_footers and run.segments):
        with contextlib.suppress(OSError):  # a cache: it is made anew at the next start
            save_index(run)
            run.told_by_footers = False


def _recover(run: StoredRun, segment: Segment) -> Recovered:
    recovered = recover_tail(run, segment)
    if recovered.cut:
        log.warning("history: %s/%s: %d torn bytes were cut off", run.id, segment.name, recovered.cut)
    return recovered


def restore(bus: TickBus, archive: Archive, stored: list[StoredRun], torn: Mapping[str, Torn]) -> None:
    """Let a bus that nothing was published to begin with stored runs, oldest first, and put their blocks on histories.

    Args:
        torn: blocks that have no footer yet, by run.
    """
    runs: list[Run] = []
    newest: list[Batch] = []
    torn_tail = False
    for one, following in zip_longest(stored, stored[1:]):
        seq = max(one.seq, runs[-1].seq + 1) if runs else one.seq  # it rises, also where a journal that told it is lost
        run = Run(one.id, seq, one.origin, one.started)
        end = torn.get(one.id)
        opened = batches_of(run, end.block, end.ordinal) if end is not None else []
        stored_to = opened[-1].ordinal + len(opened[-1].ticks) if opened else one.stored
        total = max(one.total, stored_to)
        run.tip = run.shown = run.evicted = max(one.tip, opened[-1].last if opened else -1)
        run.evicted_at = _last_at(run, one, opened, following)
        run.count = one.entries.ticks + sum(len(batch.ticks) for batch in opened)
        run.lost = total - run.count
        run.ended, run.lost_tail, run.restored = one.ended or one is not stored[-1], one.lost_tail, True
        runs.append(run)
        for segment in one.segments:
            segment.known = segment.sealed
        if one.entries or opened:
            history = archive.histories[run.id] = RunHistory(run, one.entries, one.edges)
            history.open = opened
            if one is stored[-1]:
                newest = _newest(bus, archive, history, total)
                torn_tail = total > stored_to and history.last == run.tip
    bus.restore(runs, newest, torn=torn_tail)


def _last_at(run: Run, stored: StoredRun, opened: Sequence[Batch], following: StoredRun | None) -> int:
    """When a run's last tick was received; where it is missing, not after this time."""
    if opened and opened[-1].last == run.tip:
        return opened[-1].ticks[-1].at
    if stored.entries and stored.entries[-1].last == run.tip:
        return stored.entries[-1].last_at
    return following.started if following is not None else _ANY_TIME


def _newest(bus: TickBus, archive: Archive, history: RunHistory, total: int) -> list[Batch]:
    """The last ticks of a run of so many, as many as memory takes. Memory holds no holes: where the very last are
    missing, that is none."""
    run, found = history.run, list(history.open) if history.last == history.run.tip else []
    before = found[0].ordinal if found else total  # ticks published before what was found
    ticks, size = total - before, sum(batch.size for batch in found) + _TICK_BYTES * (total - before)
    wanted: list[Entry] = []
    for entry in reversed(history.entries):
        if entry.ordinal + entry.count != before or ticks >= bus.ring.max_ticks or size >= bus.ring.max_size:
            break
        if wanted and entry.size >= _LARGE_BYTES and size + entry.size > bus.ring.max_size:
            break  # memory would let go of nearly all of it at once
        wanted.append(entry)
        before = entry.ordinal
        ticks += entry.count
        size += entry.size + _TICK_BYTES * entry.count
    closed: list[Batch] = []
    for entry in reversed(wanted):  # in the order in which they lie: a file of another program is read once
        try:
            closed += batches_of(run, entry.volume.read(entry), entry.ordinal)
        except (HistoryError, OSError) as error:
            archive.fail(run, entry, error)
            closed, before = [], entry.ordinal + entry.count
    found = closed + found
    if found:
        left = next((entry for entry in reversed(history.entries) if entry.first < found[0].first), None)
        if left is not None and left.ordinal + left.count == before:
            run.evicted, run.evicted_at = left.last, left.last_at
        else:
            edge = history.edge(before)
            run.evicted = edge if edge is not None else found[0].first - 1 if before else -1
            run.evicted_at = found[0].ticks[0].at if before else 0
    return found
