"""The contract of a history engine, which keeps the ticks of one gateway.

An engine is a package or module that ends in a ``HistoryEngine``, and a line in the registry (``history/__init__.py``),
which chooses one by the gateway's settings. The runtime holds one engine and does not ask which: one that keeps ticks
only in memory is an engine like the others.

    open ──► start ──► mark, settled … ──► drain ──► close
                           (bus ──► engine ──► bus.show ──► readers, if it stores what is published before it is shown)

Once an engine is open, ``archive`` has what was stored before, and the bus starts with it. Opening may wait for the
disk; of the other methods only ``settled`` and ``drain`` do, as coroutines.
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
    """The state of an engine, for /healthz and the metrics.

    Attributes:
        history: how ticks are kept, or what is wrong with that, for people.
        degraded: something is wrong.
        details: additional members of /healthz.
        writing: it writes what is published, and the disk keeps up.
        bytes: of everything stored.
        unstored: number of ticks that readers were given and history does not have.
    """

    history: str
    degraded: bool = False
    details: dict[str, object] = field(default_factory=dict)
    writing: bool = False
    bytes: int = 0
    unstored: int = 0


class HistoryEngine(ABC):
    """Keeps the history of one bus. Methods with a body are those of an engine that writes nothing.

    Args:
        bus: with nothing published to it yet; it starts with what is stored.
        archive: of this engine; empty if nothing is ever stored.

    Attributes:
        writes: ticks are stored before they are shown, and outlive the process.
    """

    writes: ClassVar[bool] = False

    def __init__(self, bus: TickBus, archive: Archive) -> None:
        self.bus = bus
        self.archive = archive

    @classmethod
    @abstractmethod
    def fits(cls, settings: Settings, followed: Path | None) -> bool:
        """Whether this is the engine for a gateway with these settings; ``followed`` is another program's directory
        that it follows, or None."""

    @classmethod
    @abstractmethod
    def open(cls, settings: Settings, followed: Path | None, bus: TickBus, progress: Progress | None) -> Self:
        """Read what is stored, and start the bus with it; ``progress`` is called with the progress.

        Raises:
            Locked: another process keeps history there.
            HistoryError: it cannot be read.
        """

    def start(self, shown: Callable[[], None]) -> None:
        """Use this thread's running loop; ``shown`` is called when there are new ticks for readers."""
        return

    def mark(self) -> int:
        """A mark before the ticks published from now on, for ``settled``."""
        return 0

    async def settled(self, since: int = 0) -> bool:
        """Wait until what was published so far can be read; returns whether everything published after the mark
        ``since`` outlives this process."""
        self.bus.collect()
        return False

    async def drain(self, seconds: float) -> None:
        """Store and show what was published, and accept no more; waits at most ``seconds``."""
        return

    def close(self) -> None:
        """Release all resources, after ``drain`` (or if it was never started), when nobody reads any more."""
        return

    def release(self) -> None:
        """Release only the locks: in a forked child, while the parent continues."""
        return

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting to be written."""
        return True

    def holds(self, directory: str) -> bool:
        """Whether this engine holds the lock of a directory of history."""
        return False

    @abstractmethod
    def status(self) -> EngineStatus:
        """The state, for /healthz and the metrics."""

    @abstractmethod
    def describe(self) -> str:
        """Where ticks are kept, in one line for the terminal."""
