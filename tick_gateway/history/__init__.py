"""History: every tick ever published, in files that ordinary tools read, and the way back from them.

    format      the bytes of a segment, pure
    local       engine: segments on disk: written, recovered, read, verified, repaired
    external    engine: files that another program writes: followed, read where they lie, and imported into segments
    memory      engine: none

What an engine is stands in ``engine``; the registry is here. Beside these stands what engines have in common, which
knows of none of them: what is known of a stored run (``stored_run``, ``block_index``), how the bus begins with it
(``restore_bus``) and readers find it (``run_history``), how the loop gets at what is in its blocks (``archive``,
``threads``), and whether a tick that is sent again is the stored one (``resent_ticks``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..bus.tick_bus import TickBus
from ..settings import Settings
from .engine import HistoryEngine, Progress
from .external.in_place import InPlace
from .local.store import Store
from .memory import MemoryAlone

ENGINES: Final[tuple[type[HistoryEngine], ...]] = (
    Store,
    InPlace,
    MemoryAlone,
)


def open_history(
    settings: Settings, bus: TickBus, *, followed: Path | None = None, progress: Progress | None = None
) -> HistoryEngine:
    """Open the engine for what a gateway is given: the first that fits.

    Args:
        bus: nothing was published to it yet.
        followed: a directory that another program writes, where one is followed.
        progress: is told how far reading has come.

    Raises:
        HistoryError: see ``HistoryEngine.open``.
    """
    engine = next(engine for engine in ENGINES if engine.fits(settings, followed))
    return engine.open(settings, followed, bus, progress)


__all__ = ["ENGINES", "HistoryEngine", "open_history"]
