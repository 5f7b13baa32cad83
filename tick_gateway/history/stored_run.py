"""A stored run, in any engine: its blocks, and how much it published in total.

Pure: no I/O, no clock, no asyncio.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .block_index import Blocks
from .stored_block import Block


@dataclass(slots=True)
class StoredRun:
    """What is known of one run.

    Attributes:
        id, seq, started, origin: as in ``segment.Footer``; ``started`` 0: none of these are known.
        entries: its blocks, in order.
        total: number of ticks known to have been published, including those no longer stored.
        tip: the highest ``t`` of those, -1: none.
        edges: the known ends of deleted blocks: the number of ticks published up to there, and the ``t`` of the last of
            them. A reader that has that tick misses nothing.
        ended, lost_tail: as in ``segment.Footer``.
    """

    id: str
    seq: int = 0
    started: int = 0
    origin: int = 0
    entries: Blocks = field(default_factory=Blocks)
    total: int = 0
    tip: int = -1
    edges: dict[int, int] = field(default_factory=dict)
    ended: bool = False
    lost_tail: bool = False

    def know(self, total: int, tip: int) -> None:
        """At least ``total`` ticks were published, up to ``tip``; keeps what was known before."""
        self.total, self.tip = max(self.total, total), max(self.tip, tip)

    @property
    def stored(self) -> int:
        """How many ticks were published up to the last one that is stored."""
        bounds = self.entries.bounds
        return bounds[1].end if bounds else 0


class UnclosedBlock(NamedTuple):
    """The last block of a run, if it has no footer yet; and how many ticks the run published before it."""

    ordinal: int
    block: Block
