"""What of the published ticks is on disk, kept beside the gateway, by run and number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy
from typing import TYPE_CHECKING

import orjson

from tick_gateway.bus.ring import Batch, Run
from tick_gateway.errors import Damaged
from tick_gateway.history.local.events import BlockClosed
from tick_gateway.history.local.store import Store
from tick_gateway.history.run_history import batches_of
from tick_gateway.history.stored_block import Entry

if TYPE_CHECKING:
    from .truth import Truth

Numbers = defaultdict[str, set[int]]


class Ledger:
    """Which ticks history has.

    Attributes:
        written: they are on disk, and were not damaged or deleted since.
        known: the loop was told so: from here on readers find them there.
        lost: what was damaged or deleted by somebody else.
        excused: ticks that readers were given without being stored, while the disk was slow or failing.
        late: ticks that had left memory before the loop knew that they are stored.
        seen: ticks that came to any client.
    """

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._early: list[tuple[str, int]] = []
        self.written: Numbers = defaultdict(set)
        self.known: Numbers = defaultdict(set)
        self.lost: Numbers = defaultdict(set)
        self.excused: Numbers = defaultdict(set)
        self.late: Numbers = defaultdict(set)
        self.seen: Numbers = defaultdict(set)

    # ---- what the gateway does ----

    def write(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            self.written[batch.run.id] |= {tick.t for tick in batch.ticks}

    def close(self, run: str, entry: Entry) -> None:
        """A block holds all that was published between its ends, or was written of it: no tick from elsewhere."""
        numbers = self._inside(run, entry)
        assert len(numbers) == entry.count, f"a block of {entry.count} ticks covers {sorted(numbers)}"
        self.written[run] |= numbers - self.lost[run]

    def know(self, batches: Iterable[Batch], closed: Iterable[BlockClosed]) -> None:
        found = [(batch.run.id, {tick.t for tick in batch.ticks}) for batch in batches]
        found += [(event.run, self._inside(event.run, event.entry)) for event in closed]
        for run, numbers in found:
            evicted = self._truth.bus.runs[run].evicted if run in self._truth.bus.runs else -1
            self.late[run] |= {t for t in numbers - self.known[run] if t <= evicted}
            self.known[run] |= numbers & self.written[run]

    def show(self, batches: Iterable[Batch]) -> None:
        """Readers are given ticks; see ``stands``."""
        for batch in batches:
            early = {tick.t for tick in batch.ticks} - self.written[batch.run.id] - self.lost[batch.run.id]
            self.excused[batch.run.id] |= early
            self._early += [(batch.run.id, t) for t in early]

    def stands(self, state: str) -> None:
        """What was shown so far is stored, or the gateway says that it does not store."""
        early, self._early = self._early, []
        assert not early or state != "ok", f"shown before they are stored: {early}"

    def remove(self, run: str, low: int, high: int) -> None:
        """The gateway deleted ticks with low <= t < high."""
        gone = {t for t in self.written[run] if low <= t < high}
        self.written[run] -= gone
        self.known[run] -= gone
        self.excused[run] |= gone

    # ---- what others do ----

    def lose(self, run: str, low: int, high: int) -> None:
        """Ticks with low <= t < high were damaged or deleted by somebody else."""
        self.lost[run] |= {t for t in self.written[run] if low <= t < high}
        self.remove(run, low, high)

    def see(self, run: str, t: int) -> None:
        """A client got a tick: a crash must not take it back."""
        self.seen[run].add(t)
        stands = t in self.written[run] or t in self.excused[run] or t in self.lost[run]
        assert stands, f"{run}:{t} came to a client, and a crash would take it back"

    # ---- a new process ----

    def reopened(self, store: Store) -> None:
        """Read all that came back: it must be what was written, byte for byte."""
        found: Numbers = defaultdict(set)
        for history in store.archive.histories.values():
            for entry in history.entries:
                found[history.run.id] |= self._read(history.run, entry)
            found[history.run.id] |= self._check(history.run, history.open)
        for run in list(self.written):
            missing = self.written[run] - found[run]
            assert not missing, f"stored, and not there after a restart: {run} {sorted(missing)}"
        self.written = found
        self.known = defaultdict(set, {run: set(numbers) for run, numbers in found.items()})

    def _read(self, run: Run, entry: Entry) -> set[int]:
        own = copy(entry)  # reading marks it as verified
        try:
            block = own.volume.read(own)
        except (Damaged, OSError) as error:
            healthy = [t for t in self._inside(run.id, entry) if t not in self.lost[run.id]]
            assert not healthy, f"{run.id} {healthy}: {error}"
            return set()
        return self._check(run, batches_of(run, block, own.ordinal))

    def _check(self, run: Run, batches: Sequence[Batch]) -> set[int]:
        ticks = [tick for batch in batches for tick in batch.ticks]
        for tick in ticks:
            told = self._truth.by_u[orjson.loads(tick.data)["u"]]
            if tick.t not in self.written[run.id] or tick.t in self.lost[run.id]:
                # Without a journal or a footer, its time is a guess, and each time may be another one.
                told = self._truth.by_u[told.u] = told._replace(at=tick.at)
            assert (told.run, told.t, told.data, told.at) == (run.id, *tick), f"{told} came back as {tick}"
        return {tick.t for tick in ticks}

    def _inside(self, run: str, entry: Entry) -> set[int]:
        life = self._truth.lives.get(run)
        return set(life.ts[life.at(entry.first) : life.at(entry.last + 1)]) if life is not None else set()
