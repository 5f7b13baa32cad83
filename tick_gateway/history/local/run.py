"""A run stored in segments of a directory.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..format.segment import Footer, pack_columns, step_of
from ..record_page import UnreadableIndex
from ..stored_run import StoredRun
from .segment_file import Segment


@dataclass(slots=True)
class LocalRun(StoredRun):
    """What is known of one run in a directory of history.

    Attributes:
        directory: of its files; None: not created yet.
        segments: oldest first.
    """

    directory: Path | None = None
    segments: list[Segment] = field(default_factory=list)

    def forget(self, segment: Segment) -> None:
        """Remove a segment that was deleted, and its blocks."""
        gone = self.entries.drop(segment)
        self.segments.remove(segment)
        self.edges |= {block_range.end: block_range.last for block_range in gone}
        self.prune()

    def prune(self) -> None:
        """Forget edges that no block follows or can follow."""
        newest = max(self.edges, default=0)
        with suppress(UnreadableIndex):  # then they are kept for now
            self.edges = {
                number: t
                for number, t in self.edges.items()
                if self.entries.has(number) or self.stored <= number == newest
            }

    def footer(self, ordinal: int, ts: Sequence[int], ats: Sequence[int], *, size: int, frame: int, crc: int) -> Footer:
        """The footer of a block of this run; see ``Footer`` for the arguments."""
        return Footer(
            self.id, self.seq, self.started, self.origin, ordinal, ts[0], ts[-1], ats[0], ats[-1], size, frame,
            len(ts), step_of(ts), crc, pack_columns(ts, ats),
        )  # fmt: skip

    def seal_footer(self, *, ended: bool = False, lost_tail: bool = False) -> Footer:
        """The footer that seals a segment of this run."""
        return Footer(
            self.id, self.seq, self.started, self.origin, self.total, self.tip, self.tip, 0, 0,
            sealed=True, ended=ended, lost_tail=lost_tail,
        )  # fmt: skip
