"""A tick that is sent again and that memory no longer holds: it is held against what history has.

The bus takes it for a duplicate, since it knows no more than that the number is not above the tip. With history, the
block in which it lies says whether its bytes are the same, and whether there ever was such a tick. Where that block is
gone, the tick counts as a duplicate.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final

from ..bus.ring import Batch, Run, find_in
from ..errors import Conflict, GatewayError, NotServing, OutOfOrder, RunClosed, Unreadable
from ..history.archive import Load
from ..runtime import Runtime

log = logging.getLogger("tick_gateway")

_PATIENCE: Final = 10.0  # seconds for a block to be read
_LOOK_SECONDS: Final = 1.0  # how often a publisher that waits looks whether the gateway is still there
_CLOSED: Final = "the gateway was closed before it was known whether this tick is stored"


async def check_resent(runtime: Runtime, name: str | None, t: int, data: bytes) -> None:
    """To be called on the loop right after ``TickBus.offer`` said that a tick is a duplicate; returns where it is one.

    Args:
        name: the run that the publisher named; None: the current one.

    Raises:
        Conflict: another tick of that number is stored.
        OutOfOrder, RunClosed: there never was a tick of that number.
        Unreadable: the disk does not answer.
    """
    run = runtime.bus.current if name is None else runtime.bus.runs.get(name)
    archive = runtime.feed.archive
    while run is not None and t <= run.evicted:  # else memory has it, and the bus compared it
        stored = archive.after(run, t - 1)
        if stored is None or (stored.first > t and archive.history(run).missing_before(stored, t - 1)):
            return
        found = None
        if stored.first <= t:
            held = [stored] if isinstance(stored, Batch) else archive.get(run, stored)
            batches = held if isinstance(held, list) else await _loaded(held, run, t)
            if batches is None:  # the block is damaged, or gone: look again what there is
                continue
            found = next((tick for batch in batches if (tick := find_in(batch.ticks, t)) is not None), None)
        if found is None:
            open_ = run is runtime.bus.current and not run.ended
            raise OutOfOrder(run.id, t, run.tip) if open_ else RunClosed(run.id, t)
        if found.data != data:
            raise Conflict(run.id, t, run.tip if run.restored else None)
        return


async def _loaded(load: Load, run: Run, t: int) -> list[Batch] | None:
    came = asyncio.Event()
    load.then(came.set)
    try:
        async with asyncio.timeout(_PATIENCE):
            await came.wait()
    except TimeoutError:
        raise Unreadable(run.id, t) from None
    return load.batches


def in_process(runtime: Runtime) -> Callable[[str | None, int, bytes], None]:
    """What ``TickBus.publish`` calls where a tick is a duplicate: the same check, for ticks of this process. To be made
    on the loop.

    It waits for the disk, but on the loop's own thread, which waits for none: there, what is wrong is logged.
    """
    loop, thread = asyncio.get_running_loop(), threading.get_ident()
    checking = set[asyncio.Task[None]]()  # the loop itself holds its tasks weakly

    async def check_later(name: str | None, t: int, data: bytes) -> None:
        try:
            await check_resent(runtime, name, t, data)
        except GatewayError as error:
            log.error("a tick that was published on the gateway's own thread was not taken: %s", error)

    def check(name: str | None, t: int, data: bytes) -> None:
        run = runtime.bus.current if name is None else runtime.bus.runs.get(name)
        if run is None or t > run.evicted:  # memory has it, and the bus compared it
            return
        if threading.get_ident() == thread:
            task = loop.create_task(check_later(name, t, data))
            checking.add(task)
            task.add_done_callback(checking.discard)
            return
        asked = check_resent(runtime, name, t, data)
        try:
            told = asyncio.run_coroutine_threadsafe(asked, loop)
        except RuntimeError:  # the loop was closed since the bus took the tick
            asked.close()
            raise NotServing(_CLOSED) from None
        while True:
            try:
                return told.result(_LOOK_SECONDS)
            except TimeoutError:
                if runtime.closed and not told.done():
                    raise NotServing(_CLOSED) from None

    return check
