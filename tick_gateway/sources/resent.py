"""A tick that is sent again and that memory no longer holds: it is held against what history has.

The bus takes it for a duplicate, since it knows no more than that the number is not above the tip. With history, the
block in which it lies says whether its bytes are the same, and whether there ever was such a tick. Where that block is
gone, the tick counts as a duplicate.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..errors import Conflict, OutOfOrder, RunClosed, Unreadable
from ..history.archive import Load
from ..hub import Hub
from ..ring import Batch, Run, find_in

_PATIENCE: Final = 10.0  # seconds for a block to be read


async def check_resent(hub: Hub, name: str | None, t: int, data: bytes) -> None:
    """To be called on the loop right after ``TickBus.offer`` said that a tick is a duplicate; returns where it is one.

    Args:
        name: the run that the publisher named; None: the current one.

    Raises:
        Conflict: another tick of that number is stored.
        OutOfOrder, RunClosed: there never was a tick of that number.
        Unreadable: the disk does not answer.
    """
    run = hub.bus.current if name is None else hub.bus.runs.get(name)
    archive = hub.feed.archive
    while run is not None and t <= run.evicted:  # else memory has it, and the bus compared it
        stored = archive.after(run, t - 1)
        if stored is None or (stored.first > t and archive.shelf(run).missing_before(stored, t - 1)):
            return
        found = None
        if stored.first <= t:
            held = [stored] if isinstance(stored, Batch) else archive.get(run, stored)
            batches = held if isinstance(held, list) else await _loaded(held, run, t)
            if batches is None:  # the block is damaged, or gone: look again what there is
                continue
            found = next((tick for batch in batches if (tick := find_in(batch.ticks, t)) is not None), None)
        if found is None:
            open_ = run is hub.bus.current and not run.ended
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
