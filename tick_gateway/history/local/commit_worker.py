"""The thread's side of a commit pipeline: rounds of writing, with retries after failures.

        requests ──► resume, after a failure ──► write ──► maintain, now and then ──► results

Waiting for requests and reporting results is the pipeline's task. Used by one thread.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ...bus.ring import Batch, Run
from .events import StorageEvent
from .recorder import Recorder

log = logging.getLogger("tick_gateway.history")

Item = Batch | Run  # a run has ended

RETRY_SECONDS: Final = 1.0
MAINTAIN_SECONDS: Final = 0.5


@dataclass(slots=True)
class CommitRequest:
    """A request of the loop to write something.

    Attributes:
        number: rises from request to request.
        items: batches, and runs that have ended.
        handed: when it was made, monotonic seconds.
        shown: readers can have its ticks.
    """

    number: int
    items: list[Item]
    handed: float
    shown: bool = False

    @property
    def batches(self) -> list[Batch]:
        """Its batches."""
        return [item for item in self.items if isinstance(item, Batch)]


class CommitResult(NamedTuple):
    """The result of one round of writing.

    Attributes:
        upto: the number of the last request that was finished; 0: there was none.
        error: why the ticks are not stored, or None.
        vouched: run and ordinal: batches of this run whose ticks end at or before the ordinal come back when the disk
            works again; None: none are known to.
        events: blocks closed, segments deleted, and so on.
        size: bytes of all segments.
    """

    upto: int
    error: OSError | None
    vouched: tuple[str, int] | None
    events: list[StorageEvent]
    size: int


class CommitWorker:
    """The thread's side: owns the recorder, and writes in rounds."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._maintained = 0.0
        self._retry_at = 0.0
        self._due: list[Run] = []  # whose end could not be written yet
        self._broke = OSError("the disk does not work")

    def round(self, requests: Sequence[CommitRequest], closing: bool = False) -> CommitResult | None:
        """Write requests, and do what is due by time; None: there is nothing to report.

        Args:
            closing: this is the last round.
        """
        recorder, now = self._recorder, time.monotonic()
        error: OSError | None = None
        vouched: tuple[str, int] | None = None
        items = [*self._due, *(item for request in requests for item in request.items)]
        self._due = [item for item in items if isinstance(item, Run)]
        if recorder.broken and (now < self._retry_at or not items):  # too early for another try
            error = self._broke if requests else None
        else:
            try:
                self._write(items, now, closing=closing)
            except Exception as problem:
                error = self._broke = _as_trouble(problem)
                vouched = recorder.vouched
                self._retry_at = now + RETRY_SECONDS
        if closing:
            try:
                recorder.close()
            except Exception as problem:  # the next start recovers what is open
                _as_trouble(problem)
        events, recorder.events = recorder.events, []
        if not (requests or events or error is not None):
            return None
        return CommitResult(requests[-1].number if requests else 0, error, vouched, events, recorder.size)

    def _write(self, items: Sequence[Item], now: float, *, closing: bool) -> None:
        """Resume after a failure, write, and do what is due by time.

        Raises:
            OSError: see ``Recorder``.
        """
        recorder = self._recorder
        if recorder.broken:
            recorder.resume()
        _write(recorder, items)
        self._due = []
        if now - self._maintained >= MAINTAIN_SECONDS or closing:
            self._maintained = now
            recorder.maintain()


def _as_trouble(problem: Exception) -> OSError:
    """An exception as a disk error; a bug is reported as one, and does not end the thread."""
    if isinstance(problem, OSError):
        return problem
    log.error("history: the writer failed", exc_info=problem)
    return OSError(errno.EIO, "the writer failed; the log says how")


def _write(recorder: Recorder, items: Sequence[Item]) -> None:
    """Write batches together, and end runs where they ended."""
    batches: list[Batch] = []
    for item in items:
        if isinstance(item, Batch):
            batches.append(item)
            continue
        if batches:
            recorder.write(batches)
            batches = []
        recorder.end(item)
    if batches:
        recorder.write(batches)
