"""Pulls that wait: let go at a flush, in time, where their client is gone, or together where flushes come close."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tick_gateway.delivery.flush import FlushPolicy
from tick_gateway.delivery.waiters import Waiters

POLICY = FlushPolicy(0.025, gather_seconds=3600.0, waiters=16)


async def begun(waiters: Waiters, count: int, *, gather: bool = False) -> list[asyncio.Task[None]]:
    """So many that wait."""
    found = [asyncio.create_task(waiters.wait(3600.0, gather=gather)) for _ in range(count)]
    await asyncio.sleep(0)  # each has its first turn
    return found


async def test_they_are_let_go_some_at_a_time() -> None:
    waiters = Waiters(lambda: POLICY)
    jobs = await begun(waiters, 100)
    waiters.flushed(busy=True)
    left = 100
    while left:
        before = left
        await asyncio.sleep(0)
        left = sum(1 for job in jobs if not job.done())
        assert before - left <= 32
    assert len(waiters) == 0


@pytest.mark.parametrize("busy", [False, True])
async def test_those_who_gather_wait_on_where_flushes_come_close_together(busy: bool) -> None:
    policy = POLICY
    waiters = Waiters(lambda: policy)
    alone, together = await begun(waiters, 1), await begun(waiters, 3, gather=True)
    waiters.flushed(busy=busy)
    await asyncio.gather(*alone)
    if busy:
        assert not any(job.done() for job in together)
        waiters.flushed(busy=True)  # its turn is planned already
        waiters.release()
    await asyncio.gather(*together)


async def test_what_is_gathered_goes_out_in_time() -> None:
    waiters = Waiters(lambda: replace(POLICY, gather_seconds=0.01))
    together = await begun(waiters, 3, gather=True)
    waiters.flushed(busy=True)
    await asyncio.gather(*together)


async def test_nobody_waits_longer_than_it_asked_for_or_for_a_client_that_is_gone() -> None:
    waiters = Waiters(lambda: POLICY)
    await waiters.wait(0.01)
    gone = False
    job = asyncio.create_task(waiters.wait(3600.0, left=lambda: gone))
    await asyncio.sleep(0)
    waiters.sweep()
    await asyncio.sleep(0)
    assert not job.done()
    gone = True
    waiters.sweep()
    await job
    assert len(waiters) == 0


async def test_one_that_is_cancelled_leaves_nothing_behind() -> None:
    waiters = Waiters(lambda: POLICY)
    (job,) = await begun(waiters, 1, gather=True)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert len(waiters) == 0
    waiters.release()
