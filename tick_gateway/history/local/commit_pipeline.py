"""The commit pipeline: the loop's side of writing history. It passes ticks to a thread that writes them, and shows them
to readers once they are stored.

    bus.collect() ──take──► queue ──thread: recorder.write──► done ──► archive, bus.show ──► readers

While the disk keeps up, a crash cannot lose a tick that a reader has. If the disk lags (a write takes longer than
``LAG_SECONDS``) or fails, streaming continues without it: ticks are shown immediately, ``state`` reports it, unwritten
ticks are a hole in history, and writing resumes by itself.

Everything but ``_work`` runs on the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from ...bus.ring import Batch, Run
from ...bus.tick_bus import TickBus
from ..archive import Archive
from .commit_worker import MAINTAIN_SECONDS, CommitRequest, CommitResult, CommitWorker
from .events import SegmentIndexed, SegmentRemoved, SegmentSealed, TicksMissing
from .recorder import Recorder

log = logging.getLogger("tick_gateway.history")

State = Literal["ok", "lagging", "failing"]

LAG_SECONDS: Final = 0.1
VERDICT_SECONDS: Final = 5.0  # how long a publisher's answer waits for a slow disk


class CommitPipeline:
    """Keeps the history of one bus.

    Args:
        recorder: writes; from ``start`` on, it belongs to the pipeline's thread.
        queue_bytes: bound for what waits for the disk; ticks beyond it are left out of history.

    Attributes:
        state: ``ok``; ``lagging``: the disk is slow; ``failing``: it accepts no writes.
        reason: why the state is not ok, or was not last.
        unstored: number of ticks that readers were given and history does not have: not written, or lost from it.
        bytes: of all segments.
    """

    def __init__(self, bus: TickBus, archive: Archive, recorder: Recorder, queue_bytes: int) -> None:
        self.bus = bus
        self.archive = archive
        self.state: State = "ok"
        self.reason = ""
        self.unstored = 0
        self._told = 0  # the level at which the state was logged
        self.bytes = recorder.size
        self._worker = CommitWorker(recorder)
        self._queue_bytes = queue_bytes
        self._shown: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()  # the thread has ended
        self._number = 0
        self._flight: deque[CommitRequest] = deque()  # passed to the thread, not done
        self._refused = 0  # the number of the last request that will not be stored
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        # Shared with the thread from here on.
        self._changed = threading.Condition()
        self._queue: list[CommitRequest] = []
        self._queued = 0  # bytes
        self._closing = False
        self._through = 0  # the number of the last request that the thread has finished

    # ---- life ----

    def start(self, shown: Callable[[], None]) -> None:
        """Use this thread's running loop, and start; ``shown`` is called when there are new ticks for readers."""
        self._loop = asyncio.get_running_loop()
        self._shown = shown
        self._begin()
        self.bus.divert(self.take)

    def _begin(self) -> None:
        threading.Thread(target=self._work, name="tick-gateway-history", daemon=True).start()

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting to be written."""
        return not self._flight

    def fail_from_the_start(self, reason: str) -> None:
        """The directory could not be opened; writing will be tried again and again."""
        self.state, self.reason = "failing", reason

    def mark(self) -> int:
        """A mark before the ticks published from now on, for ``settled``."""
        self.bus.collect()
        return self._number

    async def settled(self, since: int) -> bool:
        """Wait until everything published so far is stored, or the disk fails, or is too slow to wait for. Readers can
        then have it.

        Returns:
            Whether everything published after the mark ``since`` is stored.
        """
        self.bus.collect()
        upto = self._number
        if self._undecided(upto):
            assert self._loop is not None
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append((upto, waiter))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(VERDICT_SECONDS):
                    await waiter
        return not self._undecided(upto) and self._refused <= since

    async def close(self, seconds: float) -> None:
        """Store what was published, close the open block, and end the thread; waits at most ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.settled(0)
        self.bus.divert(_too_late)
        self._show_all()
        with self._changed:
            self._closing = True
            self._changed.notify()
        await self._end(seconds)
        if self._timer is not None:
            self._timer.cancel()

    async def _end(self, seconds: float) -> None:
        """Wait for the last round of writing; not in another thread, because scripts cannot start one at exit."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()

    # ---- passing on ----

    def take(self, batches: Sequence[Batch], ended: Sequence[Run]) -> None:
        """Take what was published since the last call, and the runs that ended after it."""
        assert self._loop is not None
        self._number += 1
        request = CommitRequest(self._number, [*batches, *ended], time.monotonic())
        self._flight.append(request)
        size = sum(batch.size for batch in batches)
        with self._changed:
            fits = not self._queued or self._queued + size <= self._queue_bytes
            if fits:
                self._queued += size
            else:
                request.items = list(ended)
            self._queue.append(request)
            self._changed.notify()
        if not fits:
            self._fall("lagging", f"more than {self._queue_bytes} bytes wait for the disk", lost=True)
            left_out = CommitRequest(self._number, list(batches), request.handed)
            self._refuse([left_out])
            self._show([left_out])
        elif self.state != "ok":
            self._show([request])
        elif self._timer is None:
            self._timer = self._loop.call_later(LAG_SECONDS, self._look)

    def _look(self) -> None:
        """Check whether the disk has been busy with one request for too long."""
        assert self._loop is not None
        self._timer = None
        if not self._flight or self.state != "ok":
            return
        late = time.monotonic() - self._flight[0].handed
        if late < LAG_SECONDS:
            self._timer = self._loop.call_later(LAG_SECONDS - late, self._look)
        elif self._flight[0].number <= self._through:  # the loop was blocked, not the disk: the result is on its way
            self._timer = self._loop.call_later(LAG_SECONDS, self._look)
        else:
            self._fall("lagging", f"the disk has not taken ticks for {late:.1f} s", lost=False)

    def _show_all(self) -> None:
        self._show(self._flight)

    def _show(self, requests: Iterable[CommitRequest]) -> None:
        """Show readers what they do not have yet, in the order of publication."""
        requests = [request for request in requests if not request.shown]
        for request in requests:
            request.shown = True
            self.bus.show(request.batches)
        if requests:
            self._shown()

    def _refuse(self, requests: Iterable[CommitRequest], vouched: tuple[str, int] | None = None) -> None:
        """These requests will not be stored; but see ``CommitResult.vouched``."""
        for request in requests:
            lost = [batch for batch in request.batches if not self._holds(batch)]
            if lost:
                self._refused = request.number
            for batch in lost:
                end = batch.ordinal + len(batch.ticks)
                comes_back = vouched is not None and batch.run.id == vouched[0] and end <= vouched[1]
                self.unstored += 0 if comes_back else len(batch.ticks)

    def _fall(self, state: State, reason: str, *, lost: bool) -> None:
        """Continue without the disk; ``lost``: ticks are left out of history. As long as none are, a briefly slow disk
        is only worth a warning."""
        if lost and self._told == logging.WARNING:
            log.error("history: %s; ticks are left out of it", reason)
        elif not self._told and lost:
            log.error("history: %s; live goes on without it", reason)
        elif not self._told:
            log.warning("history: %s; live goes on without it, and nothing is lost so far", reason)
        self._told = logging.ERROR if lost else self._told or logging.WARNING
        self.state, self.reason = state, reason
        self._show_all()

    def _rise(self) -> None:
        if self.state != "ok":
            level = logging.WARNING if self._told == logging.ERROR else logging.INFO
            log.log(level, "history is written again, after: %s", self.reason)
        self.state, self.reason, self._told = "ok", "", 0

    def _undecided(self, number: int) -> bool:
        """Whether requests up to this number may still be stored."""
        return bool(self._flight) and self._flight[0].number <= number

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        for number, waiter in waiting:
            if waiter.done():
                continue
            if self._undecided(number):
                self._waiting.append((number, waiter))
            else:
                waiter.set_result(None)

    def _done(self, result: CommitResult) -> None:
        """The thread has finished every request up to a number."""
        self.bytes, error = result.size, result.error
        done: list[CommitRequest] = []
        while self._flight and self._flight[0].number <= result.upto:
            done.append(self._flight.popleft())
        for request in done if error is None else ():
            self.archive.wrote(request.batches)
        for event in result.events:
            if isinstance(event, SegmentRemoved):
                self.archive.removed(event.run, event.segment)
            elif isinstance(event, SegmentSealed):
                event.segment.known = True
            elif isinstance(event, SegmentIndexed):
                self.archive.indexed(event.run, event.segment, event.records)
            elif isinstance(event, TicksMissing):
                self.unstored += event.ticks
                event.segment.known = event.segment.sealed
                volume = event.segment if event.whole else None
                self.archive.missing(event.run, event.entries, event.ticks, event.problem, event.upto, volume)
            elif (run := self.bus.runs.get(event.run)) is not None:
                self.archive.closed(run, event.entry)
        # Readers come last: what memory evicts for their ticks may be in a block that was closed just now.
        if error is not None:
            self._refuse(done, result.vouched)
            self._show(done)
            self._fall("failing", f"ticks cannot be written: {error.strerror or error}", lost=True)
        elif done and not self._late:
            self._rise()
        self._show(done)
        self._settle()

    def _holds(self, batch: Batch) -> bool:
        """Whether a batch was written, though other parts of its request were not."""
        return self.archive.holds(batch.run, batch.first, batch.last)

    @property
    def _late(self) -> bool:
        """Whether the disk has been given more than it should be behind with."""
        return bool(self._flight) and time.monotonic() - self._flight[0].handed >= LAG_SECONDS

    # ---- the thread ----

    def _work(self) -> None:
        try:
            closing = False
            while not closing:
                with self._changed:
                    if not self._queue and not self._closing:
                        self._changed.wait(MAINTAIN_SECONDS)
                requests, closing = self._fetch()
                if (result := self._worker.round(requests, closing)) is not None:
                    self._through = max(self._through, result.upto)
                    self._call_soon(self._done, result)
        finally:
            self._call_soon(self._ended.set)

    def _call_soon(self, call: Callable[..., object], *args: object) -> None:
        """Have the loop make a call; if it is closed, nobody is left to be told."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *args)

    def _fetch(self) -> tuple[list[CommitRequest], bool]:
        """The requests to be written, and whether these are the last."""
        with self._changed:
            requests, self._queue, self._queued = self._queue, [], 0
            return requests, self._closing


def _too_late(batches: Sequence[Batch], ended: Sequence[Run]) -> None:
    """What is published during shutdown is neither stored nor shown."""
