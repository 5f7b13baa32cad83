"""Writing history: ticks into the open block, flush by flush; closing blocks, rotating segments, letting old ones go.

    write(batches) ── compress, flush ──► segment, then journal      now they outlive this process
                        block full ─────► frame's end and foot       now the block can be served as it lies
                        segment full ───► sealed, index saved        now it never changes again

Whatever fails raises OSError; what was written before stands, and ``resume`` mends the rest when the disk works again.
Used by one thread. Receive times come with the ticks; a clock tells the ages of blocks and segments alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..ring import Batch, Run
from .active import Active, sync_directory
from .index import save_index
from .recovery import free_name, recover_tail
from .retention import delete, too_much
from .shelf import Entry
from .stored import StoredRun
from .volume import Segment, segment_name

log = logging.getLogger("tick_gateway.history")


@dataclass(frozen=True, slots=True)
class Limits:
    """What history is kept by; ages in seconds, 0: no bound.

    Attributes:
        block_bytes, block_ticks, block_age: when a block is closed.
        segment_bytes, segment_age: when a segment is sealed.
        retain_bytes, retain_age: what sealed segments may take, and how old their newest tick may be.
        level: of the compression, 1 to 19.
        fsync: ``never``, ``interval`` or ``block``.
        fsync_interval: seconds.
    """

    block_bytes: int = 1 << 20
    block_ticks: int = 8192
    block_age: float = 60.0
    segment_bytes: int = 64 << 20
    segment_age: float = 86400.0
    retain_bytes: int = 0
    retain_age: float = 0.0
    level: int = 3
    fsync: str = "interval"
    fsync_interval: float = 1.0


class Closed(NamedTuple):
    """A block was closed (or recovered): from here on it is read from disk."""

    run: str
    entry: Entry


class Removed(NamedTuple):
    """A segment was deleted, or found to be gone."""

    run: str
    segment: Segment


Event = Closed | Removed


class Recorder:
    """Writes one directory, whose lock the caller holds.

    Attributes:
        runs: what is stored, oldest first; this thread's own.
        events: what happened, for the caller to take away.

    Args:
        runs: what is stored already.
        prepare: what could not be done when the directory was opened; it comes before all writing, raises OSError
            where it still cannot be done, and is called again then.
    """

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        runs: Sequence[StoredRun] = (),
        prepare: Callable[[list[Event]], None] | None = None,
    ) -> None:
        self.runs = {run.id: run for run in runs}
        self.events: list[Event] = []
        self._directory = directory
        self._limits = limits
        self._run: StoredRun | None = None  # which is written to
        self._live: Run | None = None  # the same, as the bus has it
        self._active: Active | None = None
        self._began_at = 0.0  # when the first tick in the active segment was received, ms since the epoch; 0: none yet
        self._opened = 0.0  # when it was opened, monotonic seconds
        self._torn: tuple[StoredRun, Segment] | None = None  # its end is to be recovered first
        self._prepare = prepare
        self._broken = prepare is not None  # something failed half way: resume() comes before the next write
        self._others = 0  # bytes of all segments but the active one
        self._synced = time.monotonic()
        self._account()

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return self._others + (self._active.size if self._active is not None else 0)

    @property
    def broken(self) -> bool:
        """Whether ``resume`` comes before anything else."""
        return self._broken

    @property
    def segment(self) -> Segment | None:
        """The segment that is written to, if one is open."""
        return self._active.segment if self._active is not None else None

    # ---- what the caller does ----

    def write(self, batches: Sequence[Batch]) -> None:
        """Add batches, in order, and flush: when this returns, they outlive the process.

        Raises:
            OSError: not all of them were written; ``resume`` comes next.
        """
        try:
            for batch in batches:
                self._add(batch)
            if self._active is not None:
                self._active.flush()
                self._sync_by_time()
        except OSError:
            self._break()
            raise

    def end(self, run: Run) -> None:
        """A run is over: close its block, say so on disk, and seal its segment.

        Raises:
            OSError: as ``write``.
        """
        stored = self.runs.get(run.id)
        if stored is None or stored.ended:
            return
        try:
            self._end(stored, run)
        except OSError:
            self._break()
            raise

    def maintain(self) -> None:
        """What time alone asks for: close an old block, seal an old segment, let go of what is too old or too much.

        Raises:
            OSError: as ``write``.
        """
        active = self._active
        try:
            if active is not None:
                active.check()
                block = active.block
                if block is not None and time.monotonic() - block.began >= self._limits.block_age:
                    self._close_block()
                self._seal_if_due()
                self._sync_by_time()
            self._retire()
        except OSError:
            self._break()
            raise

    def resume(self) -> None:
        """After a failure: cut what is torn back to what was acknowledged, and close it.

        Raises:
            OSError: the disk does not work yet.
        """
        if self._prepare is not None:
            self._prepare(self.events)
            self._prepare = None
        if self._torn is not None:
            run, segment = self._torn
            if segment.path.exists():
                self._recover(run, segment)
                if segment.path.stat().st_size == 0:  # no block came into it, and an empty file is no zstd file
                    segment.path.unlink()
                    run.segments.remove(segment)
            self._torn = None
        self._account()
        self._broken = False

    def close(self) -> None:
        """Close the open block and save the index, for a clean end.

        Raises:
            OSError: it could not be done; the next start recovers it.
        """
        try:
            if not self._broken and self._active is not None:
                self._close_block()
                self._sync()
                self._save_index(self._active.run)
        finally:
            self._drop_files()

    # ---- blocks ----

    def _add(self, batch: Batch) -> None:
        run = self._stored(batch.run)
        if run is not self._run:
            self._switch(run)
        self._live = batch.run
        active = self._active
        if active is not None and active.block is not None and active.block.next != batch.ordinal:
            self._close_block()  # a hole lies between: the next block's ordinal tells of it
        active = self._open(run, batch.first)
        if active.block is None:
            active.begin(batch.ordinal, time.monotonic())
            self._began_at = self._began_at or batch.ticks[0].at
        active.add(batch)
        block = active.block
        assert block is not None
        if block.size >= self._limits.block_bytes or len(block.ts) >= self._limits.block_ticks:
            self._close_block()
            self._seal_if_due()

    def _stored(self, run: Run) -> StoredRun:
        stored = self.runs.get(run.id)
        if stored is None:
            stored = self.runs[run.id] = StoredRun(run.id, run.seq, run.started, run.first)
        return stored

    def _switch(self, run: StoredRun) -> None:
        """Go over to another run; the one before it has no more ticks to come."""
        before, live = self._run, self._live
        if before is not None:
            if live is not None and live.ended and not before.ended:
                self._end(before, live)
            elif self._active is not None:
                self._close_block()
                self._seal(before)
        self._run = run

    def _close_block(self) -> None:
        active = self._active
        if active is None or active.block is None:
            return
        entry = active.close_block()
        active.run.entries.append(entry)
        active.run.know(entry.ordinal + entry.count, entry.last)
        self.events.append(Closed(active.run.id, entry))
        if self._limits.fsync == "block":
            self._sync()

    # ---- segments ----

    def _open(self, run: StoredRun, first: int, *, full: bool = False) -> Active:
        """Have a segment of a run open: its last one if there is room in it (or though it is ``full``), else a new one
        that begins with tick ``first``."""
        if self._active is not None:
            return self._active
        folder = self._directory / run.id
        self._make_folder(folder)
        segment = run.segments[-1] if run.segments else None
        if segment is not None and not segment.path.exists():  # somebody deleted it: readers will find that out
            segment = None
        if segment is not None and not segment.sealed:
            size = segment.path.stat().st_size
            if size > segment.size:
                self._recover(run, segment)  # it could not be done at the start
                size = segment.path.stat().st_size
            segment.sealed = size != segment.size  # it is damaged: nothing is written behind that
        if segment is None or segment.sealed:
            segment = self._new_segment(run, folder / segment_name(first))
        self._activate(run, segment)
        assert self._active is not None
        if not full and self._seal_if_due():
            return self._open(run, first)
        return self._active

    def _new_segment(self, run: StoredRun, path: Path) -> Segment:
        if path.exists() and path.stat().st_size:  # of blocks that are so damaged that their numbers are not known
            path.replace(free_name(path, 0))
        for segment in [segment for segment in run.segments if segment.path == path]:
            run.segments.remove(segment)
            run.entries = [entry for entry in run.entries if entry.volume is not segment]
            self.events.append(Removed(run.id, segment))
        return Segment(path)

    def _activate(self, run: StoredRun, segment: Segment) -> None:
        self._active = Active(run, segment, self._limits.level)
        segment.sealed = False
        if segment not in run.segments:
            run.segments.append(segment)
        self._opened = time.monotonic()
        self._began_at = next((entry.first_at for entry in run.entries if entry.volume is segment), 0)
        self._account()
        if self._limits.fsync != "never":
            sync_directory(segment.path.parent)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        folder.mkdir(parents=True)
        if self._limits.fsync != "never":
            sync_directory(folder.parent)

    def _recover(self, run: StoredRun, segment: Segment) -> None:
        recovered = recover_tail(self._directory / run.id, run, segment)
        if recovered.damage:
            log.error("history: %s/%s: %s", run.id, segment.name, recovered.damage)
        if recovered.entry is not None:
            self.events.append(Closed(run.id, recovered.entry))

    def _seal_if_due(self) -> bool:
        limits, active = self._limits, self._active
        if active is None or active.block is not None or not active.segment.size:
            return False
        # By the clock, or by the receive times of its ticks: those of an import passed long ago.
        span = (active.run.entries[-1].last_at - self._began_at) / 1000 if self._began_at else 0.0
        age = max(span, time.monotonic() - self._opened)
        if active.segment.size < limits.segment_bytes and not (limits.segment_age and age >= limits.segment_age):
            return False
        self._seal(active.run)
        return True

    def _seal(self, run: StoredRun, *, ended: bool = False, lost_tail: bool = False) -> None:
        """No block will be added to the active segment."""
        active = self._active
        assert active is not None
        if active.segment.size or ended:
            active.seal(run.mark(ended=ended, lost_tail=lost_tail))
            if ended:
                run.ended, run.lost_tail = True, lost_tail
        self._sync()
        self._drop_files()
        self._save_index(run)
        self._retire()

    def _end(self, stored: StoredRun, run: Run) -> None:
        active = self._active
        if active is None or active.run is stored:
            self._close_block()
            self._mark_end(stored, run)
            return
        began_at, self._active = self._began_at, None  # its place was taken already: it is marked beside
        try:
            self._mark_end(stored, run)
        finally:
            self._drop_files()
            self._active, self._began_at = active, began_at
            self._account()

    def _mark_end(self, stored: StoredRun, run: Run) -> None:
        if stored.tip >= 0:  # a run of which nothing came to disk never was
            self._open(stored, stored.tip + 1, full=True)
            self._seal(stored, ended=True, lost_tail=run.lost_tail or stored.tip < run.tip)

    def _save_index(self, run: StoredRun) -> None:
        try:
            save_index(self._directory / run.id, run)
        except OSError as error:  # a cache: where it does not fit the files, they are asked
            log.warning("history: the index of run %s cannot be saved: %s", run.id, error.strerror)

    # ---- durability, retention ----

    def _sync(self) -> None:
        if self._limits.fsync != "never" and self._active is not None:
            self._active.sync()
        self._synced = time.monotonic()

    def _sync_by_time(self) -> None:
        if self._limits.fsync == "interval" and time.monotonic() - self._synced >= self._limits.fsync_interval:
            self._sync()

    def _retire(self) -> None:
        limits = self._limits
        if not limits.retain_bytes and not limits.retain_age:
            return
        oldest = (time.time() - limits.retain_age) * 1000 if limits.retain_age else 0
        changed: dict[str, StoredRun] = {}
        for run, segment in too_much(self.runs.values(), self.segment, self.size, limits.retain_bytes, oldest):
            try:
                delete(run, segment)
            except OSError as error:
                log.error("history: %s/%s cannot be deleted: %s", run.id, segment.name, error.strerror)
                break
            self.events.append(Removed(run.id, segment))
            changed[run.id] = run
        for run in changed.values():
            if run.segments:
                self._save_index(run)
            else:
                del self.runs[run.id]
        if changed:
            self._account()

    # ---- faults ----

    def _break(self) -> None:
        self._broken = True
        if self._active is not None:
            self._torn = self._active.run, self._active.segment
        self._drop_files()
        self._run = self._live = None

    def _drop_files(self) -> None:
        active, self._active = self._active, None
        if active is not None:
            active.drop()
        self._account()

    def _account(self) -> None:
        writing = self.segment
        self._others = sum(one.size for run in self.runs.values() for one in run.segments if one is not writing)
