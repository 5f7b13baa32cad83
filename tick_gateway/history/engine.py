"""The contract of a history engine: what keeps the ticks of one gateway, and how they are read again.

An engine is one package or module that ends in a ``HistoryEngine``, and one line in the registry
(``history/__init__.py``), which chooses by what a gateway is given. The runtime holds one engine and asks no further
which: that of memory alone keeps nothing, and is one like the others.

    open ──► start ──► mark, settled … ──► drain ──► close
                       (bus ──► engine ──► bus.show ──► readers, where it stores what is published first)

What was stored before is in ``archive``, and on the bus, once an engine is open. Opening may wait for the disk; of what
follows only ``settled`` and ``drain`` wait, and they are coroutines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from ..bus.tick_bus import TickBus
from ..settings import Settings
from .archive import Archive

Progress = Callable[[int, int], None]
"""Told while history is read: bytes done, and of all."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an engine says of itself in /healthz and the metrics.

    Attributes:
        history: how ticks are kept, or what is wrong with it, as a sentence.
        degraded: something is wrong.
        details: further members of /healthz.
        writing: it writes what is published, and the disk keeps up.
        bytes: of all that is stored.
        unstored: ticks that readers were given and history has not.
    """

    history: str
    degraded: bool = False
    details: dict[str, object] = field(default_factory=dict)
    writing: bool = False
    bytes: int = 0
    unstored: int = 0


class HistoryEngine(ABC):
    """Keeps the history of one bus. What has a body here is that of an engine that writes nothing.

    Args:
        bus: nothing was published to it yet; it begins with what is stored.
        archive: of this engine; empty where nothing is ever stored.

    Attributes:
        writes: what is published is stored before it is shown, and outlives the process.
    """

    writes: ClassVar[bool] = False

    def __init__(self, bus: TickBus, archive: Archive) -> None:
        self.bus = bus
        self.archive = archive

    @classmethod
    @abstractmethod
    def fits(cls, settings: Settings, followed: Path | None) -> bool:
        """Whether this is the engine for a gateway with these settings, which follows that directory of another
        program, or none."""

    @classmethod
    @abstractmethod
    def open(cls, settings: Settings, followed: Path | None, bus: TickBus, progress: Progress | None) -> Self:
        """Read what is stored, and begin the bus with it; ``progress`` is told how far that has come.

        Raises:
            Locked: another process keeps history there.
            HistoryError: it cannot be read.
        """

    def start(self, shown: Callable[[], None]) -> None:
        """Take this thread's running loop; ``shown`` is called when readers can have more."""
        return

    def mark(self) -> int:
        """Where the ticks begin that are published from now on; for ``settled``."""
        return 0

    async def settled(self, since: int = 0) -> bool:
        """Wait until what was published so far can be read; returns whether what was published behind the mark
        ``since`` outlives this process."""
        self.bus.collect()
        return False

    async def drain(self, seconds: float) -> None:
        """Store and show what was published, and take no more; waits ``seconds`` at the most."""
        return

    def close(self) -> None:
        """Let go of everything, once it is drained (or was never started) and nobody reads any more."""
        return

    def release(self) -> None:
        """Let go of locks, without more: in a forked child, whose parent goes on."""
        return

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way to the disk."""
        return True

    def holds(self, directory: str) -> bool:
        """Whether this is who holds the lock of a directory of history."""
        return False

    @abstractmethod
    def status(self) -> EngineStatus:
        """What /healthz and the metrics say."""

    @abstractmethod
    def describe(self) -> str:
        """Where ticks are kept, as a line for the terminal."""
