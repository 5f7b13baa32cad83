"""The recorder: writes ticks to the open block, closes blocks, rotates segments, and deletes old ones.

    write(batches) ── compress, flush ──► segment, then journal      now they outlive this process
                        block full ─────► frame's end and footer       now the block can be served as it lies
                        segment full ───► sealed, index saved        now it never changes again

Failures raise OSError; what was written before stays, and ``resume`` recovers the rest when the disk works again. Used
by one thread. Receive times come with the ticks; the clock is only for the ages of blocks and segments.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ...bus.ring import Batch, Run
from ..block_index import BlockRange
from ..record_page import UnreadableIndex
from ..stored_block import Volume
from .apply_plan import apply, segment_of
from .events import BlockClosed, SegmentIndexed, SegmentRemoved, SegmentSealed, StorageEvent, TicksMissing
from .index import save_index
from .inventory import Inventory, cut_blocks, size_now, why_missing
from .limits import Limits
from .lock import DirectoryLock
from .recovery_plan import RunPlan
from .retention import delete, too_much
from .rotation import Rotation
from .run import LocalRun
from .segment_file import Segment
from .segment_index import SegmentIndex, mend_indexes

log = logging.getLogger("tick_gateway.history")

_MEND_SECONDS = 0.02  # for rewriting index files in one go; at least one each time


class Recorder:
    """Writes one directory, whose lock the caller holds.

    Attributes:
        runs: what is stored, oldest first; used only by this thread.
        events: what happened; the caller removes them.
        vouched: after a failure, the run that was being written to, and the ordinal up to which its open block will
            come back with ``resume``; None: there was none.

    Args:
        runs: what is already stored.
        left: what could not be done when the directory was opened, and is done before anything is written.
        lock: of the directory; held from here on even if the directory is removed and created again. None: the caller
            takes care of locking.
    """

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        runs: Sequence[LocalRun] = (),
        left: Sequence[RunPlan] = (),
        lock: DirectoryLock | None = None,
    ) -> None:
        self.runs = {run.id: run for run in runs}
        self.events: list[StorageEvent] = []
        self.vouched: tuple[str, int] | None = None
        self._directory = directory
        self._limits = limits
        self._rotation = Rotation(directory, limits, self._tell, time.monotonic())
        self._run: LocalRun | None = None  # that is being written to
        self._live: Run | None = None  # the same, on the bus
        self._unrecovered: tuple[LocalRun, Segment] | None = None  # its end has to be recovered first
        self._open_block = (0, 0)  # its ordinals: of its beginning, and after what was vouched for
        self._left = list(left)
        self._lock = lock
        self._inventory = Inventory()
        # Something failed half way, or was left undone: resume() has to come before the next write.
        self._broken = bool(left) or (lock is not None and not lock.held)
        self._others = 0  # bytes of all segments but the active one
        self._account()

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        active = self._rotation.active
        return self._others + (active.size if active is not None else 0)

    @property
    def broken(self) -> bool:
        """Whether ``resume`` has to come before anything else."""
        return self._broken

    @property
    def segment(self) -> Segment | None:
        """The active segment, if one is open."""
        active = self._rotation.active
        return active.segment if active is not None else None

    # ---- called by the worker ----

    def write(self, batches: Sequence[Batch]) -> None:
        """Add batches, in order, and flush: after this returns, they outlive the process.

        Raises:
            OSError: not all of them were written; call ``resume`` next.
        """
        try:
            for batch in batches:
                self._add(batch)
            if self._rotation.active is not None:
                self._rotation.active.flush()
                self._rotation.sync_by_time(time.monotonic())
        except BaseException:
            self._break()
            raise

    def end(self, run: Run) -> None:
        """A run has ended: close its block, write that it ended, and seal its segment.

        Raises:
            OSError: as for ``write``.
        """
        stored = self.runs.get(run.id)
        if stored is None or stored.ended:
            return
        try:
            self._end(stored, run)
        except BaseException:
            self._break()
            raise

    def maintain(self) -> None:
        """Do what is due by time: close an old block, seal an old segment, delete what is too old or too much.

        Raises:
            OSError: as for ``write``.
        """
        active, now = self._rotation.active, time.monotonic()
        try:
            if active is not None:
                active.check()
            removed = self._lock is not None and self._lock.renew()
            self._take_inventory(self._everything() if removed else self._inventory.some(self.runs.values()))
            if active is not None:
                block = active.block
                if block is not None and now - block.began >= self._limits.block_age:
                    self._close_block()
                self._seal_if_due()
                self._rotation.sync_by_time(now)
            self._retire()
        except BaseException:
            self._break()
            raise

    def resume(self) -> None:
        """After a failure: cut the open block back to what was acknowledged, and close it.

        Raises:
            OSError: the disk does not work yet.
        """
        if self._lock is not None:
            self._lock.renew()
        self._apply_left()
        if self._unrecovered is not None:
            run, segment = self._unrecovered
            self._mend(run, segment)
            self._unrecovered = None
        self._take_inventory(self._everything())
        self._account()
        self._broken = False

    def close(self) -> None:
        """Close the open block and save the index, for a clean end.

        Raises:
            OSError: it failed; the next start recovers the block.
        """
        try:
            if not self._broken and self._rotation.active is not None:
                self._close_block()
                self._rotation.sync(time.monotonic())
                self._save_index(self._rotation.active.run)
        finally:
            self._drop_files()

    # ---- blocks ----

    def _add(self, batch: Batch) -> None:
        run = self._stored(batch.run)
        if run is not self._run:
            self._switch(run)
        self._live = batch.run
        active = self._rotation.active
        if active is not None and active.block is not None and active.block.next != batch.ordinal:
            self._close_block()  # there is a hole in between, which the next block's ordinal shows
        self._open(run, batch.first)
        active = self._rotation.active
        assert active is not None
        if active.block is None:
            active.begin(batch.ordinal, time.monotonic())
            self._rotation.began(batch.ticks[0].at)
        active.add(batch)
        block = active.block
        assert block is not None
        if block.size >= self._limits.block_bytes or len(block.ts) >= self._limits.block_ticks:
            self._close_block()
            self._seal_if_due()

    def _stored(self, run: Run) -> LocalRun:
        stored = self.runs.get(run.id)
        if stored is None:
            stored = self.runs[run.id] = LocalRun(run.id, run.seq, run.started, run.first)
        return stored

    def _switch(self, run: LocalRun) -> None:
        """Switch to another run; the previous one gets no more ticks."""
        before, live = self._run, self._live
        if before is not None:
            if live is not None and live.ended and not before.ended:
                self._end(before, live)
            elif self._rotation.active is not None:
                self._close_block()
                if self._rotation.active.segment.size:
                    self._seal(before)
                self._drop_files()
        self._run = run

    def _close_block(self) -> None:
        active = self._rotation.active
        if active is None or active.block is None:
            return
        entry = active.close_block()
        active.run.entries.append(entry)
        active.run.know(entry.ordinal + entry.count, entry.last)
        self.events.append(BlockClosed(active.run.id, entry))
        if self._limits.fsync == "block":
            self._rotation.sync(time.monotonic())

    # ---- segments ----

    def _open(self, run: LocalRun, first: int, *, full: bool = False) -> None:
        """Open a segment of a run with room in it, or even if it is ``full``."""
        if self._rotation.active is not None:
            return
        self._rotation.open(run, first, time.monotonic())
        self._account()
        if not full and self._seal_if_due():
            self._open(run, first)

    def _seal_if_due(self) -> bool:
        active = self._rotation.active
        if active is None or not self._rotation.due(time.monotonic()):
            return False
        self._seal(active.run)
        return True

    def _seal(self, run: LocalRun, *, ended: bool = False, lost_tail: bool = False) -> None:
        """Seal the active segment: no block will be added to it."""
        segment = self.segment
        self._rotation.seal(run.seal_footer(ended=ended, lost_tail=lost_tail), time.monotonic())
        if segment is not None:
            self.events.append(SegmentSealed(run.id, segment))
        if ended:
            run.ended, run.lost_tail = True, lost_tail
        self._account()
        self._save_index(run)
        self._retire()

    def _end(self, stored: LocalRun, run: Run) -> None:
        active = self._rotation.active
        if active is None or active.run is stored:
            self._close_block()
            self._seal_end(stored, run)
        else:  # its name was taken
            with self._rotation.aside():
                self._seal_end(stored, run)
            self._account()

    def _seal_end(self, stored: LocalRun, run: Run) -> None:
        if stored.tip >= 0:  # a run without any stored tick does not exist
            self._open(stored, stored.tip + 1, full=True)
            self._seal(stored, ended=True, lost_tail=run.lost_tail or stored.tip < run.tip)

    def _save_index(self, run: LocalRun) -> None:
        try:
            save_index(run, self._settled(run, self.events))
        except OSError as error:  # a cache: if it does not fit the files, their footers are read
            log.warning("history: the index of run %s cannot be saved: %s", run.id, error.strerror)

    @staticmethod
    def _settled(run: LocalRun, events: list[StorageEvent]) -> Callable[[SegmentIndex], None]:
        """A function that adds an event for each index file that was written."""
        return lambda index: events.append(SegmentIndexed(run.id, index.segment, index))

    # ---- retention ----

    def _retire(self) -> None:
        limits = self._limits
        if not limits.retain_bytes and not limits.retain_age:
            return
        oldest = (time.time() - limits.retain_age) * 1000 if limits.retain_age else 0
        changed: dict[str, LocalRun] = {}
        for run, segment in too_much(self.runs.values(), self.segment, self.size, limits.retain_bytes, oldest):
            try:
                delete(run, segment)
            except OSError as error:
                log.error("history: %s/%s cannot be deleted: %s", run.id, segment.name, error.strerror)
                break
            self.events.append(SegmentRemoved(run.id, segment))
            changed[run.id] = run
        for run in changed.values():
            if run.segments:
                self._save_index(run)
            else:
                del self.runs[run.id]
        if changed:
            self._account()

    # ---- faults ----

    def _apply_left(self) -> None:
        """Do what could not be done when the directory was opened.

        Raises:
            OSError: something still failed; the rest was done.
        """
        while self._left:
            plan = self._left[0]
            indexed: list[StorageEvent] = []
            applied = apply(plan, self._settled(plan.run, indexed))
            self.events += [BlockClosed(plan.run.id, entry) for entry in applied.closed]
            self.events += indexed
            for one in applied.gone:
                if one.block is not None:
                    segment, count = segment_of(plan.run, one.file), len(one.block.ts)
                    problem = why_missing(segment, 0)
                    self.events.append(TicksMissing(plan.run.id, segment, (), count, problem, one.ordinal + count))
            if applied.trouble is not None:
                raise applied.trouble
            del self._left[0]

    def _mend(self, run: LocalRun, segment: Segment) -> None:
        """Recover the segment that was being written to; ticks that were vouched for and are not there are missing."""
        if segment.path.exists():
            self._rotation.recover(run, segment)
            if segment.path.stat().st_size == 0:  # no block was written, and an empty file is not a zstd file
                segment.path.unlink()
        begin, end = self._open_block
        if (lost := end - max(begin, run.stored)) > 0:
            self.events.append(TicksMissing(run.id, segment, (), lost, why_missing(segment, size_now(segment)), end))
        if segment in run.segments and not segment.path.exists() and not run.entries.ranges(segment):
            run.segments.remove(segment)

    def _everything(self) -> list[tuple[LocalRun, Segment]]:
        return [(run, segment) for run in self.runs.values() for segment in run.segments]

    def _take_inventory(self, some: Iterable[tuple[LocalRun, Segment]]) -> None:
        """Check some segments for missing data."""
        changed: dict[str, LocalRun] = {}
        until, late = time.monotonic() + _MEND_SECONDS, False
        ranges: dict[str, dict[Volume, list[BlockRange]]] = {}
        for run, segment in some:
            if segment is self.segment or segment.retired:
                continue
            if segment not in run.segments:  # deleted since it was scheduled
                continue
            if (size := size_now(segment)) >= segment.size:
                if run.id not in ranges:
                    ranges[run.id] = run.entries.by_volume()
                if not late and mend_indexes(ranges[run.id].get(segment, ())):
                    late = time.monotonic() >= until  # the others in their next turn: ticks are waiting
                continue
            self._let_go(run, segment, size)
            changed[run.id] = run
        for run in changed.values():
            if run.segments:
                self._save_index(run)
            elif run.ended:
                del self.runs[run.id]
        if changed:
            self._account()

    def _let_go(self, run: LocalRun, segment: Segment, size: int) -> None:
        """A segment's file is only ``size`` bytes long: the blocks beyond are missing; all are, if it is gone or it is
        unknown which."""
        problem = why_missing(segment, size)
        try:
            gone = cut_blocks(run.entries.of(segment), size) if size else None
        except UnreadableIndex:
            gone = None
        if gone is None:
            ticks = sum(block_range.ticks for block_range in run.entries.ranges(segment))
            self.events.append(TicksMissing(run.id, segment, (), ticks, problem, whole=True))
            segment.retired = True  # a report of its deletion is on its way
            run.forget(segment)
            return
        self.events.append(TicksMissing(run.id, segment, gone, sum(entry.count for entry in gone), problem))
        for entry in gone:
            run.entries.remove(entry)
        segment.size, segment.sealed = size, True

    def _break(self) -> None:
        self._broken, self.vouched = True, None
        if (active := self._rotation.active) is not None:
            self._unrecovered, self._open_block = (active.run, active.segment), (0, 0)
            if active.block is not None:
                self.vouched = active.run.id, active.block.vouched
                self._open_block = active.block.ordinal, active.block.vouched
        self._drop_files()
        self._run = self._live = None

    def _drop_files(self) -> None:
        self._rotation.drop()
        self._account()

    def _account(self) -> None:
        writing = self.segment
        self._others = sum(one.size for run in self.runs.values() for one in run.segments if one is not writing)

    def _tell(self, event: StorageEvent) -> None:
        self.events.append(event)
