"""All transports at once, on both event loops: a publishing thread, readers that stall, leave and come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
import uvloop

from ..support.events import Event
from ..support.harness import Harness, tick
from ..support.readers.base import Reader
from ..support.readers.registry import FLAVOURS

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
RUNS = ("A", "B", "C")
COUNT = 80  # ticks of each run
LAST = COUNT * 2 - 2


class Simulation(threading.Thread):
    """Publishes three runs from a thread of its own, with holes; it waits for room, so that nothing is lost."""

    def __init__(self, harness: Harness) -> None:
        super().__init__()
        self._harness = harness
        self.ticks = [(run, t) for run in RUNS for t in range(0, COUNT * 2, 2)]
        for run, t in self.ticks:
            harness.ledger.note(run, t, tick(run, t))

    def run(self) -> None:
        for run, t in self.ticks:
            self._harness.runtime.bus.publish(tick(run, t), run=run, wait=True)


async def _read_on(reader: Reader) -> list[Event]:
    return await reader.until(LAST, RUNS[-1])


async def _leave_and_come_back(reader: Reader) -> list[Event]:
    events = await reader.take(1)
    for _ in range(5):
        await reader.again()
        events += await reader.take(COUNT // 4)
    await reader.again()
    return events + await reader.until(LAST, RUNS[-1])


async def _stall(reader: Reader) -> list[Event]:
    events: list[Event] = []
    for _ in range(5):
        events += await reader.take(COUNT // 4)
        await asyncio.sleep(0.02)  # the stall itself: what comes meanwhile waits in front of the reader
    return events + await reader.until(LAST, RUNS[-1])


@pytest.mark.parametrize("loop", LOOPS)
def test_every_transport_at_once(loop: str) -> None:
    """Every reader, whatever it does meanwhile, has every tick once and in order, with no notice but the resets."""

    async def scenario() -> None:
        async with Harness(small=True, inbox=20, flush_interval=0.02) as harness:
            ways = (_read_on, _leave_and_come_back, _stall)
            readers = [await harness.read(name, from_t="A:-1", hello=1) for name in FLAVOURS for _ in ways]
            simulation = Simulation(harness)
            simulation.start()
            reading = [way(reader) for way, reader in zip(ways * len(FLAVOURS), readers, strict=True)]
            for events in await asyncio.gather(*reading):
                harness.ledger.check(events, after=("A", -1))
            await asyncio.to_thread(simulation.join)

    _run(loop, scenario)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_reader_on_both_loops(loop: str, flavour: str) -> None:
    """The seams: replay to live, live to stalled and back, a change of run, leaving and coming back, shutdown."""

    async def scenario() -> None:
        async with Harness(small=True, flush_interval=0.02) as harness:
            await harness.publish_all(range(100))
            reader = await harness.read(flavour, from_t="A:-1", hello=1)
            harness.publish(range(100, 150))
            events = await reader.until(149)
            for t in range(150, 170):
                await harness.publish_all([t], size=20_000)
            events += await reader.until(169)
            harness.publish(range(5), "B")
            events += await reader.until(4, "B")
            await reader.again()
            harness.publish(range(5, 10), "B")
            events += await reader.until(9, "B")
            if reader.kind == "stream":
                events += await harness.shut(reader)
                assert reader.ended
            harness.ledger.check(events, after=("A", -1))

    _run(loop, scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_transports_share_no_bytes(loop: str) -> None:
    """Readers of every kind stand at the tip together: each gets its own framing, live and from what was kept."""

    async def scenario() -> None:
        async with Harness() as harness:
            await harness.publish_all([0])
            live = [await harness.read(name, tail=0, hello=1) for name in FLAVOURS]
            await harness.until(lambda: sum(s.state.live for s in harness.sessions) == len(harness.sessions))
            await harness.publish_all([1, 2])
            for reader in live:
                if reader.kind == "stream":
                    harness.ledger.check(await reader.until(2), after=("A", 0))
            for name in FLAVOURS:
                harness.ledger.check(await (await harness.read(name, from_t="A:-1", hello=1)).until(2), after=("A", -1))

    _run(loop, scenario)


def _run(loop: str, scenario: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(scenario())  # type: ignore[arg-type]
