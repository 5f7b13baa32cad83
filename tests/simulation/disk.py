"""A disk that is slow, full or broken when a test says so, and history that works on it on the loop turned by hand.

The thread that writes and those that read are callbacks here: some turns of the loop after they were given something
to do, or some seconds. The files are real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tick_gateway.history.local.commit_pipeline import CommitPipeline
from tick_gateway.history.local.commit_worker import MAINTAIN_SECONDS, CommitRequest, CommitResult
from tick_gateway.history.local.events import BlockClosed, SegmentIndexed, SegmentSealed, StorageEvent
from tick_gateway.history.local.index import save_index
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.run import LocalRun
from tick_gateway.history.local.segment_file import Segment
from tick_gateway.history.local.segment_index import SegmentIndex
from tick_gateway.history.local.store import Store
from tick_gateway.history.stored_block import Entry

from .loop import SteppedLoop

if TYPE_CHECKING:
    from .ledger import Ledger

ENDLESS = 1 << 62
LARGEST_TICK = 700
SHARED_MEMORY = Path("/dev/shm")


class Killed(BaseException):
    """The process was killed in the middle of a write."""


@dataclass(frozen=True)
class Piece:
    """Some bytes of a segment, and the ticks that cannot be had without them; ``verified``: the gateway takes them for
    sound and looks no more."""

    path: Path
    begin: int
    end: int
    run: str
    first: int
    last: int
    verified: bool


class Disk:
    """A directory and the trouble with it.

    Args:
        limits: how history is kept there.
        turns: how many turns of the loop whatever waits for the disk takes, one after the other, over and over.

    Attributes:
        write_seconds, read_seconds: how long it takes beside that.
        left: bytes that it still takes, None: no bound.
        until_death: bytes until the process is killed, None: it is not.
        trouble: something was done to it that the gateway may complain of.
        loop, ledger: of the process that uses it now, set by the room.
    """

    loop: SteppedLoop
    ledger: Ledger

    def __init__(
        self,
        limits: Limits,
        turns: Sequence[int] = (0,),
        *,
        cache_bytes: int = 1 << 20,
        queue_bytes: int = 1 << 20,
    ) -> None:
        self.limits = limits
        self.cache_bytes, self.queue_bytes = cache_bytes, queue_bytes
        self.write_seconds = self.read_seconds = 0.0
        self.left: int | None = None
        self.until_death: int | None = None
        self.trouble = queue_bytes < 12 * LARGEST_TICK  # so little may wait that it is soon too much
        self._turns = cycle(turns)
        self._own: tempfile.TemporaryDirectory[str] | None = None

    def open(self) -> None:
        self._own = tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)

    @property
    def directory(self) -> Path:
        assert self._own is not None, "open() comes first"
        return Path(self._own.name)

    def close(self) -> None:
        if self._own is not None:
            self._own.cleanup()

    def patches(self) -> dict[str, object]:
        """What stands in for what in the rooms of history."""
        return {
            "tick_gateway.history.local.store.ReadingThreads": lambda: SteppedReading(self),
            "tick_gateway.history.local.store.CommitPipeline": lambda *args: SteppedPipeline(self, *args),
            "tick_gateway.history.local.disk.os": DiskOS(self),
            "tick_gateway.history.local.recorder.save_index": self._save_index,
            "tick_gateway.history.local.segment_file._read_now": self._read_now,
        }

    def later(self, call: Callable[..., None], *args: Any, seconds: float = 0.0) -> None:
        """Call when the disk has taken its time; never at once."""
        turns = next(self._turns)
        if seconds:
            self.loop.call_later(seconds, self._after, turns, call, args)
        else:
            self._after(turns, call, args)

    def _after(self, turns: int, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        if turns:
            self.loop.call_soon(self._after, turns - 1, call, args)
        else:
            self.loop.call_soon(call, *args)

    # ---- trouble ----

    def heal(self) -> None:
        """Whatever comes from here on is taken at once."""
        self.left = self.until_death = None
        self.write_seconds = self.read_seconds = 0.0

    def fill(self, left: int) -> None:
        self.left, self.trouble = left, True

    def slow_down(self, seconds: float) -> None:
        """Each round of writing takes so long."""
        self.write_seconds = seconds
        self.trouble = self.trouble or seconds > 0.05

    def take(self, size: int) -> int:
        """How many of so many bytes it takes."""
        if self.left is None:
            return size
        if not self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(size, self.left)
        self.left -= taken
        return taken

    def _save_index(self, run: LocalRun, settled: Callable[[SegmentIndex], None]) -> None:
        self.take(1)
        save_index(run, settled)

    def _read_now(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        """The system holds some files in memory, and some not."""
        return 0 if self.read_seconds or next(self._turns) else os.preadv(fd, buffers, offset)

    def layout(self, store: Store) -> list[Piece]:
        """Where the ticks lie that this process knows of: closed blocks, and what is behind the last of each run."""
        pieces: list[Piece] = []
        for run in store.pipeline._worker._recorder.runs.values():
            for entry in run.entries:
                at, end = entry.offset, entry.offset + entry.frame + entry.footer
                pieces.append(Piece(segment_of(entry).path, at, end, run.id, entry.first, entry.last, entry.verified))
            if run.segments:
                last, tip = run.segments[-1], max((entry.last for entry in run.entries), default=-1)
                pieces.append(Piece(last.path, last.size, ENDLESS, run.id, tip + 1, ENDLESS, True))
        return pieces

    def segments(self) -> list[Path]:
        return sorted(self.directory.glob("*/*.jsonl.zst"))

    def delete(self, pieces: Sequence[Piece], path: Path) -> None:
        """A file is deleted by somebody else."""
        self.cut(pieces, path, 0)
        path.unlink()

    def flip(self, pieces: Sequence[Piece], path: Path, at: int) -> None:
        """A byte is not what was written."""
        self.trouble = True
        for piece in pieces:
            if piece.path == path and piece.begin <= at < piece.end:
                self.ledger.lose(piece.run, piece.first, piece.last + 1)
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 0x55]))
        self.changed(path)

    def cut(self, pieces: Sequence[Piece], path: Path, at: int) -> None:
        """A file is cut off."""
        self.trouble = True
        for piece in pieces:
            if piece.path == path and piece.end > at:
                self.ledger.lose(piece.run, piece.first, piece.last + 1)
        os.truncate(path, at)
        self.changed(path)

    def changed(self, file: Path | int) -> None:
        """A file was changed now, by the clock of the simulation: where a journal is lost, that is all that tells
        when a run began and when its ticks were received."""
        now = self.loop.clock.time_ns()
        os.utime(file, ns=(now, now))


def segment_of(entry: Entry) -> Segment:
    assert isinstance(entry.volume, Segment)
    return entry.volume


class DiskOS:
    """Stands in for the module ``os`` where history writes."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def pwrite(self, fd: int, data: bytes | memoryview, at: int) -> int:
        disk = self._disk
        if disk.until_death is not None:
            if len(data) > disk.until_death:
                os.pwrite(fd, data[: disk.until_death], at)
                disk.changed(fd)
                raise Killed
            disk.until_death -= len(data)
        written = os.pwrite(fd, data[: disk.take(len(data))], at)
        disk.changed(fd)
        return written


class SteppedReading:
    """Stands in for the threads that read."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._closed = False

    def start(self) -> None:
        pass

    def close(self) -> None:
        self._closed = True

    def __call__(self, job: Callable[[], None], done: Callable[[Exception | None], None]) -> None:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")

        def work() -> None:
            if self._closed:
                return  # it was cancelled
            problem: Exception | None = None
            try:
                job()
            except Exception as error:
                problem = error
            self._disk.later(done, problem)

        self._disk.later(work, seconds=self._disk.read_seconds)


class SteppedPipeline(CommitPipeline):
    """A pipeline whose thread is callbacks on the loop: it fetches, writes some time later, and tells some turns later.
    The ledger is told what is on disk, and what readers are given."""

    def __init__(self, disk: Disk, *args: Any) -> None:
        super().__init__(*args)
        self._disk = disk
        self._busy = True
        self._last = asyncio.Event()
        self._blocks: dict[Segment, list[Entry]] = defaultdict(list)
        for run in self._worker._recorder.runs.values():
            for entry in run.entries:
                self._blocks[segment_of(entry)].append(entry)

    def _begin(self) -> None:
        self._busy = False
        self._wake_up()

    def _wake_up(self) -> None:
        if not self._last.is_set():
            self._disk.loop.call_later(MAINTAIN_SECONDS, self._wake_up)
            self._nudge()

    def take(self, *args: Any) -> None:
        super().take(*args)
        self._disk.ledger.stands(self.state)
        self._nudge()

    def _nudge(self) -> None:
        if not self._busy:
            self._busy = True
            self._disk.later(self._round)

    def _round(self) -> None:
        requests, closing = self._fetch()
        seconds = self._disk.write_seconds if requests else 0.0
        self._disk.later(self._write, requests, closing, seconds=seconds)

    def _write(self, requests: Sequence[CommitRequest], closing: bool) -> None:
        try:
            result = self._worker.round(requests, closing)
        except Killed:
            self._disk.loop.halt()
            self._leave_out(self._worker._recorder.events)
            return
        if result is not None:
            self._through = max(self._through, result.upto)
            self._enter(requests, result)
        self._disk.later(self._tell, requests, result, closing)

    def _enter(self, requests: Sequence[CommitRequest], result: CommitResult) -> None:
        """Tell the ledger what is on disk now."""
        ledger, segment = self._disk.ledger, self._worker._recorder.segment
        batches = [batch for request in requests for batch in request.batches]
        if result.error is None:
            ledger.write(batches)
            if segment is not None and not segment.path.exists():  # into a file that somebody deleted
                for batch in batches:
                    ledger.lose(batch.run.id, batch.first, batch.last + 1)
        for event in result.events:
            if isinstance(event, BlockClosed):
                entry, segment = event.entry, segment_of(event.entry)
                self._blocks[segment].append(entry)
                ledger.close(event.run, entry)
                if not segment.path.exists():
                    ledger.lose(event.run, entry.first, entry.last + 1)
        self._leave_out(result.events)

    def _leave_out(self, events: Sequence[StorageEvent]) -> None:
        """What was deleted is on disk no more."""
        for event in events:
            if not isinstance(event, BlockClosed | SegmentSealed | SegmentIndexed):
                for entry in self._blocks.pop(event.segment, ()):
                    self._disk.ledger.remove(event.run, entry.first, entry.last + 1)

    def _tell(self, requests: Sequence[CommitRequest], result: CommitResult | None, closing: bool) -> None:
        if result is not None:
            batches = [batch for request in requests for batch in request.batches] if result.error is None else []
            self._disk.ledger.know(batches, [event for event in result.events if isinstance(event, BlockClosed)])
            self._done(result)
            self._disk.ledger.stands(self.state)
        self._busy = False
        if closing:
            self._last.set()
        elif self._queue or self._closing:
            self._nudge()

    def _show(self, requests: Iterable[CommitRequest]) -> None:
        requests = list(requests)
        for request in requests:
            self._disk.ledger.show(request.batches)
        super()._show(requests)

    def _show_all(self) -> None:
        super()._show_all()
        self._disk.ledger.stands(self.state)

    async def _end(self, seconds: float) -> None:
        self._nudge()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._last.wait()
