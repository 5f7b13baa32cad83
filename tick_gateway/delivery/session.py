"""A session: one streaming reader's connection, after its handshake.

It is a cursor, not a queue: its position is the last tick that it was given or that its view left out, and the next
write starts after it. It has no coroutine; it is the ``asyncio.Protocol`` of its transport, and calls from the
transport, the fan-out and the reader's commands change its ``State``. ``session_state`` has the diagram: catching up,
it reads by itself, a portion at a time; live, its group writes to it; blocked, its buffer has to drain.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import cast

from ..bus.ring import Run
from ..history.archive import Load
from ..model.notices import End, Notice
from ..model.query import Query
from ..model.tick import Position
from ..reading.cursor import Cursor, Item, Portion, Span
from ..wire.checksum import NOTHING, Checksum
from ..wire.framing import Framed, joined
from .encoder import Encoded, Variant
from .fanout import FanOut
from .group import Group
from .heartbeat import Heartbeat, unsent_bytes
from .pace import Pace, Skip
from .session_state import TRANSITIONS, State


class Session(asyncio.Protocol):
    """One reader. The transport's handler creates it, and ``http.connection_handover.take_over`` gives it the
    connection.

    Args:
        variant: decides the bytes that it is written.
        query: the request.
        cursor: where it begins. A start position that is not known yet is looked for once the connection is made.
    """

    __slots__ = (
        "caught_up", "counted", "cursor", "fanout", "greeting", "group", "heartbeat", "lagged", "load", "pace",
        "partial_until", "query", "remaining", "skip", "starting", "state", "timer", "told", "transport",
        "variant",
    )  # fmt: skip

    def __init__(self, fanout: FanOut, variant: Variant, query: Query, cursor: Cursor) -> None:
        self.fanout = fanout
        self.variant = variant
        self.query = query
        self.state = State.NEW
        self.transport: asyncio.Transport | None = None
        self.group: Group | None = None  # in which it is live or waiting
        self.remaining = query.limit  # ticks until the end; None: no limit
        self.pace = Pace(query.speed, time.monotonic()) if query.speed else None
        self.skip: Skip | None = None  # while it goes on to the newest tick that is due
        self.cursor: Cursor | None = cursor  # None while it is live, when its group has one for all
        self.load: Load | None = None  # the block that it waits for, or reads again (a replay)
        self.starting: asyncio.Task[None] | None = None  # looks for its start position
        self.greeting = query.hello  # a hello that names the run has yet to be sent
        self.timer: asyncio.TimerHandle | None = None  # wakes it at a given time
        self.caught_up = False  # it has reached the tip
        self.lagged = False  # it had caught up, and fell behind
        self.partial_until = 0.0  # when an incomplete message is sent; 0: none is gathered
        self.told: Checksum = NOTHING  # content sent, without that of its group since it was ``counted``
        self.counted: Checksum = NOTHING  # the group's content at that time
        self.heartbeat = self._new_heartbeat()

    def _new_heartbeat(self) -> Heartbeat:
        return Heartbeat(self.query.heartbeat, self.fanout.patience, time.monotonic())

    def _become(self, state: State) -> None:
        """Change its state; the only place that does."""
        if state is self.state:
            return
        assert state in TRANSITIONS[self.state], f"from {self.state} to {state}"
        if self.starting is not None:  # its request no longer counts, or it begins anew
            self.starting.cancel()
            self.starting = None
        self.state = state

    # ---- called by the transport ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclasses
        self.transport.set_write_buffer_limits(high=self.fanout.patience.high_water)
        self.fanout.registry.admit(self)
        self.say(self.variant.framing.opening)
        if self.fanout.draining:
            self.end(self.fanout.end_reason)
            return
        if self.greeting and self.cursor is not None:
            self._greet(self.fanout.feed.run_of(self.cursor))
        self.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._become(State.CLOSED)
        if self.timer is not None:
            self.timer.cancel()
        self._leave()
        self.fanout.gone(self)
        self.transport = None

    def eof_received(self) -> bool:
        """The client sends nothing more: it may still read, or be gone. If it is gone, its system resets the connection
        on the next write. TLS has no such half-closed state: there the connection is over."""
        if self.transport is None or self.transport.get_extra_info("ssl_object") is not None:
            return False
        for seconds in self.fanout.patience.probe_seconds:
            self.fanout.loop.call_later(seconds, self._probe)
        return True

    def _probe(self) -> None:
        if self.transport is not None and not self.state.ended and not self.state.blocked:
            self._say_alive()

    def pause_writing(self) -> None:
        if self.state.ended:
            return
        self._become(State.PAUSED_BLOCKED if self.state.paused else State.BLOCKED)
        self.heartbeat.blocked()
        self.load = None  # hold no block for a reader that does not read; it is looked up again later
        if self.cursor is None:
            self._leave()
        self.lagged = self.lagged or self.caught_up or self.pace is not None
        self.keep_pace()

    def resume_writing(self) -> None:
        if not self.state.blocked:
            return
        if self.pace is not None and self.query.skip:
            self.pace.run_on(time.monotonic())
        self.heartbeat.drained()
        if self.state.paused:
            self._become(State.PAUSED)
        else:
            self.read_on()
        self.keep_pace()

    def keep_pace(self) -> None:
        """A replay stands still while it is paused or its reader does not read; but see ``pace``."""
        if self.pace is not None:
            if self.state.paused or (self.state.blocked and not self.query.skip):
                self.pace.stand(time.monotonic())
            else:
                self.pace.go(time.monotonic())

    # ---- writing ----

    def write(self, data: bytes) -> None:
        """Pass bytes to the transport, unless the connection is closing. Does not count their content."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def say(self, piece: Framed) -> None:
        """Write something that is not for its whole group."""
        if piece.content is not NOTHING:
            self._count()
            self.told += piece.content
        if piece.data:
            self.write(piece.data)

    def write_alone(self, piece: Framed) -> None:
        """Write a piece in place of what its group writes to all others at this moment."""
        self.told += piece.content
        if self.group is not None:
            self.counted = self.group.content_of(self)
        self.write(piece.data)

    def write_last(self, data: bytes, end: Notice) -> None:
        """Write bytes of its group that end in a stream's last notice, and close."""
        self._count()
        self.write(data + self.variant.framing.closing(end, self.told))
        self.finish()

    def _count(self) -> None:
        """Add what its group has sent to the content sent."""
        if self.group is None or self.cursor is not None:
            return
        content = self.group.content_of(self)
        if content is not self.counted:
            self.told += content.after(self.counted)
            self.counted = content

    def sweep(self, now: float, group_wrote: float) -> None:
        """Send a heartbeat if one is due, and drop a peer that is gone; its group wrote last at ``group_wrote``."""
        transport = self.transport
        if self.state.ended or transport is None or transport.is_closing():
            return
        if self.state.blocked:
            if self.heartbeat.stalled(unsent_bytes(transport), now):
                self._drop()
        elif self.heartbeat.due(now, group_wrote):
            unsent = unsent_bytes(transport)
            if self.heartbeat.miss(unsent):
                self._drop()
            else:
                self.heartbeat.beat(unsent + self._say_alive())

    def _say_alive(self) -> int:
        """Write a heartbeat; returns its length in bytes."""
        data, content = self.variant.framing.heartbeat
        self.say(Framed((self.group.step_apart(self) if self.group is not None else b"") + data, content))
        return len(data)

    def _drop(self) -> None:
        """Cut the connection to a peer that seems to be gone."""
        self.fanout.registry.dropped += 1
        self.abort()

    def finish(self) -> None:
        """Close after what was written; called when the last message was passed to the transport."""
        self._become(State.CLOSING)
        self._leave()
        if self.transport is not None:
            self.transport.close()
            self._abort_later()

    def end(self, reason: str) -> None:
        """Send the end notice, and close."""
        if self.state.ended:
            return
        self._leave()
        notice = End(reason, self.position)
        self._say_last(self.variant.framing.notice(notice), notice)

    def _say_last(self, piece: Framed, end: Notice) -> None:
        """As ``write_last``, with a piece of its own."""
        self._count()
        self.told += piece.content
        self.write_last(piece.data, end)

    def abort(self) -> None:
        """Drop the connection at once, with everything not sent yet."""
        if self.transport is not None:
            self.transport.abort()

    def _abort_later(self) -> None:
        """Drop a closed connection in the end, even if its peer does not read."""
        if self.timer is not None:
            self.timer.cancel()
        pause = self.fanout.patience.close_seconds
        self.timer = self.fanout.loop.call_later(pause, self.abort)  # cancelled when the connection is gone

    # ---- reading ----

    @property
    def position(self) -> Position | None:
        """The last tick that the reader was given or that its view left out; until its start position is found, the one
        that it named; None if there is none yet."""
        if self.cursor is not None:
            named = self.cursor.query.start if self.cursor.query is not None else None
            if isinstance(named, Position):
                return named
            return self.cursor.position if self.skip is None else self.skip.start
        return self.group.position_of(self) if self.group is not None else None

    def begin(self) -> None:
        """Write the notices found with the start position, so that the position is the reader's own, and read on."""
        cursor = self.cursor
        if cursor is not None and cursor.notices and cursor.query is None:
            self.cursor = cursor.told(cursor.notices)
            self._deliver([*cursor.notices])
        self.wake()

    def _start(self, cursor: Cursor) -> None:
        """Find the start position, possibly on disk, and then read on."""
        self._become(State.STARTING)
        self.starting = self.fanout.loop.create_task(self._find_start(cursor))

    async def _find_start(self, cursor: Cursor) -> None:
        try:
            found = await self.fanout.feed.starts.find(cursor, time.monotonic())
        except Exception as error:
            self.starting = None
            self.fanout.give_up(self, error)
        else:
            self.starting = None
            self.cursor = found
            self.read_on()
            self.begin()

    def wake(self) -> None:
        """Something came that it may have waited for: read on soon."""
        if self.state.wakes:
            self.read_on()

    def fall_back(self) -> None:
        """No longer live, or no longer at this position: read by itself, unless it is blocked or paused."""
        self._leave()
        if not (self.state.blocked or self.state.paused or self.state.ended):
            self.read_on()

    def read_on(self) -> None:
        """Ask the fan-out for a turn, soon."""
        self._become(State.CATCHING_UP)
        self.fanout.enqueue(self)

    def pump(self) -> None:
        """Read and write one portion; the fan-out calls it in turn."""
        if self.state is not State.CATCHING_UP or self.cursor is None:
            return
        if self.group is not None:
            self.group.waiting.discard(self)
        feed, now = self.fanout.feed, time.monotonic()
        cursor = self.cursor = feed.starts.find_at_once(self.cursor, now)
        skipped: Sequence[Item] = ()
        if self.lagged and self.query.skip:
            if self.pace is None:
                skipped, cursor, _ = feed.starts.skip(cursor, self.variant.view)
            elif self.skip is None:
                self.skip = Skip(cursor.position)
        self.lagged = False
        portion = self._read(cursor, now)
        items: list[Item | End] = [*skipped, *portion.items]
        if portion.cursor.query is not None and not feed.empty:
            self._start(portion.cursor)
        elif self._gathers(items, portion, now):
            self._wait(self.partial_until - now)
        else:
            self._go_on(cursor, portion, items, now)

    def _read(self, cursor: Cursor, now: float) -> Portion:
        """Read what comes next. In a replay at most one block, because what is not due yet is read again later."""
        size = self.fanout.policy.portion_bytes if self.pace is None else 1
        raw = self.variant.takes_frames and self.remaining is None and self.pace is None
        portion = self.fanout.feed.read(cursor, now, size, load=self.load, raw=raw)
        self.load = portion.load if portion.waits or self.pace is not None else None
        if self.load is not None and portion.waits:
            self.load.then(self.wake)
        return portion

    def _go_on(self, cursor: Cursor, portion: Portion, items: list[Item | End], now: float) -> None:
        """Write the part of a portion that is due, and continue after it."""
        after, due = portion.cursor, None
        if self.pace is not None:
            items, due = self.pace.take(items, now)
            if due is not None:
                after = cursor.behind(items)
        if self.skip is not None:
            self.skip.add(items, self.variant.view)
            if due is None and (portion.waits or (items and not after.over)):
                self.cursor = after  # not all was written
                if items:
                    self.read_on()
                else:
                    self._become(State.LOADING)
                return
            items, self.skip = self.skip.told(), None
            after = after.told(items)
        self.cursor = after
        if after.over:
            items.append(End("run", after.position))
        if items:
            self._deliver(items)
            if self.state is not State.CATCHING_UP:
                return  # that was its end, or its buffer is full
        if due is not None:
            self._wait(due - now)
        elif items:
            self.read_on()
        elif portion.waits:
            self._become(State.LOADING)
        else:
            self._rest(after, now)

    def _gathers(self, items: list[Item | End], portion: Portion, now: float) -> bool:
        """Whether a reader of batch messages that reads by itself up to its ``limit`` waits for a full message: it
        reads the same again when there is more, or when the time is up."""
        batch, left = self.variant.view.batch, self.remaining
        if not batch or left is None or self.pace is not None or not self.caught_up or not items:
            return False
        if portion.waits:  # more is being loaded from disk: read nothing twice
            return False
        try:
            count = sum(
                len(self.fanout.encoder.payloads(self.variant.view, item)) for item in items if isinstance(item, Span)
            )
        except Exception:  # will be raised again, and handled, at delivery
            return False
        if count >= min(batch, left) or not all(isinstance(item, Span) for item in items):
            self.partial_until = 0.0
            return False
        self.partial_until = self.partial_until or now + self.fanout.policy.batch_seconds
        if now < self.partial_until:
            return True
        self.partial_until = 0.0
        return False

    def _deliver(self, items: list[Item | End]) -> None:
        """Write what comes before the cursor."""
        if self.greeting and (first := items[0].position):
            self._greet(self.fanout.bus.runs.get(first.run))
        encoder = self.fanout.encoder
        try:
            made = self._encode(items)
        except Exception:
            items = encoder.servable(self.variant, items, lambda span: encoder.encode(self.variant, [span]))
            self.cursor = self.cursor.told(items) if self.cursor is not None else None
            made = self._encode(items)
        if self.remaining is not None:
            self.remaining -= made.ticks
            if self.remaining == 0 and made.end is None:
                end = End("limit", made.position)
                made = made._replace(piece=joined([made.piece, self.variant.framing.notice(end)]), end=end)
        if made.end is not None:
            self._say_last(made.piece, made.end)
        elif made.piece.data:
            self.heartbeat.wrote(time.monotonic())
            self.say(made.piece)

    def _encode(self, items: Sequence[Item | End]) -> Encoded:
        encoder = self.fanout.encoder
        if self.remaining is None:
            return encoder.encode(self.variant, items)
        return encoder.encode_some(self.variant, items, self.remaining)

    def _rest(self, cursor: Cursor, now: float) -> None:
        """There is nothing to read: go live, or wait."""
        self.pace = self.load = None
        if cursor.deadline is not None:
            self._wait(cursor.deadline - now)
            return
        self.caught_up = True
        group = self._step_into(cursor.complete)
        may_join = self.remaining is None and cursor.query is None and cursor.not_before is None and not self.greeting
        if may_join and group.join(self, cursor.position, self.fanout.feed.offered, cursor.complete):
            self._become(State.LIVE)
            self.cursor = None
            self.counted = group.content_of(self)
        else:
            self._wait()

    def _wait(self, seconds: float | None = None) -> None:
        """Wait for the next flush, or this many seconds; heartbeats are sent meanwhile."""
        self._become(State.WAITING)
        self._step_into(self.cursor is None or self.cursor.complete).waiting.add(self)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if seconds is not None:
            self.timer = self.fanout.loop.call_later(max(seconds, 0.001), self.wake)

    def _step_into(self, complete: bool) -> Group:
        """Enter the group in which it is live or waiting; which one depends on whether ticks were skipped for it."""
        before, group = self.group, self.fanout.group(self.variant, complete)
        self.group = group
        if before is not None and before is not group:
            before.waiting.discard(self)
            self.fanout.forget(before)
        return group

    def _leave(self) -> None:
        """Leave the group; from here on the session's own cursor has its position."""
        if not self.state.ended:
            self._count()
        group, self.group = self.group, None
        if group is None:
            return
        position, complete, rest = group.leave(self)
        if rest:
            self.write(rest)
        if self.cursor is None:
            self.cursor = Cursor(position, self.query.run, complete)
        self.fanout.forget(group)

    def _greet(self, run: Run | None) -> None:
        hello = self.fanout.feed.hello(run)
        self.greeting = run is None
        self.say(self.variant.framing.notice(hello))
