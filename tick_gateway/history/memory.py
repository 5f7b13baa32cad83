"""No history: ticks are kept only in memory, and end with the process."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from ..bus.tick_bus import TickBus
from ..settings import Settings
from .archive import Archive
from .engine import EngineStatus, HistoryEngine, Progress


class MemoryAlone(HistoryEngine):
    """Keeps nothing: what the ring evicts is a gap."""

    @classmethod
    def fits(cls, settings: Settings, followed: Path | None) -> bool:
        """See ``HistoryEngine.fits``."""
        return not settings.data and followed is None

    @classmethod
    def open(cls, settings: Settings, followed: Path | None, bus: TickBus, progress: Progress | None) -> Self:
        """See ``HistoryEngine.open``."""
        return cls(bus, Archive())

    def status(self) -> EngineStatus:
        """See ``HistoryEngine.status``."""
        return EngineStatus("off: ticks are kept in memory alone")

    def describe(self) -> str:
        """See ``HistoryEngine.describe``."""
        return "history is off: ticks are kept in memory alone"
