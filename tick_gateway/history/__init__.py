"""History: every tick ever published, in files that ordinary tools can read.

        format      the bytes of a segment, pure
        local       engine: segments on disk: writing, recovery, reading, verification, repair
        external    engine: another program's files: followed, read in place, imported into segments
        memory      engine: keeps nothing

``engine`` has the contract of an engine, this module the registry. The other modules are common to all engines and
depend on none: what is known of a stored run (``stored_run``, ``stored_block``, ``block_index``, ``record_page``), how
the bus starts with stored runs (``restore_bus``), how readers find their ticks (``run_history``), how the loop gets the
content of blocks (``archive``, ``threads``), and whether a resent tick is the stored one (``resent_ticks``).
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
    """Open the history engine: the first in the registry that fits.

    Args:
        bus: with nothing published to it yet.
        followed: a directory that another program writes to, if one is followed.
        progress: called with the progress of reading.

    Raises:
        HistoryError: see ``HistoryEngine.open``.
    """
    engine = next(engine for engine in ENGINES if engine.fits(settings, followed))
    return engine.open(settings, followed, bus, progress)


__all__ = ["ENGINES", "HistoryEngine", "open_history"]
