"""A room: bus, feed and fan-out wired as the hub does it, on a loop that a test turns by hand."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from tick_gateway.bus import TickBus
from tick_gateway.errors import InboxFull
from tick_gateway.fanout import FanOut
from tick_gateway.feed import Feed

from .loop import Clock, SteppedLoop
from .truth import Told, Truth

if TYPE_CHECKING:
    from .client import Client

HIGH_WATER = 2000
FLUSH_BYTES = 3000
LARGEST_TICK = 700
ENCODED_BYTES = 4000

SMALL: dict[str, object] = {
    "tick_gateway.fanout._FLUSH_BYTES": FLUSH_BYTES,
    "tick_gateway.session.HIGH_WATER": HIGH_WATER,
    "tick_gateway.bus.BATCH_TICKS": 4,
    "tick_gateway.bus.BATCH_BYTES": 1000,
    "tick_gateway.view.BATCH_MESSAGE_BYTES": 800,
    "tick_gateway.commands.BATCH_MESSAGE_BYTES": 800,
    "tick_gateway.commands._HISTORY_TICKS": 3,
}
"""Bounds so small that a few ticks reach them."""

SLICED: dict[str, object] = {
    "tick_gateway.fanout._SLICE_BYTES": 1,
    "tick_gateway.fanout._SLICE_SESSIONS": 1,
    "tick_gateway.fanout._PUMP_SECONDS": 0.0,
}
"""A turn of the loop after every write."""


class Log(logging.Handler):
    """What the gateway logs as an error is a failure."""

    def __init__(self, failures: list[dict[str, Any]]) -> None:
        super().__init__(logging.ERROR)
        self.failures = failures

    def emit(self, record: logging.LogRecord) -> None:
        self.failures.append({"message": record.getMessage(), "exception": record.exc_info})


class Room:
    """Everything below HTTP.

    Args:
        sliced: the fan-out gives way to the loop after every write.
        ring, ring_bytes, inbox: as for ``TickBus``.

    Attributes:
        clients: all whose streams are looked at after every step.
        serial: the ``u`` of the last tick.
        failures: what callbacks of the loop raised, and what was logged as an error.
        broken: a client's stream was not as it should be; nothing can be said of it any more.
    """

    def __init__(
        self,
        *,
        sliced: bool = True,
        encoded_bytes: int = ENCODED_BYTES,
        ring: int = 100,
        ring_bytes: int = 1 << 20,
        inbox: int = 1000,
    ) -> None:
        self.patches = pytest.MonkeyPatch()
        self.clock = Clock()
        for module in ("bus", "fanout", "session", "commands"):
            self.patches.setattr(f"tick_gateway.{module}.time", self.clock)
        for name, value in (SMALL | SLICED if sliced else SMALL).items():
            self.patches.setattr(name, value)
        self.patches.setattr(Feed.read, "__defaults__", (600,))
        self.patches.setattr("tick_gateway.bus.new_run_id", self._new_run_id)
        self.loop = SteppedLoop(self.clock)
        self.bus = TickBus(ring=ring, ring_bytes=ring_bytes, inbox=inbox)
        self.feed = Feed(self.bus)
        self.fanout = FanOut(self.bus, self.feed, encoded_bytes=encoded_bytes)
        self.loop.call_soon(self.fanout.start)
        self.loop.turn()
        # Publishing from this thread is to meet a full inbox, as from any other.
        self.bus._collector = -1
        self.truth = Truth(self.bus)
        self.clients: list[Client] = []
        self.serial = self.named = 0
        self.failures: list[dict[str, Any]] = []
        self.broken = False
        self.log = Log(self.failures)
        logging.getLogger("tick_gateway").addHandler(self.log)
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context))

    def close(self) -> None:
        self.patches.undo()
        logging.getLogger("tick_gateway").removeHandler(self.log)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.settle()
        self.loop.close()

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

    def drain(self, seconds: float = 5.0) -> None:
        """Shut down, as the server does."""
        self.truth.draining = True
        done: list[asyncio.Task[None]] = []
        self.loop.call_soon(lambda: done.append(self.loop.create_task(self.fanout.drain(seconds))))
        self.loop.turn()
        while not done[0].done():
            self.loop.turn()
            self.look()
            if not self.loop.busy:
                self.advance(0.5)
        done[0].result()
        self.advance(10.0)
