"""Publishing to a bus, and what its readers find: shorthand for the tests of the bus alone."""

from __future__ import annotations

from tick_gateway.bus.tick_bus import TickBus


def data_of(t: int, note: str = "") -> bytes:
    return b'{"t":%d,"note":"%s"}' % (t, note.encode())


def offer(bus: TickBus, *ts: int, run: str | None = None, resends: bool = True, note: str = "") -> list[bool]:
    return [bus.offer(t, data_of(t, note), run, resends=resends) for t in ts]


def seen(bus: TickBus) -> dict[str, list[int]]:
    """What readers find, by run."""
    bus.collect()
    found: dict[str, list[int]] = {}
    for batch in bus.ring:
        found.setdefault(batch.run.id, []).extend(tick.t for tick in batch.ticks)
    return found


def ticks_of(bus: TickBus) -> list[int]:
    """What readers find, of all runs."""
    return [t for ts in seen(bus).values() for t in ts]


def gaps(bus: TickBus) -> list[int]:
    """The ticks before which some are known to be lost."""
    bus.collect()
    return [batch.first for batch in bus.ring if batch.lost_before]
