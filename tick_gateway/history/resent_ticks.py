"""Resent ticks that memory no longer holds are compared with history.

To the bus such a tick is a duplicate, since it only knows that the number is not above the tip. With history, the block
for that number shows whether its bytes are the same, and whether there ever was such a tick. If that block is gone, the
tick counts as a duplicate.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Final

from ..bus.ring import Batch, Run, find_in
from ..bus.tick_bus import TickBus
from ..errors import Conflict, GatewayError, NotServing, OutOfOrder, RunClosed, Unreadable
from .archive import Archive, Load

log = logging.getLogger("tick_gateway")

_PATIENCE: Final = 10.0  # seconds for a block to be read
_LOOK_SECONDS: Final = 1.0  # how often a waiting publisher checks whether the gateway is still running
_CLOSED: Final = "the gateway was closed before it was known whether this tick is stored"


class ResentTicks:
    """Compares ticks that the bus took for duplicates with history."""

    def __init__(self, bus: TickBus, archive: Archive) -> None:
        self._bus = bus
        self._archive = archive
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0  # the loop's
        self._closed = False
        self._checking = set[asyncio.Task[None]]()  # the loop holds only weak references to its tasks

    def start(self) -> None:
        """Use this thread's running loop."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()

    def close(self) -> None:
        """Release publishers that wait."""
        self._closed = True

    async def check(self, name: str | None, t: int, data: bytes) -> None:
        """Check a tick; call this on the loop right after ``TickBus.offer`` reported a duplicate. Returns if it is one.

        Args:
            name: the run that the publisher named; None: the current one.

        Raises:
            Conflict: another tick with this number is stored.
            OutOfOrder, RunClosed: there never was a tick with this number.
            Unreadable: the disk does not answer.
        """
        run, archive = self._run(name), self._archive
        while run is not None and t <= run.evicted:  # else the tick is in memory, and the bus compared it
            stored = archive.after(run, t - 1)
            if stored is None or (stored.first > t and archive.history(run).missing_before(stored, t - 1)):
                return
            found = None
            if stored.first <= t:
                held = [stored] if isinstance(stored, Batch) else archive.get(run, stored)
                batches = held if isinstance(held, list) else await _loaded(held, run, t)
                if batches is None:  # the block is damaged, or gone: look again what is stored
                    continue
                found = next((tick for batch in batches if (tick := find_in(batch.ticks, t)) is not None), None)
            if found is None:
                open_ = run is self._bus.current and not run.ended
                raise OutOfOrder(run.id, t, run.tip) if open_ else RunClosed(run.id, t)
            if found.data != data:
                raise Conflict(run.id, t, run.tip if run.restored else None)
            return

    def compare(self, name: str | None, t: int, data: bytes) -> None:
        """The same check for ticks of this process, called by ``TickBus.publish``.

        It waits for the disk, except on the loop's own thread, which must not wait: there, errors are logged. Before
        there is a loop, duplicates are not checked.
        """
        run, loop = self._run(name), self._loop
        if loop is None or run is None or t > run.evicted:  # the tick is in memory, and the bus compared it
            return
        if threading.get_ident() == self._thread:
            task = loop.create_task(self._check_later(name, t, data))
            self._checking.add(task)
            task.add_done_callback(self._checking.discard)
            return
        asked = self.check(name, t, data)
        try:
            told = asyncio.run_coroutine_threadsafe(asked, loop)
        except RuntimeError:  # the loop was closed since the bus took the tick
            asked.close()
            raise NotServing(_CLOSED) from None
        while True:
            try:
                return told.result(_LOOK_SECONDS)
            except TimeoutError:
                if self._closed and not told.done():
                    raise NotServing(_CLOSED) from None

    async def _check_later(self, name: str | None, t: int, data: bytes) -> None:
        try:
            await self.check(name, t, data)
        except GatewayError as error:
            log.error("a tick that was published on the gateway's own thread was not taken: %s", error)

    def _run(self, name: str | None) -> Run | None:
        return self._bus.current if name is None else self._bus.runs.get(name)


async def _loaded(load: Load, run: Run, t: int) -> list[Batch] | None:
    came = asyncio.Event()
    load.then(came.set)
    try:
        async with asyncio.timeout(_PATIENCE):
            await came.wait()
    except TimeoutError:
        raise Unreadable(run.id, t) from None
    return load.batches
