"""Waiting on the loop for what is on its way from disk: for requests that have a coroutine (sessions have none)."""

from __future__ import annotations

import asyncio

from ..bus.ring import Batch
from ..history.archive import Load
from ..model.tick import Position
from .cursor import Cursor, Span, Steps
from .extents import Extent
from .feed import Feed


async def until_done(load: Load) -> None:
    """Return when a load is done."""
    if not load.done:
        done = asyncio.Event()
        load.then(done.set)
        await done.wait()


async def placed(feed: Feed, cursor: Cursor, now: float) -> None:
    """Place a cursor, however often the disk has to be asked."""
    while not feed.place(cursor, now):
        assert cursor.awaits is not None
        await until_done(cursor.awaits)


async def position_of(feed: Feed, steps: Steps) -> Position:
    """Go through the steps to a position, however often the disk has to be asked."""
    found: list[Batch] | None = None
    while True:
        try:
            look = steps.send(found)
        except StopIteration as stop:
            position: Position = stop.value
            return position
        found = await load_batches(feed, look)


async def load_batches(feed: Feed, extent: Extent) -> list[Batch] | None:
    """The batches of what comes next; None where they are gone."""
    if isinstance(extent, Span):
        return [extent.batch]
    got = feed.archive.get(extent.run, extent.entry)
    if isinstance(got, Load):
        await until_done(got)
        return got.batches
    return got
