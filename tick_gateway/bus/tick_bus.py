"""The TickBus: runs and the ring, published to from any thread, read on one event loop.

It is the only place where threads and the loop meet. A publisher takes the lock, decides which run a tick belongs to,
appends it to the inbox and returns; ``collect()``, on the loop, moves the inbox into the ring. The loop is woken once
between two collects. Every decision about runs, duplicates and conflicts is made here; every decision about readers is
made in ``reading``.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ..errors import (
    Conflict,
    GatewayError,
    InboxFull,
    Malformed,
    NotFound,
    OutOfOrder,
    ParameterError,
    RunClosed,
    TooBig,
)
from ..model.tick import MAX_T, RUN_ID, Position, PublishedTick, parse
from ..settings import DEFAULTS, Settings
from . import record_encoder as records
from .conversion import is_dataclass
from .ring import BATCH_BYTES, BATCH_TICKS, Batch, Ring, Run, find_in, split

_FIRST_T: Final = re.compile(rb'\{"t":(0|[1-9][0-9]{0,14})[,}]')
_FOREVER: Final = threading.TIMEOUT_MAX
_NOBODY: Final = 0  # the id of no thread: the collector has not started yet
_new_tick: Final = tuple.__new__  # the NamedTuple's own constructor, without a Python call
_MAX_RUNS: Final = 1000  # runs remembered after their ticks have left memory


def new_run_id() -> str:
    """A run id where the publisher gives none: UTC time and 24 random bits."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"


class TickBus:
    """A bounded, ordered record of the newest ticks of all runs.

    Args:
        settings: it uses ring, inbox, max_tick, nan and publish_timeout, among others.
        batch_bytes, batch_ticks: maximum size of a batch that readers share.
    """

    def __init__(
        self, settings: Settings = DEFAULTS, *, batch_bytes: int = BATCH_BYTES, batch_ticks: int = BATCH_TICKS
    ) -> None:
        self.ring = Ring(settings.ring, settings.ring_bytes)
        self.runs: dict[str, Run] = {}  # in the order in which they began
        self.current: Run | None = None
        self.max_tick = settings.max_tick
        self.published = 0  # ticks accepted
        self.dropped = 0  # ticks lost to a full inbox
        self.wake: Callable[[], None] | None = None  # set by the reader's loop; called from any thread
        self._batch_bytes, self._batch_ticks = batch_bytes, batch_ticks
        self._nan: Final = settings.nan_policy
        self._publish_timeout = settings.publish_timeout
        self._inbox_limit = settings.inbox
        self._max_inbox = settings.inbox  # 0 while no ticks are accepted
        self._max_inbox_bytes = settings.inbox_bytes
        # makes the error that publishers get; None: ticks are accepted
        self._closed: Callable[[], GatewayError] | None = None
        self.sink: Callable[[list[Batch], list[Run]], None] | None = None  # see ``divert``
        self._keeps: Callable[[str], bool] = lambda run: False  # see ``use_history``
        self._compare: Callable[[str | None, int, bytes], None] | None = None
        self._lock = threading.RLock()  # guards everything below, and changes of the ring
        self._room = threading.Condition(self._lock)  # notified when the inbox was emptied
        self._inbox: list[Batch] = []  # of any size: ``collect`` splits them
        self._inbox_count = self._inbox_size = 0
        self._handed: list[Batch] = []  # passed to the sink, not shown yet
        self._ended: list[Run] = []  # since the last collect; passed to the sink
        self._woken = False
        self._lost: tuple[int, int] | None = None  # lowest and highest t dropped since the last accepted tick
        self._lost_new: tuple[int, int] | None = None  # the same, of the run that these ticks would have begun
        self._last_at = 0
        self._collector: int | None = None  # the thread that collects

    # ---- publishing, from any thread ----

    def publish(self, record: object, *, run: str | None = None, wait: bool = False) -> bool:
        """Publish a record of the simulation: a mapping or dataclass with an integer ``t``, or its JSON as bytes or
        str.

        Returns at once, without waiting for any reader. A falling ``t`` begins a new run.

        Args:
            run: the run's name; a new name ends the current run and begins that one.
            wait: if the inbox is full, wait for the gateway's loop however long it takes; for sources that may be
                blocked.

        Returns:
            True; False if this very tick was already published or stored.

        Raises:
            RecordError, Malformed, TooBig: the record is not a tick.
            Conflict, OutOfOrder, RunClosed: the tick does not fit its run. For a named run that was stored earlier,
                this may need a read from disk.
            Unreadable: the disk does not answer.
            InboxFull: no room within ``publish_timeout``; the tick is dropped and counted, and readers see a gap.
            NotServing: nobody could read it; see ``close``.
        """
        t: Any
        if type(record) is dict and type(t := record.get("t")) is int and 0 <= t <= MAX_T:  # the usual case
            data = records.encode(record, nan=self._nan)
            if record.get("t") is not t:  # changed meanwhile: the number in the bytes counts
                t, data = parse(data, self.max_tick)
            if len(data) > self.max_tick:
                raise TooBig(len(data), self.max_tick)
        else:
            t, data = self._door(record)
        taken = self.offer(t, data, run, timeout=_FOREVER if wait else self._publish_timeout)
        if not taken and self._compare is not None:
            self._compare(run, t, data)
        return taken

    def offer(
        self, t: int, data: bytes, run: str | None = None, *, resends: bool = False, timeout: float = 0.0
    ) -> bool:
        """Accept a checked tick (see ``tick.parse``).

        Args:
            resends: the publisher may send ticks again (HTTP and WebSocket publishers).
            timeout: how long to wait for room in the inbox, seconds.

        Returns:
            True if the tick was accepted, False if it is a duplicate.

        Raises:
            Conflict, OutOfOrder, RunClosed, InboxFull, ParameterError, NotServing: as for ``publish``.
        """
        stop: float | None = None  # when to stop waiting for room
        while True:
            with self._lock:
                home = self.current
                if home is None or home.ended or t <= home.tip or (run is not None and run != home.id):
                    home = self._home(t, data, run, resends)
                    if home is not None and t <= home.tip:
                        return False
                if self._inbox_count < self._max_inbox and self._inbox_size < self._max_inbox_bytes:
                    self._append(home or self._begin(run, t), t, data)
                    if self._woken:
                        return True
                    self._woken, wake = True, self.wake
                    break
                if self._closed is not None:
                    raise self._closed()
                if not self._collects_here:
                    now = time.monotonic()
                    stop = now + timeout if stop is None else stop
                    if now >= stop:
                        self._drop(t, home)
                        raise InboxFull(timeout, t, started=self._collector != _NOBODY)
                    self._room.wait(min(stop - now, _FOREVER))
                    continue  # others may have published meanwhile: find the tick's run again
            self.collect()
        if wake is not None:
            wake()
        return True

    def end_run(self, run: str) -> None:
        """End a run: its readers reach its end, and the next tick begins another.

        Raises:
            NotFound: no such run is known.
            NotServing: as for ``publish``.
        """
        with self._lock:
            if self._closed is not None:
                raise self._closed()
            if run not in self.runs:
                raise NotFound(f"no run {run} is known; see /runs")
            self._close(self.runs[run])
            self._woken, wake = True, self.wake
        if wake is not None:
            wake()

    def _door(self, record: object) -> tuple[int, bytes]:
        if isinstance(record, bytes | bytearray | memoryview):
            return parse(bytes(record), self.max_tick)
        if isinstance(record, str):
            return parse(record.encode("utf-8", "surrogatepass"), self.max_tick, inside=True)
        data = records.encode(record, nan=self._nan)
        # The number in the bytes counts: a record may give a different one each time it is read.
        first = _FIRST_T.match(data)
        if first is not None and (isinstance(record, Mapping) or is_dataclass(record)):  # so no member comes twice
            if len(data) > self.max_tick:
                raise TooBig(len(data), self.max_tick)
            return int(first[1]), data
        try:
            return parse(data, self.max_tick)
        except Malformed as error:
            if error.t is None and is_dataclass(record) and hasattr(record, "t"):
                raise Malformed(
                    f"{error}; of a dataclass, fields alone are members (no property, ClassVar, InitVar)"
                ) from None
            raise

    def _home(self, t: int, data: bytes, name: str | None, resends: bool) -> Run | None:
        """The run that a tick belongs to; None: it begins a new one. A tick at or below the tip is a duplicate."""
        if self._closed is not None:
            raise self._closed()
        run = self.current
        if name is not None and (run is None or name != run.id):
            if not isinstance(name, str) or not RUN_ID.fullmatch(name):
                raise ParameterError("run", f"{name!r:.80} is no run id; accepted: a string, {RUN_ID.pattern}")
            if name not in self.runs:
                return None
            run = self.runs[name]
        if run is None:
            return None
        open_ = run is self.current and not run.ended
        if t > run.tip and open_:
            return run
        if name is None:
            # An in-process publisher does not resend: what an earlier process published last, it publishes as new
            # ticks.
            started_over = t <= run.first if resends else t < run.tip or run.restored
            if started_over or not open_:
                return None
        if t > run.tip:
            raise RunClosed(run.id, t)
        self._check_again(run, t, data, open_)
        return run

    def _check_again(self, run: Run, t: int, data: bytes, open_: bool) -> None:
        """Check a tick at or below the tip: return if it is a duplicate, else raise."""
        waiting = (batch for batch in (*self._handed, *self._inbox) if batch.run is run)
        stored = next((found for batch in waiting if (found := find_in(batch.ticks, t))), None)
        stored = stored or self.ring.find(run, t)
        if stored is not None:
            if stored.data != data:
                raise Conflict(run.id, t, run.tip if run.restored else None)
        elif t > run.evicted:  # at or below ``evicted``, the tick counts as one that is no longer stored
            raise OutOfOrder(run.id, t, run.tip) if open_ else RunClosed(run.id, t)

    def _begin(self, name: str | None, t: int) -> Run:
        old = self.current
        if name is None:
            name = new_run_id()
        run = Run(name, old.seq + 1 if old else 0, t, int(time.time() * 1000))
        if old is not None:
            self._close(old)
        self._lost, self._lost_new = self._lost_new, None
        self.runs[name] = self.current = run
        if len(self.runs) > _MAX_RUNS:
            forgotten = next(iter(self.runs.values()))
            if forgotten.over and self.ring.first_of(forgotten) is None and not self._keeps(forgotten.id):
                del self.runs[forgotten.id]
        return run

    def _close(self, run: Run) -> None:
        if not run.ended:
            self._ended.append(run)
        run.ended = True
        if run is self.current and self._lost is not None and self._lost[1] > run.tip:
            run.lost_tail = True

    def _append(self, run: Run, t: int, data: bytes) -> None:
        lost = self._lost is not None and self._settle_lost(t)
        at = time.time_ns() // 1_000_000
        if at < self._last_at:  # time never goes back here: `since` relies on the order
            at = self._last_at
        self._last_at = at
        size = len(data)
        batch = self._inbox[-1] if self._inbox else None
        if batch is None or batch.run is not run or lost:
            run.lost += lost
            run.restored = False
            batch = Batch(run, [], 0, lost, run.count + run.lost)
            self._inbox.append(batch)
        batch.ticks.append(_new_tick(PublishedTick, (t, data, at)))
        batch.size += size
        run.tip = t
        run.count += 1
        self.published += 1
        self._inbox_count += 1
        self._inbox_size += size

    def _settle_lost(self, t: int) -> bool:
        """Whether dropped ticks lie before ``t``; those after it are reported with a later tick."""
        assert self._lost is not None
        low, high = self._lost
        if t >= low:
            self._lost = (t + 1, high) if t < high else None
        return low < t

    @property
    def _collects_here(self) -> bool:
        """Whether this thread has to empty a full inbox itself: the loop's thread, or any if there is no loop."""
        if self._collector is None:
            return self.sink is None  # else it is shutting down: new ticks are neither stored nor shown
        return self._collector == threading.get_ident()

    def _drop(self, t: int, home: Run | None) -> None:
        """Count a tick as lost, for its run or for the one that it would have begun."""
        self.dropped += 1
        lost = self._lost_new if home is None else self._lost
        lost = (t, t) if lost is None else (min(t, lost[0]), max(t, lost[1]))
        if home is None:
            self._lost_new = lost
        else:
            self._lost = lost

    # ---- whether ticks are taken ----

    def close(self, refusal: Callable[[], GatewayError]) -> None:
        """Accept no more ticks: publishing raises what ``refusal`` returns, even if it is already waiting for room.
        Ticks accepted before stay, for the loop to collect."""
        with self._lock:
            self._closed, self._max_inbox = refusal, 0
            self._room.notify_all()

    def open(self) -> None:
        """Accept ticks. Before a loop collects them, as many can wait as the inbox holds."""
        with self._lock:
            self._closed, self._max_inbox = None, self._inbox_limit
            self._collector = self._collector or _NOBODY

    def abandon(self, refusal: Callable[[], GatewayError]) -> None:
        """Close in a forked child, which has neither the loop nor the thread that may have held the lock."""
        self._lock = threading.RLock()
        self._room = threading.Condition(self._lock)
        self.close(refusal)

    # ---- reading, on the loop ----

    def attach(self, wake: Callable[[], None]) -> None:
        """Make the calling thread, the loop's, the collector; ``wake`` is called once between two collects."""
        with self._lock:
            self._collector = threading.get_ident()
            self.wake = wake
            woken = self._woken
        if woken:  # by ticks published before
            wake()

    def detach(self) -> None:
        """Stop collecting; publishing continues, directly into the ring."""
        with self._lock:
            self._collector = None
            self.wake = None
            self._room.notify_all()  # publishers that wait for room now collect themselves

    def divert(self, sink: Callable[[list[Batch], list[Run]], None]) -> None:
        """Pass what is collected to ``sink``, with runs that ended after it, instead of the ring. The sink calls
        ``show`` once ticks are stored."""
        self.sink = sink

    def use_history(
        self, keeps: Callable[[str], bool], compare: Callable[[str | None, int, bytes], None] | None = None
    ) -> None:
        """Let the bus ask history about what memory does not know.

        Args:
            keeps: whether history has anything of a run; such a run is not forgotten.
            compare: compares an in-process duplicate with the stored tick, and raises if they differ; None: ticks that
                memory has evicted are not stored.
        """
        self._keeps, self._compare = keeps, compare

    @property
    def pending(self) -> bool:
        """Whether something was published since the last collect."""
        return self._woken

    def collect(self) -> None:
        """Move what was published into the ring, where readers find it, or pass it to the sink, if there is one. Call
        it only on the loop, or if there is none.

        The sink is called without the lock: it may write to every reader, and publishers must not wait for that.
        """
        with self._lock:
            self._woken = False
            batches = [batch for gathered in self._inbox for batch in self._split(gathered)]
            self._inbox = []
            ended, self._ended = self._ended, []
            if not batches and not ended:
                return
            self._inbox_count = self._inbox_size = 0
            sink = self.sink
            if sink is None:
                self._append_to_ring(batches)
            else:
                self._handed += batches
            self._room.notify_all()
        if sink is not None:
            sink(batches, ended)

    def _split(self, gathered: Batch) -> list[Batch]:
        """Split what was collected together into batches of the size that readers share."""
        if gathered.size <= self._batch_bytes and len(gathered.ticks) <= self._batch_ticks:
            return [gathered]
        return split(
            gathered.run,
            gathered.ticks,
            gathered.size,
            gathered.ordinal,
            self._batch_ticks,
            max_bytes=self._batch_bytes,
            lost_before=gathered.lost_before,
        )

    def show(self, batches: list[Batch]) -> None:
        """Show batches to readers that were passed to the sink, in the same order."""
        with self._lock:
            self._append_to_ring(batches)
            del self._handed[: len(batches)]

    def _append_to_ring(self, batches: list[Batch]) -> None:
        for batch in batches:
            self.ring.append(batch)

    def restore(self, runs: Iterable[Run], newest: Iterable[Batch], *, torn: bool = False) -> None:
        """Begin with what history has, before anything is published: all runs in order, shown to their tips, and the
        last ticks of the newest one, for the ring. ``torn``: that run may have lost ticks after its tip."""
        for run in runs:
            if self.ring.newest is not None:
                self.ring.newest.following = run
            self.runs[run.id] = self.ring.newest = self.current = run
        for batch in newest:
            self.ring.append(batch)
        if torn and self.current is not None:
            self._lost = (self.current.tip + 1, self.current.tip + 1)
        self._last_at = self.ring[-1].ticks[-1].at if len(self.ring) else 0

    def run(self, name: str | None) -> Run:
        """The run of that id; None: the current one.

        Raises:
            NotFound: it is unknown, or nothing was published yet.
        """
        run = self.current if name is None else self.runs.get(name)
        if run is None:
            raise NotFound("nothing was published yet" if name is None else f"no run {name} is known; see /runs")
        return run

    @property
    def tip(self) -> Position | None:
        """The newest tick that readers can have, or None before the first."""
        newest = self.ring.newest
        return Position(newest.id, newest.shown) if newest is not None else None
