"""The archive: what the loop knows of history, and how it gets content without waiting for the disk.

Each run has a ``run_history`` of its blocks. Their content is loaded by threads: a reader that needs a block gets a
``Load``, does other things, and is called when it is done. Decoded blocks are kept in a cache bounded by bytes, so
that many readers that catch up share them; a reader that waits for a block holds it until it has read it, even if the
cache evicts it.

A block that is damaged or gone is removed from its run's history, which then has a gap.

No asyncio: the maker of an archive passes in how to run jobs elsewhere. Everything here is called on the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol

from ..bus.ring import Batch, Run
from ..errors import Damaged, HistoryError
from ..model.cache import ByteBoundedCache
from ..model.tick import Position
from ..settings import DEFAULTS
from .block_index import BlockRange
from .record_page import UnreadableIndex
from .run_history import RunHistory, Stored, batches_of
from .stored_block import Entry, RecordSource, Volume

log = logging.getLogger("tick_gateway.history")

Form = Literal["ticks", "frames", "lines"]

MAX_DAMAGE = 20  # sentences
_TICK_BYTES = 200  # Python's overhead per decoded tick


class Elsewhere(Protocol):
    """Runs a job where it may wait, and then calls ``done`` on the loop: with its exception, or None."""

    def __call__(self, job: Callable[[], None], done: Callable[[Exception | None], None], /) -> None: ...


class Load:
    """The content of a block, or of several, that is being loaded.

    Attributes:
        row: the block, or several adjacent ones.
        form: the form of the content.
        done: it was loaded, or cannot be.
        batches: its ticks; None if it cannot be loaded (or in another form).
        frames: the blocks unchanged; None likewise.
        lines: of each block; None likewise.
    """

    __slots__ = ("_waiting", "batches", "done", "form", "frames", "lines", "row")

    def __init__(self, row: Sequence[Entry], form: Form) -> None:
        self.row = row
        self.form = form
        self.done = False
        self.batches: list[Batch] | None = None
        self.frames: bytearray | None = None
        self.lines: list[bytes] | None = None
        self._waiting: dict[Callable[[], None], None] = {}

    @classmethod
    def of(cls, entry: Entry, batches: list[Batch]) -> Load:
        """A load that is done, of a block whose ticks are already here."""
        load = cls([entry], "ticks")
        load.batches, load.done = batches, True
        return load

    @property
    def entry(self) -> Entry:
        """The first block."""
        return self.row[0]

    def then(self, call: Callable[[], None]) -> None:
        """Call ``call`` when it is done; once, even if it is passed several times."""
        self._waiting[call] = None

    def finish(self) -> None:
        """Mark it as done, and call everyone that waits for it."""
        self.done = True
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            call()


class Archive:
    """All stored runs.

    Args:
        elsewhere: runs jobs that wait for the disk; None: there is no history, and nothing is ever found.
        cache_bytes: bound for decoded blocks.

    Attributes:
        histories: by run, in the order in which the runs began.
        damaged: number of blocks found damaged or gone since the start.
        damage: descriptions of the first of them.
        loaded: number of blocks read from disk since the start.
    """

    def __init__(self, elsewhere: Elsewhere | None = None, cache_bytes: int = DEFAULTS.history_cache) -> None:
        self.histories: dict[str, RunHistory] = {}
        self.damaged = 0
        self.damage: list[str] = []
        self.loaded = 0
        self._elsewhere = elsewhere
        self._cache: ByteBoundedCache[Entry, list[Batch]] = ByteBoundedCache(cache_bytes, _cost, least=1)
        self._loads: dict[tuple[Entry, int, Form], Load] = {}

    # ---- what is stored ----

    def after(self, run: Run, t: int) -> Stored | None:
        """The first stored block (or batch of the open one) with a tick after ``t``; None: there is none."""
        history = self.histories.get(run.id)
        return history.after(t) if history is not None else None

    def holds(self, run: Run, low: int, high: int) -> bool:
        """See ``RunHistory.holds``."""
        history = self.histories.get(run.id)
        return history is not None and history.holds(low, high)

    def first(self, run: Run) -> int | None:
        """The lowest stored ``t`` of a run, or None."""
        history = self.histories.get(run.id)
        return history.first if history is not None else None

    @property
    def stored(self) -> Position | None:
        """The newest tick that is stored, or None."""
        for history in reversed(self.histories.values()):
            if (last := history.last) is not None:
                return Position(history.run.id, last)
        return None

    def history(self, run: Run) -> RunHistory:
        """A run's history, created if there is none."""
        found = self.histories.get(run.id)
        if found is None:
            found = self.add(run)
        return found

    def add(self, run: Run, entries: Iterable[Entry] = (), edges: Mapping[int, int] | None = None) -> RunHistory:
        """Start a run's history with these blocks; see ``RunHistory``."""
        found = self.histories[run.id] = RunHistory(run, entries, edges, self._lose)
        return found

    # ---- changes ----

    def wrote(self, batches: Iterable[Batch]) -> None:
        """Batches were written to the open block."""
        for batch in batches:
            self.history(batch.run).open.append(batch)

    def closed(self, run: Run, entry: Entry) -> None:
        """A block was closed."""
        self.history(run).close(entry)

    def removed(self, run: str, volume: Volume) -> None:
        """A file of blocks was deleted."""
        history = self.histories.get(run)
        if history is not None:
            history.drop(volume)
            self._forget_volume(history, volume)

    def indexed(self, run: str, volume: Volume, records: RecordSource) -> None:
        """The records of a file's blocks are in its index, and need not stay in memory."""
        history = self.histories.get(run)
        if history is not None:
            history.entries.settle({volume: records})

    def missing(
        self, run: str, entries: Iterable[Entry], ticks: int, problem: str, upto: int = 0, volume: Volume | None = None
    ) -> None:
        """Stored data is missing, and this process did not delete it.

        Args:
            entries: the missing closed blocks.
            ticks: number of missing ticks.
            problem: why they are missing, for people.
            upto: the part of the open block published before this ordinal is missing; 0: not in the open block.
            volume: all closed blocks of this file are missing.
        """
        history = self.histories.get(run)
        whole = history.drop(volume) if history is not None and volume is not None else []
        gone = [entry for entry in entries if history.has(entry)] if history is not None else []
        opened = [batch for batch in history.open if batch.ordinal < upto] if history is not None else []
        lost: list[Stored | BlockRange] = [*whole, *gone, *opened]
        named = f"ticks {lost[0].first} to {lost[-1].last}" if lost else f"{ticks} ticks"
        if ticks or lost:
            self.tell(f"{named} of run {run} cannot be read and are missing from now on: {problem}")
        if history is None:
            return
        for entry in gone:
            history.remove(entry)
        history.open = history.open[len(opened) :]
        self.damaged += len(gone) + sum(block_range.blocks for block_range in whole)
        self._forget(history, gone)
        if volume is not None:
            self._forget_volume(history, volume)

    def _lose(self, run: Run, gone: Sequence[BlockRange], problem: UnreadableIndex) -> None:
        """The records of a file's blocks cannot be read any more."""
        self._cache.discard(lambda entry: entry.volume is problem.volume)
        if problem.volume.retired:  # a report of its deletion is on its way
            return
        self.damaged += sum(block_range.blocks for block_range in gone)
        ticks = f"ticks {gone[0].first} to {gone[-1].last} of run {run.id} cannot be read and are missing from now on"
        self.tell(f"{ticks}: {problem}")

    def _forget_volume(self, history: RunHistory, volume: Volume) -> None:
        self._cache.discard(lambda entry: entry.volume is volume)
        self._forget(history, [])

    def _forget(self, history: RunHistory, gone: list[Entry]) -> None:
        """Drop what is cached of blocks that were removed from their history, and an empty history."""
        for entry in gone:
            self._cache.pop(entry)
        if history.first is None:
            self.histories.pop(history.run.id, None)

    # ---- content ----

    @property
    def cached_bytes(self) -> int:
        """Bytes of cached decoded blocks."""
        return self._cache.bytes

    def get(self, run: Run, entry: Entry) -> list[Batch] | Load:
        """A block's ticks, or a load of them."""
        held = self._cache.get(entry)
        if held is not None:
            return held
        return self._load(run, [entry], "ticks")

    def frames(self, run: Run, row: Sequence[Entry]) -> bytearray | Load:
        """Blocks unchanged, or a load of them if the disk would have to be waited for."""
        try:
            found = row[0].volume.frames(row, wait=False)
        except (HistoryError, OSError):
            found = None  # the load will meet the same fault, and handle it
        return found if found is not None else self._load(run, row, "frames")

    def lines(self, run: Run, row: Sequence[Entry]) -> Load:
        """A load of blocks' lines, which are not parsed."""
        return self._load(run, row, "lines")

    def _load(self, run: Run, row: Sequence[Entry], form: Form) -> Load:
        key = row[0], len(row), form
        load = self._loads.get(key)
        if load is not None:
            return load
        assert self._elsewhere is not None, "there are no entries without a place to read them"
        load = self._loads[key] = Load(row, form)

        def read() -> None:
            volume = row[0].volume
            if form == "frames":
                load.frames = volume.frames(row)
            elif form == "lines":
                load.lines = [volume.lines(entry) for entry in row]
            else:
                load.batches = batches_of(run, volume.read(row[0]), row[0].ordinal)

        def done(problem: Exception | None) -> None:
            del self._loads[key]
            if problem is not None:
                load.frames = load.lines = load.batches = None
                self._blame(run, row, problem)
            elif load.batches is not None and run.id in self.histories:
                self._cache.put(row[0], load.batches)
            self.loaded += len(row)
            load.finish()

        self._elsewhere(read, done)
        return load

    def _blame(self, run: Run, row: Sequence[Entry], problem: Exception) -> None:
        """One of several blocks cannot be loaded: find out which, so that only that one is given up."""
        if len(row) == 1 or isinstance(problem, FileNotFoundError):
            self.fail(run, row[0], problem)
            return
        for entry in row:
            self._load(run, [entry], "frames")

    def fail(self, run: Run, entry: Entry, error: Exception) -> None:
        """A block cannot be loaded: from now on it is missing, with all others of its file if that is gone."""
        history = self.histories.get(run.id)
        if history is None or not history.has(entry):
            return  # deleted meanwhile, or already reported by another reader
        gone = isinstance(error, FileNotFoundError)
        lost: Sequence[Entry | BlockRange] = [entry]
        if gone:
            lost = history.drop(entry.volume)
            self._forget_volume(history, entry.volume)
        else:
            history.remove(entry)
            self._forget(history, [entry])
        if gone and entry.volume.retired:  # a report of its deletion is on its way
            return
        self.damaged += sum(one.blocks if isinstance(one, BlockRange) else 1 for one in lost)
        ticks = f"ticks {lost[0].first} to {lost[-1].last} of run {run.id} cannot be read and are missing from now on"
        told = f"{ticks}: {error.strerror if isinstance(error, OSError) else error}"
        self.tell(told, None if isinstance(error, Damaged | OSError) else error)

    def tell(self, damage: str, error: Exception | None = None) -> None:
        """Report damage once; ``error``: logged with it."""
        if damage in self.damage:
            return
        log.error("history: %s", damage, exc_info=error)
        if len(self.damage) < MAX_DAMAGE:
            self.damage.append(damage)


def _cost(_: Entry, batches: list[Batch]) -> int:
    return sum(batch.size + _TICK_BYTES * len(batch.ticks) for batch in batches)
