"""What a crowd may do at once, small enough to run every time: nothing is lost, and memory stays bounded.

The scenes are those of ``python -m tests.perf.herd``, which takes as many readers as the machine has room for and
prints the figures. How long the gateway's loop stood still is reported; what it computed itself meanwhile is asserted
with a wide margin, since the machine may be busy with anything.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import pytest

from tests.perf import herd
from tests.perf.herd import MB, Figures

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

OWN_SECONDS = 1.0


def played(scene: Callable[[int], Awaitable[Figures]], readers: int) -> Figures:
    async def play() -> Figures:
        return await scene(readers)

    figures = asyncio.run(play())
    print(figures)
    assert (figures.lost, figures.repeated) == (0, 0), figures
    assert figures.own < OWN_SECONDS, figures
    return figures


def test_the_run_changes_under_everybody() -> None:
    figures = played(herd.change_of_run, 200)
    assert figures.notices == {"reset": 3 * 200}, figures  # none without a word, none more often


def test_everybody_reconnects_with_an_old_position() -> None:
    assert played(herd.reconnect, 200).notices == {}


def test_ticks_of_1_mb() -> None:
    figures = played(herd.large_ticks, 20)
    assert figures.notices == {} and figures.grown < 200 * MB, figures


def test_readers_that_never_read_delay_nobody() -> None:
    """25 MB go past each of 30 readers that take none of it: 750 MB, were it kept for them. The ring has 8 MB."""
    figures = played(herd.half_never_reads, 60)
    assert figures.notices == {} and figures.grown < 64 * MB, figures
