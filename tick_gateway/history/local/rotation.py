"""Which segment is written to: opened where there is room in it, sealed when it is full or old, forced to the disk.

    the last segment of its run     where it is not sealed, and sound to its end
    a new one                       else; somebody else's file of that name is put aside

A sealed segment is never opened again, not by another process either: whoever has a copy has all of it.

Used by one thread. No clock: callers pass ``now``, monotonic seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..format.segment import Footer
from .active_segment import ActiveSegment
from .disk import free_name, sync_directory
from .events import BlockClosed, SegmentRemoved, StorageEvent
from .limits import Limits
from .opening import recover_segment
from .run import LocalRun
from .run_directory import directory_of
from .segment_file import Segment, segment_name

log = logging.getLogger("tick_gateway.history")


class Rotation:
    """The segment of a directory that is written to.

    Args:
        tell: is told what happens to other segments on the way.

    Attributes:
        active: the segment, or None.
    """

    def __init__(self, directory: Path, limits: Limits, tell: Callable[[StorageEvent], None], now: float) -> None:
        self.active: ActiveSegment | None = None
        self._directory = directory
        self._limits = limits
        self._tell = tell
        self._opened = 0.0  # when the segment was opened
        self._began_at = 0.0  # when the first tick in it was received, ms since the epoch; 0: none yet
        self._synced = now

    def open(self, run: LocalRun, first: int, now: float) -> ActiveSegment:
        """Have a segment of a run open; a new one begins with tick ``first``.

        Raises:
            OSError: it cannot be had.
        """
        if self.active is not None:
            return self.active
        directory = run.directory = run.directory or directory_of(self._directory, run.id)
        self._make_directory(directory)
        segment = self._last(run)
        if segment is None or segment.sealed:
            segment = self._new(run, directory / segment_name(first))
        self.active = ActiveSegment.open(run, segment, self._limits.level)
        if segment not in run.segments:
            run.segments.append(segment)
        self._opened = now
        bounds = run.entries.bounds_of(segment)
        self._began_at = bounds.first_at if bounds is not None else 0
        if self._limits.fsync != "never":
            sync_directory(segment.path.parent)
        return self.active

    def due(self, now: float) -> bool:
        """Whether the segment is to be sealed: nothing is open in it, and it is full or old."""
        limits, active = self._limits, self.active
        if active is None or active.block is not None or not active.segment.size:
            return False
        # By the clock, or by the receive times of its ticks: those of an import passed long ago.
        bounds = active.run.entries.bounds
        span = (bounds[1].last_at - self._began_at) / 1000 if bounds and self._began_at else 0.0
        age = max(span, now - self._opened)
        return active.segment.size >= limits.segment_bytes or bool(limits.segment_age and age >= limits.segment_age)

    def seal(self, footer: Footer, now: float) -> None:
        """Write a seal, and let go of the segment: no block will be added to it.

        Raises:
            OSError: it could not be done.
        """
        active = self.active
        assert active is not None
        active.seal(footer)
        self.sync(now)
        self.drop()

    def began(self, at: int) -> None:
        """The first tick of a block was received then."""
        self._began_at = self._began_at or at

    def sync(self, now: float) -> None:
        """Force to the disk what was written, unless that is never to be done.

        Raises:
            OSError: it could not be done.
        """
        if self._limits.fsync != "never" and self.active is not None:
            self.active.sync()
        self._synced = now

    def sync_by_time(self, now: float) -> None:
        """The same, if the time has come for it."""
        if self._limits.fsync == "interval" and now - self._synced >= self._limits.fsync_interval:
            self.sync(now)

    def drop(self) -> None:
        """Let go of the segment as it is."""
        active, self.active = self.active, None
        if active is not None:
            active.drop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the segment open, and write to another one meanwhile."""
        kept = self.active, self._opened, self._began_at
        self.active = None
        try:
            yield
        finally:
            self.drop()
            self.active, self._opened, self._began_at = kept

    def recover(self, run: LocalRun, segment: Segment) -> None:
        """Close what a failure left open at a segment's end.

        Raises:
            OSError: it cannot be done yet.
        """
        recovered = recover_segment(run, segment)
        if recovered.damage:
            log.error("history: %s/%s: %s", run.id, segment.name, recovered.damage)
        if recovered.entry is not None:
            self._tell(BlockClosed(run.id, recovered.entry))

    # ---- which one ----

    def _last(self, run: LocalRun) -> Segment | None:
        """A run's last segment, sealed if it is damaged at its end; None: it has none, or somebody deleted it."""
        segment = run.segments[-1] if run.segments else None
        if segment is None or not segment.path.exists():
            return None
        if not segment.sealed:
            size = segment.path.stat().st_size
            if size > segment.size:
                self.recover(run, segment)  # it could not be done at the start
                size = segment.path.stat().st_size
            segment.sealed = size != segment.size
        return segment

    def _new(self, run: LocalRun, path: Path) -> Segment:
        if path.exists() and path.stat().st_size:  # of blocks that are so damaged that their numbers are not known
            path.replace(free_name(path, 0))
        for segment in [segment for segment in run.segments if segment.path == path]:
            run.forget(segment)
            self._tell(SegmentRemoved(run.id, segment))
        return Segment(path)

    def _make_directory(self, directory: Path) -> None:
        if directory.is_dir():
            return
        directory.mkdir(parents=True)
        if self._limits.fsync != "never":
            sync_directory(directory.parent)
