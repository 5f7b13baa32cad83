"""What is known of a stored run, whatever it is stored in: its blocks, and how much it published in all.

Pure: no I/O, no clock, no asyncio.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .block_index import Block, Blocks


@dataclass(slots=True)
class StoredRun:
    """What is known of one run.

    Attributes:
        id, seq, started, origin: as in ``segment.Footer``; ``started`` 0: none of them is known.
        entries: its blocks, in order.
        total: how many ticks were published as far as is known, those that are no longer stored counted.
        tip: the highest ``t`` of those, -1: none.
        edges: what is known of the ends of blocks that were deleted: how many ticks were published up to there, and the
            ``t`` of the last of them. So who has that tick misses nothing.
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
        """So many ticks were published, up to this one; what was known already stands."""
        self.total, self.tip = max(self.total, total), max(self.tip, tip)

    @property
    def stored(self) -> int:
        """How many ticks were published up to the last one that is stored."""
        bounds = self.entries.bounds
        return bounds[1].end if bounds else 0


class UnclosedBlock(NamedTuple):
    """The block behind all others of its run, which has no footer yet; and how many ticks the run published before
    it."""

    ordinal: int
    block: Block
