"""The fan-out: the flush loop, which writes new ticks to every live session, and the queue of sessions that catch up.

Ticks gather for a flush. The first one after a quiet time goes out at once; after that there is at most one flush per
interval, which grows when a round over all sessions takes long, so that a busy gateway writes less often rather than
falls behind. A long round yields to the event loop between slices. The ``FlushPolicy`` has all times and sizes.

A flush moves the Feed's horizon, has each group make its bytes once, and writes them to the group's live sessions. All
other sessions read by themselves (``Session.pump``), for some milliseconds per turn of the loop, until they reach their
group's position.

Everything here runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from ..bus.tick_bus import TickBus
from ..errors import NotServing
from ..logs import ThrottledLog
from ..model.notices import EndReason
from ..reading.feed import Feed
from ..settings import DEFAULTS
from .encoder import Encoder, Variant
from .flush import FlushPolicy
from .group import Group, Member, Round
from .patience import Patience
from .reader_registry import ReaderRegistry
from .waiters import Waiters

log = logging.getLogger("tick_gateway")

_ALONE: Final = "bytes for all readers of a kind could not be made; each reads on by itself"


class FanOut:
    """Writes the bus to all sessions.

    Args:
        policy: how often it flushes, and how much it does between two turns of the loop; may be replaced at any time.
        patience: how long a reader that does not read is kept.
        encoded_bytes: bound of the bytes kept with batches for later readers.
        max_views: maximum number of different views.
    """

    def __init__(
        self,
        bus: TickBus,
        feed: Feed,
        policy: FlushPolicy,
        patience: Patience,
        *,
        encoded_bytes: int = DEFAULTS.encoded_bytes,
        max_views: int = DEFAULTS.max_views,
    ) -> None:
        self.bus = bus
        self.feed = feed
        self.policy = policy
        self.patience = patience
        self.encoder = Encoder(encoded_bytes)
        self.encoder.complain = self._complain
        self.registry = ReaderRegistry(max_views)
        self.waiters = Waiters(lambda: self.policy)
        self.flushes = 0
        self.longest_round = 0.0  # seconds
        self._groups: dict[tuple[Variant, bool], Group] = {}
        self._ready: OrderedDict[Member, None] = OrderedDict()  # sessions that will read by themselves, in order
        self._pumping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flush_handle: asyncio.TimerHandle | None = None
        self._flush_at = 0.0  # when the planned flush is due
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._log = ThrottledLog(log)
        self._round: Iterator[None] | None = None
        self._round_began = 0.0
        self._round_began_cpu = 0.0
        self._next_flush = 0.0
        self._next_commit = 0.0  # when more may be handed to history
        self._commit_handle: asyncio.TimerHandle | None = None
        self._news = False  # something came since the last flush began; a pull may have collected it already
        self._stopped = False
        self.draining = False  # new sessions are ended at once
        self.end_reason: EndReason = "shutdown"
        # sessions that still have to read from disk what the last round would have given them
        self._falling: set[Member] = set()
        self._caught_up: asyncio.Event | None = None  # set when all of them are done
        self._drained: asyncio.Event | None = None  # set when the last session is gone, during ``drain``

    # ---- life ----

    def start(self) -> None:
        """Use this thread's running loop; from now on, publishing wakes it."""
        loop = self._loop = asyncio.get_running_loop()
        self._sweep_handle = loop.call_later(self.policy.sweep_interval, self._sweep)

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(self._kick)
            except RuntimeError:  # the loop was closed while a publisher was running, without a shutdown
                self.bus.detach()
                self.bus.close(_loop_is_closed)
                raise _loop_is_closed() from None

        self.bus.attach(wake)

    @property
    def idle(self) -> bool:
        """Whether it was never started."""
        return self._loop is None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "start() comes first"
        return self._loop

    def stop(self) -> None:
        """First step of a shutdown: from now on only ``drain``, and readers that wait for the disk, collect."""
        self._stopped = True
        self.bus.detach()
        for handle in (self._flush_handle, self._sweep_handle, self._commit_handle):
            if handle is not None:
                handle.cancel()

    async def drain(self, seconds: float, reason: EndReason = "shutdown") -> None:
        """Flush what is left, end every session for shutdown, and wait until they are closed; each step may take this
        many seconds."""
        self.stop()
        for _ in self._round or ():  # finish the current round without yielding
            continue
        self._round = None
        self.bus.collect()
        self.feed.offer(1 << 60)
        self.end_reason = reason
        await self._last_round(seconds)
        self.draining = True
        for session in list(self.registry.sessions):
            session.end(reason)
        self.waiters.release()
        if self.registry.sessions:
            self._drained = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), seconds)
        for session in list(self.registry.sessions):
            session.abort()

    async def _last_round(self, seconds: float) -> None:
        """Write what is left to the live sessions; those that have to read it from disk, or are still catching up, may
        take this many seconds."""
        now, work = time.monotonic(), list[tuple[Group, Round]]()
        for group in list(self._groups.values()):
            try:
                made = group.advance(self.feed, self.encoder, self.policy, now, self.end_reason) if group.live else None
                if made is not None:
                    work.append((group, made))
                elif group.live and group.behind:
                    self._falling |= set(group.live)
            except Exception as error:
                self._complain(_ALONE, error)
                self._falling |= set(group.live)
        for _ in self._write(work):
            await asyncio.sleep(0)
        for session in [session for group in self._groups.values() for session in group.waiting]:
            session.wake()
        for session in list(self._ready):  # those that waited for a tick, or were about to read: one portion
            try:
                session.pump()
            except Exception as error:
                self.give_up(session, error)
        for session in list(self._falling):
            session.fall_back()
        # they are catching up
        self._falling.update(session for session in self.registry.sessions if session.state.reads)
        if self._falling:
            self._caught_up = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._caught_up.wait(), seconds)

    # ---- sessions ----

    def group(self, variant: Variant, complete: bool) -> Group:
        """The group of a variant's sessions that have, or have not, been given everything of their run."""
        group = self._groups.get((variant, complete))
        if group is None:
            group = Group(variant, time.monotonic())
            group.key = variant, complete
            self._groups[group.key] = group
        return group

    def forget(self, group: Group) -> None:
        """Drop a group without sessions."""
        # a session that leaves late may hold a group that was dropped before
        if group.empty and self._groups.get(group.key) is group:
            del self._groups[group.key]

    def gone(self, session: Member) -> None:
        """A session's connection is closed."""
        self.registry.dismiss(session)
        self._through(session)
        if not self.registry.sessions and self._drained is not None:
            self._drained.set()

    def _through(self, session: Member) -> None:
        self._falling.discard(session)
        if not self._falling and self._caught_up is not None:
            self._caught_up.set()

    def enqueue(self, session: Member) -> None:
        """Let a session read by itself, soon."""
        self._ready[session] = None
        if not self._pumping:
            self._pumping = True
            self.loop.call_soon(self._pump)

    def _pump(self) -> None:
        loop = self.loop
        stop = time.monotonic() + self.policy.catch_up_seconds
        while self._ready:
            session, _ = self._ready.popitem(last=False)
            try:
                session.pump()
            except Exception as error:
                self.give_up(session, error)
            if session in self._falling and not session.state.reads:
                self._through(session)
            if time.monotonic() >= stop:
                break
        self._pumping = bool(self._ready)
        if self._pumping:
            loop.call_soon(self._pump)

    def give_up(self, session: Member, error: Exception) -> None:
        """Drop a reader for which the gateway failed, so that all others go on; it can reconnect at its position."""
        self._complain("a reader's stream failed; its connection is dropped", error)
        session.abort()

    def _complain(self, sentence: str, error: Exception) -> None:
        self._log.tell(logging.ERROR, sentence, error)

    # ---- flushing ----

    def _kick(self) -> None:
        """Something was published: show it, or hand it to history first; at once after a quiet time, else when the
        interval has passed."""
        if self._stopped:
            return
        if self.bus.sink is None:
            self.news()
        elif self._commit_handle is None:
            delay = self.due - time.monotonic()
            if delay <= 0:
                self._commit()
            else:
                self._commit_handle = self.loop.call_later(delay, self._commit)

    @property
    def due(self) -> float:
        """When ticks will be collected next, monotonic seconds: a source with few ticks may gather them until then."""
        if self.bus.sink is None:
            return self._next_flush
        return max(self._next_commit, self._next_flush - self.policy.store_lead)

    def _commit(self) -> None:
        self._commit_handle = None
        self._next_commit = time.monotonic() + self.policy.shortest_interval
        self.bus.collect()

    def news(self) -> None:
        """There are new ticks for readers: flush now if the interval has passed, else when it has."""
        self._news = True
        if self._round is None and not self._stopped:
            self._flush_by(self._next_flush)

    def _flush_by(self, when: float) -> None:
        """Flush at ``when``, or earlier if that is already planned."""
        if self._flush_handle is not None:
            if self._flush_at <= when:
                return
            self._flush_handle.cancel()  # that flush is for a batch message; readers without batches do not wait for it
            self._flush_handle = None
        delay = when - time.monotonic()
        if delay <= 0:
            self._flush()
        else:
            self._flush_at = when
            self._flush_handle = self.loop.call_later(delay, self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        if self._round is not None:  # the current round looks for more when it is done
            return
        self._news = False
        now = time.monotonic()
        busy = now - self._round_began < self.policy.busy_gap
        self._round_began = now
        self._round_began_cpu = time.thread_time()
        if self.bus.sink is None:
            self.bus.collect()
        self.feed.offer(self.policy.round_bytes)
        self.flushes += 1
        self.waiters.flushed(busy=busy)
        self._round = self._serve(list(self._groups.values()), now)
        self._go_on()

    def _serve(self, groups: Sequence[Group], now: float) -> Iterator[None]:
        """Make each group's bytes and write them; yields between slices, and when many views take long to make."""
        turn_seconds = self.policy.turn_seconds
        turn = time.monotonic()
        for group in groups:
            made = self._advance(group, now)
            if made is not None:
                yield from self._write([(group, made)])
            if time.monotonic() - turn > turn_seconds:
                yield
                turn = time.monotonic()

    def _advance(self, group: Group, now: float) -> Round | None:
        """What to write to a group's live sessions, or None; also wakes its waiting sessions."""
        made = None
        try:
            if group.live:
                made = group.advance(self.feed, self.encoder, self.policy, now)
            alone = made is None and group.behind
        except Exception as error:
            self._complain(_ALONE, error)
            alone = True
        for session in list(group.live) if alone else ():
            session.fall_back()
        waiting, group.waiting = group.waiting, set()
        for session in waiting:
            session.wake()
        return made

    def _go_on(self) -> None:
        if self._round is None:
            return  # drained
        try:
            more = next(self._round, self) is None
        except Exception:
            log.exception("a flush failed; the next one goes on")
            more = False
        if more:
            self.loop.call_soon(self._go_on)
        else:
            # The event loop writes small buffers at the end of its turn, so the round ends after that.
            self.loop.call_soon(self._round_done)

    def _round_done(self) -> None:
        self._round = None
        if self._stopped:
            return
        now = time.monotonic()
        self.longest_round = max(self.longest_round, now - self._round_began)
        # The loop's own CPU time, so that other processes on a busy machine do not make rounds rarer.
        took = time.thread_time() - self._round_began_cpu
        self._next_flush = self._round_began + self.policy.interval(took)
        gathering = [group.flush_at for group in self._groups.values() if group.live and group.flush_at is not None]
        flush_at = min(gathering, default=None)
        if self._news or self.feed.behind:
            self.news()
        elif flush_at is not None:
            self._flush_by(max(flush_at, self._next_flush))

    def _write(self, work: list[tuple[Group, Round]]) -> Iterator[None]:
        """Write each group's bytes to its live sessions; yields between slices."""
        slice_bytes = self.policy.slice_bytes
        least = slice_bytes // self.policy.slice_sessions
        written = 0
        for group, made in work:
            data, end, number = made.data, made.end, group.round
            weight = max(least, len(data))
            for session in list(group.live):
                if group.live.get(session) == number or session not in group.live:
                    continue  # it has left, and may have rejoined at the new position
                group.live[session] = number
                try:
                    if group.late and session in group.late and made.late_piece is not None:
                        session.write_alone(made.late_piece(group.late.pop(session)[0]))
                        own = b""
                    elif group.apart and session in group.apart and made.apart_data is not None:
                        own = made.apart_data()
                    else:
                        own = data
                    if end is not None:
                        session.write_last(own, end)
                    elif own:
                        session.write(own)
                except Exception as error:
                    self.give_up(session, error)
                written += weight
                if written >= slice_bytes:
                    written = 0
                    yield

    # ---- heartbeats ----

    def _sweep(self) -> None:
        now = time.monotonic()
        pause = self.policy.sweep_interval
        self._sweep_handle = self.loop.call_later(pause, self._sweep)
        for group in list(self._groups.values()):
            for session in list(group.live) if now - group.quiet_since >= pause else ():
                session.sweep(now, group.quiet_since)
        for session in list(self.registry.sessions):  # blocked, or waiting for a tick, the disk, or a time
            if not session.state.live:
                session.sweep(now, 0.0)
        self.waiters.sweep()


def _loop_is_closed() -> NotServing:
    return NotServing("the event loop that the gateway ran on is closed: nobody could read this tick")
