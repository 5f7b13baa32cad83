"""An event loop and a clock that a test moves by hand: deterministic, and hours pass in no time."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")

START = 1_700_000_000.0  # seconds since the epoch at which every clock here begins
TICK = 1e-6  # seconds; no timer is shorter, so that time passes for those who wait for what is left of it


class Clock:
    """Stands in for the module ``time`` where the code under test imports it."""

    strftime = staticmethod(time.strftime)
    gmtime = staticmethod(time.gmtime)

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    thread_time = monotonic

    def time(self) -> float:
        return START + self.now

    def time_ns(self) -> int:
        return round(self.time() * 1000) * 1_000_000


class SteppedLoop(asyncio.BaseEventLoop):
    """A loop without sockets, run turn by turn, whose time is a ``Clock``'s."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self._soon: deque[asyncio.Handle] = deque()
        self._later: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0  # so that timers of one moment run in the order in which they were set
        self._halted = False

    def time(self) -> float:
        return self.clock.now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        when = max(when, self.clock.now + TICK)
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._later, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    @property
    def busy(self) -> bool:
        """Whether the next turn has anything to do."""
        due = bool(self._soon) or bool(self._later and self._later[0][0] <= self.clock.now)
        return due and not self._halted

    @property
    def halted(self) -> bool:
        return self._halted

    def halt(self) -> None:
        """Whatever was to come never comes: the process was killed."""
        self._halted = True

    def turn(self) -> None:
        """One turn: run what is ready now."""
        while self._later and self._later[0][0] <= self.clock.now:
            self._soon.append(heapq.heappop(self._later)[2])
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            for _ in range(len(self._soon)):
                handle = self._soon.popleft()
                if not handle.cancelled() and not self._halted:
                    handle._run()
        finally:
            asyncio._set_running_loop(outer)

    def run_at_once(self, job: Coroutine[Any, None, None]) -> None:
        """Run a coroutine to where it has to wait, as the handler of a request is run; it goes on in later turns."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            future = job.send(None)
        except StopIteration:
            return
        finally:
            asyncio._set_running_loop(outer)
        future._asyncio_future_blocking = False
        future.add_done_callback(lambda _: self.run_at_once(job))

    def settle(self) -> None:
        """Turn until nothing is left to do at this moment."""
        for _ in range(20_000):
            if not self.busy:
                return
            self.turn()
        raise AssertionError("the loop never comes to rest")

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and everything that falls due in it."""
        end = self.clock.now + seconds
        self.settle()
        while self._later and self._later[0][0] <= end and not self._halted:
            self.clock.now = self._later[0][0]
            self.settle()
        self.clock.now = end
