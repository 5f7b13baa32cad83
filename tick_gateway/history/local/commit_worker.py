"""The thread's side of a pipeline: rounds of writing, and what is tried again after a failure.

    requests ──► resume, if something failed ──► write ──► maintain, now and then ──► what became of them

Nothing here waits for more work or tells anybody: that is the pipeline's. Used by one thread.
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

Item = Batch | Run  # a run: it is over

RETRY_SECONDS: Final = 1.0
MAINTAIN_SECONDS: Final = 0.5


@dataclass(slots=True)
class CommitRequest:
    """What was handed over at once.

    Attributes:
        number: it rises from request to request.
        items: batches, and runs that are over.
        handed: when, monotonic seconds.
        shown: readers can have it.
    """

    number: int
    items: list[Item]
    handed: float
    shown: bool = False

    @property
    def batches(self) -> list[Batch]:
        """Its ticks."""
        return [item for item in self.items if isinstance(item, Batch)]


class CommitResult(NamedTuple):
    """What one round of writing did.

    Attributes:
        upto: the number of the last request that it is through with; 0: it had none.
        error: why what it had is not stored, or None.
        vouched: of what it had, batches of this run whose ticks end at or before this ordinal come back when the disk
            works again; None: it is not known of any.
        events: blocks that were closed, segments that were deleted.
        size: bytes of all segments.
    """

    upto: int
    error: OSError | None
    vouched: tuple[str, int] | None
    events: list[StorageEvent]
    size: int


class CommitWorker:
    """The thread's side of a pipeline: it owns the recorder, and writes in rounds."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._maintained = 0.0
        self._retry_at = 0.0
        self._due: list[Run] = []  # whose end could not be written yet
        self._broke = OSError("the disk does not work")

    def round(self, requests: Sequence[CommitRequest], closing: bool = False) -> CommitResult | None:
        """Write what was handed over, and do what time alone asks for; None: nothing is to be told.

        Args:
            closing: it is the last round.
        """
        recorder, now = self._recorder, time.monotonic()
        error: OSError | None = None
        vouched: tuple[str, int] | None = None
        items = [*self._due, *(item for request in requests for item in request.items)]
        self._due = [item for item in items if isinstance(item, Run)]
        if recorder.broken and (now < self._retry_at or not items):  # it is too early to try again
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
        """Mend what is broken, write, and do what time alone asks for.

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
    """What the disk did not take; a fault of our own is told as one, and does not end the thread."""
    if isinstance(problem, OSError):
        return problem
    log.error("history: the writer failed", exc_info=problem)
    return OSError(errno.EIO, "the writer failed; the log says how")


def _write(recorder: Recorder, items: Sequence[Item]) -> None:
    """Write batches together, and say that runs are over where they are."""
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
