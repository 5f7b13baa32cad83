"""The hub: what every transport and source is handed. It holds the pieces and knows none of their routes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from .bus import TickBus
from .fanout import FanOut
from .feed import Feed
from .settings import Settings


@dataclass(slots=True)
class Hub:
    """One gateway's bus, feed and fan-out, wired from its settings."""

    settings: Settings
    bus: TickBus = field(init=False)
    feed: Feed = field(init=False)
    fanout: FanOut = field(init=False)
    started: float = field(default_factory=time.time)  # seconds since the epoch
    publishers: set[Callable[[], Awaitable[None]]] = field(default_factory=set)  # how to end each for shutdown
    draining: bool = False  # shutting down: long requests end, new ones are refused

    def __post_init__(self) -> None:
        s = self.settings
        self.bus = TickBus(
            ring=s.ring,
            ring_bytes=s.ring_bytes,
            inbox=s.inbox,
            inbox_bytes=s.inbox_bytes,
            max_tick=s.max_tick,
            nan=s.nan_policy,
            publish_timeout=s.publish_timeout,
        )
        self.feed = Feed(self.bus)
        self.fanout = FanOut(self.bus, self.feed, flush_interval=s.flush_interval, encoded_bytes=s.encoded_bytes)
