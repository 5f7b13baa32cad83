"""A room: bus, history, feed and fan-out wired as the runtime does it, on a loop that a test turns by hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.delivery.fanout import FanOut
from tick_gateway.delivery.flush import FlushPolicy
from tick_gateway.delivery.patience import Patience
from tick_gateway.errors import InboxFull
from tick_gateway.history.local.store import Store
from tick_gateway.reading.feed import Feed
from tick_gateway.settings import Settings

from .disk import Disk
from .ledger import Ledger
from .loop import Clock, SteppedLoop
from .truth import Told, Truth

if TYPE_CHECKING:
    from .client import Client

HIGH_WATER = 2000
FLUSH_BYTES = 3000
ENCODED_BYTES = 4000
SECTION_TICKS = 5

SMALL: dict[str, object] = {
    "tick_gateway.bus.ring.BATCH_BYTES": 600,
    "tick_gateway.model.view.BATCH_MESSAGE_BYTES": 800,
    "tick_gateway.transports.history_query.BATCH_MESSAGE_BYTES": 800,
}
"""Bounds so small that a few ticks reach them."""

POLICY = FlushPolicy(0.025, round_bytes=FLUSH_BYTES, portion_bytes=600, history_ticks=3, section_ticks=SECTION_TICKS)
SLICED = replace(POLICY, slice_bytes=1, slice_sessions=1, turn_seconds=-1.0, catch_up_seconds=0.0)
"""A turn of the loop after every write."""


class Log(logging.Handler):
    """What the gateway logs as an error is a failure; but of a disk that is in trouble it may complain."""

    def __init__(self, failures: list[dict[str, Any]], disk: Disk | None) -> None:
        super().__init__(logging.ERROR)
        self.failures = failures
        self.disk = disk

    def emit(self, record: logging.LogRecord) -> None:
        in_trouble = self.disk is not None and self.disk.trouble and record.name == "tick_gateway.history"
        if record.exc_info or not in_trouble:
            self.failures.append({"message": record.getMessage(), "exception": record.exc_info})


class Room:
    """Everything below HTTP.

    Args:
        sliced: the fan-out gives way to the loop after every write.
        ring, ring_bytes, inbox: as for ``TickBus``.
        disk: where history is kept; None: nowhere. It belongs to the room.

    Attributes:
        clients: all whose streams are looked at after every step.
        serial: the ``u`` of the last tick.
        failures: what callbacks of the loop raised, and what was logged as an error.
        broken: a client's stream was not as it should be; nothing can be said of it any more.
    """

    loop: SteppedLoop
    bus: TickBus
    store: Store | None
    feed: Feed
    fanout: FanOut

    def __init__(
        self,
        *,
        sliced: bool = True,
        encoded_bytes: int = ENCODED_BYTES,
        ring: int = 100,
        ring_bytes: int = 1 << 20,
        inbox: int = 1000,
        disk: Disk | None = None,
    ) -> None:
        self.patches = pytest.MonkeyPatch()
        self.clock = Clock()
        for module in (
            "bus.tick_bus", "delivery.fanout", "delivery.session", "transports.commands",
            "history.local.commit_pipeline", "history.local.commit_worker", "history.local.recorder",
        ):  # fmt: skip
            self.patches.setattr(f"tick_gateway.{module}.time", self.clock)
        for name, value in (SMALL | (disk.patches() if disk is not None else {})).items():
            self.patches.setattr(name, value)
        self.patches.setattr("tick_gateway.bus.tick_bus.new_run_id", self._new_run_id)
        self._new_bus = partial(
            TickBus, Settings(ring=ring, ring_bytes=ring_bytes, inbox=inbox), batch_bytes=1000, batch_ticks=4
        )
        self._policy = SLICED if sliced else POLICY
        self._encoded_bytes = encoded_bytes
        self.disk = disk
        self.truth = Truth()
        self.clients: list[Client] = []
        self.serial = self.named = 0
        self.failures: list[dict[str, Any]] = []
        self.broken = False
        self.log = Log(self.failures, disk)
        logging.getLogger("tick_gateway").addHandler(self.log)
        if disk is not None:
            disk.open()
            disk.ledger = self.truth.ledger = Ledger(self.truth)
        self._begin()
        self.truth.bus = self.bus
        self.loop.turn()

    def _begin(self) -> None:
        """A process: wired as the runtime does it, and started."""
        self.loop = SteppedLoop(self.clock)
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context))
        self.bus = self._new_bus()
        self.store = None
        if (disk := self.disk) is not None:
            disk.loop = self.loop
            self.store = Store.open_at(
                disk.directory, self.bus, disk.limits, cache_bytes=disk.cache_bytes, queue_bytes=disk.queue_bytes
            )
        self.feed = Feed(self.bus, self.store.archive if self.store is not None else None)
        self.fanout = FanOut(
            self.bus, self.feed, self._policy, Patience(high_water=HIGH_WATER), encoded_bytes=self._encoded_bytes
        )  # fmt: skip
        self.loop.call_soon(self._start)

    def _start(self) -> None:
        self.fanout.start()
        if self.store is not None:
            self.store.start(self.fanout.news)
        # Publishing from this thread is to meet a full inbox, as from any other.
        self.bus._collector = -1

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        for _ in range(10):
            self.loop.turn()
        self._leave()
        self.patches.undo()
        logging.getLogger("tick_gateway").removeHandler(self.log)
        if self.disk is not None:
            self.disk.close()

    def _leave(self) -> None:
        """The process is no more; what it held open is closed."""
        self.loop.halt()
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was killed with the process
        self.loop.close()
        if self.store is not None:
            self.store.pipeline._worker._recorder._drop_files()
            self.store.release()

    # ---- processes ----

    def kill(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """kill -9: clients are cut off, and what lies on disk stays as it lies. Another process begins.

        Args:
            meanwhile: is called between the two.
        """
        for client in self.clients:
            client.look()
            client.wire.cut()
        self._next_process(meanwhile)

    def restart(self, meanwhile: Callable[[], None] = lambda: None, *, late: int | None = None) -> None:
        """Shut down as the server does, and begin again; ``late``: see ``drain``."""
        self.drain(late=late)
        self.kill(meanwhile)

    def _next_process(self, meanwhile: Callable[[], None]) -> None:
        self.broken = True
        self._leave()
        meanwhile()
        self._begin()
        assert self.store is not None
        self.truth.restarted(self.bus, self.store)
        self.broken = False
        self.turn()

    def _new_run_id(self) -> str:
        self.named += 1
        return f"auto-{self.named}"

    # ---- publishing ----

    def publish(self, t: int, size: int = 0, *, run: str | None = None) -> Told | None:
        """One tick, in process; None where the inbox was full."""
        self.serial += 1
        data = b'{"t":%d,"u":%d,"a":[{"x":%d,"pad":"%s"}]}' % (t, self.serial, t % 7, b"x" * size)
        home = self.bus.current
        try:
            assert self.bus.offer(t, data, run)
        except InboxFull:
            joins = home is not None and not home.ended and t > home.tip and run in (None, home.id)
            if joins and home is not None:
                self.truth.lives[home.id].drop(t)
            else:
                self.truth.strays.append(t)
            return None
        assert self.bus.current is not None
        told = Told(self.bus.current.id, t, self.serial, data, self.clock.time_ns() // 1_000_000)
        self.truth.take(told)
        return told

    def publish_next(self, step: int = 1, size: int = 0) -> Told | None:
        """One tick behind all that its publisher has published."""
        return self.publish(self.next_t(step), size)

    def next_t(self, step: int = 1) -> int:
        """The number that follows in the run that would take it."""
        home = self.bus.current
        if home is None:
            return step
        life = self.truth.lives.get(home.id)
        return max(home.tip, life.highest if life is not None else -1) + step

    def resend(self, run: str, told: Told) -> bool:
        """A tick that a process took with it comes again, from a publisher that sends what was not acknowledged;
        returns whether there was room."""
        try:
            assert self.bus.offer(told.t, told.data, run, resends=True)
        except InboxFull:
            assert self.bus.current is not None
            return False
        self.truth.take(told._replace(at=self.clock.time_ns() // 1_000_000))
        return True

    def tell(self, *ts: int, run: str | None = None, size: int = 0) -> None:
        """Publish ticks, and let everything come to rest."""
        for t in ts:
            assert self.publish(t, size, run=run), "the inbox is full"
        self.advance(0.1)

    # ---- time ----

    def look(self) -> None:
        """Let every client read what reached it."""
        self.broken = True
        assert not self.failures, self.failures
        for client in self.clients:
            client.look()
        self.broken = False

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.loop.turn()
            self.look()

    def advance(self, seconds: float) -> None:
        """Let time pass in small steps, so that what clients answer is in time."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.loop.advance(min(1.0, end - self.clock.now))
            self.settle()

    def settle(self) -> None:
        while True:
            self.loop.settle()
            self.look()
            if not self.loop.busy:
                return

    def drain(self, seconds: float = 5.0, *, late: int | None = None) -> None:
        """Shut down, as the server does.

        Args:
            late: after so many turns of the loop, something is published.
        """
        self.truth.draining = True
        for client in self.clients:
            client.give_up()
        done: list[asyncio.Task[None]] = []
        self.loop.call_soon(lambda: done.append(self.loop.create_task(self._drain(seconds))))
        self.loop.turn()
        turns = 0
        while not done[0].done():
            self.loop.turn()
            self.look()
            if turns == late:
                self.publish_next()
            turns += 1
            if not self.loop.busy:
                self.advance(0.5)
        done[0].result()
        self.advance(10.0)

    async def _drain(self, seconds: float) -> None:
        self.fanout.stop()
        if self.store is not None:
            await self.store.pipeline.close(seconds)
        await self.fanout.drain(seconds)
        if self.store is not None:
            self.store.close()
