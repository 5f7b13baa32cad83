"""Waiting for blocks to be loaded from disk, on the loop, in coroutines (a session is not one)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..bus.ring import Batch
from ..history.archive import Archive, Load
from .cursor import Span
from .extents import Extent


async def until_done(load: Load) -> None:
    """Return when a load is done."""
    if not load.done:
        done = asyncio.Event()
        load.then(done.set)
        await done.wait()


async def load_batches(archive: Archive, extent: Extent) -> Sequence[Batch] | None:
    """The batches of an extent; None if they are gone."""
    if isinstance(extent, Span):
        return [extent.batch]
    got = archive.get(extent.run, extent.entry)
    if isinstance(got, Load):
        await until_done(got)
        return got.batches
    return got
