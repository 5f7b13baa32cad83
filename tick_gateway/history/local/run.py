"""A run whose blocks lie in segments of a directory.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..block_index import UnreadableIndex
from ..format.segment import Footer, pack_columns, step_of
from ..stored_run import StoredRun
from .segment_file import Segment


@dataclass(slots=True)
class LocalRun(StoredRun):
    """What a directory of history knows of one run.

    Attributes:
        directory: where its files lie; None: it was not made yet.
        segments: oldest first.
    """

    directory: Path | None = None
    segments: list[Segment] = field(default_factory=list)

    def forget(self, segment: Segment) -> None:
        """A segment is gone, and its blocks with it."""
        gone = self.entries.drop(segment)
        self.segments.remove(segment)
        self.edges |= {block_range.end: block_range.last for block_range in gone}
        self.prune()

    def prune(self) -> None:
        """Forget edges behind which no block follows, nor may one."""
        newest = max(self.edges, default=0)
        with suppress(UnreadableIndex):  # then they are kept for now
            self.edges = {
                number: t
                for number, t in self.edges.items()
                if self.entries.has(number) or self.stored <= number == newest
            }

    def footer(self, ordinal: int, ts: Sequence[int], ats: Sequence[int], *, size: int, frame: int, crc: int) -> Footer:
        """The footer of a block of this run; see ``Footer`` for what is named there."""
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
