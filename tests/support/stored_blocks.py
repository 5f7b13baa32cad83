"""Blocks of a stored run that lie in memory, with faults where a test wants them, and rows of them for hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hypothesis import strategies as st

from tests.support.recorded import AT, data_of
from tick_gateway.bus.ring import Batch, Run
from tick_gateway.history.local.segment_file import Segment
from tick_gateway.history.record_page import held_source
from tick_gateway.history.stored_block import Block, Entry, HeldSource
from tick_gateway.model.tick import PublishedTick


class MemoryVolume:
    """A file of blocks; each tick was received a millisecond after the one before it.

    Attributes:
        faults: what reading raises, by the offset of the block.
        held: the system holds it in memory: frames come without waiting.
        asked: what was read, and of how many blocks.
    """

    def __init__(self) -> None:
        self.retired = False
        self.held = False
        self.faults: dict[int, Exception] = {}
        self.asked: list[tuple[str, int]] = []
        self._blocks: dict[int, Block] = {}
        self._end = 0

    def add(self, ts: Sequence[int], ordinal: int) -> Entry:
        """Another block, of these ticks."""
        block = Block(b"".join(data_of(t) + b"\n" for t in ts), list(ts), [AT + ordinal + i for i in range(len(ts))])
        frame, footer = len(block.lines), 8
        entry = Entry(
            self, self._end, footer, ordinal=ordinal, first=ts[0], last=ts[-1], first_at=block.ats[0],
            last_at=block.ats[-1], count=len(ts), step=0, size=len(block.lines), frame=frame, crc=self._end,
        )  # fmt: skip
        self._blocks[self._end] = block
        self._end += frame + footer
        return entry

    def new_records(self, entry: Entry) -> HeldSource:
        return held_source(entry)

    def _find(self, entry: Entry) -> Block:
        if (fault := self.faults.get(entry.offset)) is not None:
            raise fault
        return self._blocks[entry.offset]

    def read(self, entry: Entry) -> Block:
        """See ``Volume.read``."""
        self.asked.append(("ticks", 1))
        return self._find(entry)

    def lines(self, entry: Entry) -> bytes:
        """See ``Volume.lines``."""
        self.asked.append(("lines", 1))
        return self._find(entry).lines

    def frames(self, row: Sequence[Entry], *, wait: bool = True) -> bytearray | None:
        """See ``Volume.frames``; its frames are the lines themselves."""
        if not wait and not self.held:
            return None
        self.asked.append(("frames", len(row)))
        return bytearray(b"".join(self._find(entry).lines for entry in row))


def batch_of(run: Run, ts: Iterable[int], ordinal: int) -> Batch:
    """The same as what an open block holds."""
    ticks = [PublishedTick(t, data_of(t), AT + ordinal + i) for i, t in enumerate(ts)]
    return Batch(run, ticks, sum(len(tick.data) for tick in ticks), False, ordinal)


class Jobs:
    """What an archive hands to others (``archive.Elsewhere``): it is done when the test says."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Callable[[Exception | None], None]]] = []

    def __call__(self, job: Callable[[], None], done: Callable[[Exception | None], None]) -> None:
        self.waiting.append((job, done))

    def work(self) -> int:
        """Do all of them, and those that come of them; returns how many."""
        count = 0
        while self.waiting:
            job, done = self.waiting.pop(0)
            problem: Exception | None = None
            try:
                job()
            except Exception as error:
                problem = error
            done(problem)
            count += 1
        return count


@st.composite
def rows(draw: st.DrawFn) -> list[Entry]:
    """Blocks of some files, with holes in their numbers and ticks that are missing; nothing can be read of them."""
    found: list[Entry] = []
    volume, offset, ordinal, t, at = Segment(Path("0")), 0, draw(st.integers(0, 3)), draw(st.integers(0, 9)), AT
    for number in range(draw(st.integers(0, 30))):
        if draw(st.integers(0, 4)) == 0:
            volume, offset = Segment(Path(str(number))), 0
        count = draw(st.integers(1, 4))
        step = draw(st.sampled_from((1, 1, 1, 5)))
        ordinal += draw(st.sampled_from((0, 0, 0, 2)))
        last = t + step * (count - 1)
        frame, footer = draw(st.integers(20, 2**31)), draw(st.integers(0, 200))
        found.append(Entry(
            volume, offset, footer, ordinal=ordinal, first=t, last=last, first_at=at, last_at=at + count,
            count=count, step=step if count > 1 else 0, size=draw(st.integers(0, 2**32 - 1)), frame=frame,
            crc=draw(st.integers(0, 2**32 - 1)), raw=True,
        ))  # fmt: skip
        offset, ordinal, t = offset + frame + footer, ordinal + count, last + draw(st.sampled_from((1, 1, 7)))
        at += draw(st.sampled_from((0, 4, 2000)))
    return found
