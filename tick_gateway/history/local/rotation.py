"""Rotation: which segment is written to. It is sealed when it is full or old, and synced to the disk.

        the last segment of its run     if it is not sealed, and sound to its end
        a new one                       else; another file with its name is renamed

A sealed segment is never opened for writing again, by any process: a copy of it is complete.

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
    """The active segment of a directory.

    Args:
        tell: called with events about other segments.

    Attributes:
        active: the segment, or None.
    """

    def __init__(self, directory: Path, limits: Limits, tell: Callable[[StorageEvent], None], now: float) -> None:
        self.active: ActiveSegment | None = None
        self._directory = directory
        self._limits = limits
        self._tell = tell
        self._opened = 0.0  # when the segment was opened
        self._began_at = 0.0  # when its first tick was received, ms since the epoch; 0: none yet
        self._synced = now

    def open(self, run: LocalRun, first: int, now: float) -> ActiveSegment:
        """Open a segment of a run; a new one begins with tick ``first``.

        Raises:
            OSError: none can be opened.
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
        """Whether to seal the segment: it has no open block, and is full or old."""
        limits, active = self._limits, self.active
        if active is None or active.block is not None or not active.segment.size:
            return False
        # By the clock, or by the receive times of its ticks, which may be long past in an import.
        bounds = active.run.entries.bounds
        span = (bounds[1].last_at - self._began_at) / 1000 if bounds and self._began_at else 0.0
        age = max(span, now - self._opened)
        return active.segment.size >= limits.segment_bytes or bool(limits.segment_age and age >= limits.segment_age)

    def seal(self, footer: Footer, now: float) -> None:
        """Write a seal, and close the segment: no block will be added to it.

        Raises:
            OSError: it failed.
        """
        active = self.active
        assert active is not None
        active.seal(footer)
        self.sync(now)
        self.drop()

    def began(self, at: int) -> None:
        """The first tick of a block was received at this time."""
        self._began_at = self._began_at or at

    def sync(self, now: float) -> None:
        """Force what was written to the disk, unless the setting is never to do that.

        Raises:
            OSError: it failed.
        """
        if self._limits.fsync != "never" and self.active is not None:
            self.active.sync()
        self._synced = now

    def sync_by_time(self, now: float) -> None:
        """The same, if the interval has passed."""
        if self._limits.fsync == "interval" and now - self._synced >= self._limits.fsync_interval:
            self.sync(now)

    def drop(self) -> None:
        """Close the segment as it is."""
        active, self.active = self.active, None
        if active is not None:
            active.drop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Keep the segment open while writing to another one."""
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
            OSError: it is not possible yet.
        """
        recovered = recover_segment(run, segment)
        if recovered.damage:
            log.error("history: %s/%s: %s", run.id, segment.name, recovered.damage)
        if recovered.entry is not None:
            self._tell(BlockClosed(run.id, recovered.entry))

    # ---- choosing one ----

    def _last(self, run: LocalRun) -> Segment | None:
        """A run's last segment, which is sealed if its end is damaged; None: there is none, or it was deleted."""
        segment = run.segments[-1] if run.segments else None
        if segment is None or not segment.path.exists():
            return None
        if not segment.sealed:
            size = segment.path.stat().st_size
            if size > segment.size:
                self.recover(run, segment)  # this was not possible at the start
                size = segment.path.stat().st_size
            segment.sealed = size != segment.size
        return segment

    def _new(self, run: LocalRun, path: Path) -> Segment:
        if path.exists() and path.stat().st_size:  # with blocks so damaged that their numbers are unknown
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
