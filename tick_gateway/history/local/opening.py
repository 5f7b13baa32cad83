"""What could not be done when a directory was opened (a draft)."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field

from ..stored_run import UnclosedBlock
from .events import BlockClosed, StorageEvent
from .index import save_index
from .run import LocalRun
from .segment_file import Segment
from .tail_recovery import Recovered, peek_tail, recover_tail

log = logging.getLogger("tick_gateway.history")


@dataclass
class Debt:
    """What could not be done when a directory was opened, and is owed before anything is written there.

    Attributes:
        trouble: why, as a sentence; empty: nothing is owed.
        tails: segments whose ends could not be recovered, with their runs.
        torn: what is in those that are their run's last, by run.
        damage: what was found to be wrong besides.
    """

    trouble: str = ""
    tails: list[tuple[LocalRun, Segment]] = field(default_factory=list)
    torn: dict[str, UnclosedBlock] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)

    def owe(self, run: LocalRun, segment: Segment) -> None:
        """Leave a segment's end as it is, and learn what is in it.

        Raises:
            OSError: it cannot be read.
        """
        self.tails.append((run, segment))
        torn = peek_tail(run, segment)
        if torn is not None and segment is run.segments[-1]:
            self.torn[run.id] = torn

    def pay(self, events: list[StorageEvent]) -> None:
        """Recover what is owed; ``events`` are told of blocks that were closed.

        Raises:
            OSError: it still cannot be done; what could be is done.
        """
        while self.tails:
            run, segment = self.tails[0]
            recovered = _recover(run, segment)
            if recovered.entry is not None:
                events.append(BlockClosed(run.id, recovered.entry))
            del self.tails[0]


def recover(run: LocalRun, debt: Debt, *, writable: bool) -> None:
    """Close what a crash left open in a run's segments; what the disk does not let be closed is owed. Where the index
    did not say all of it, it is saved anew, so that the next start need not ask the footers again.

    Raises:
        OSError: a file cannot be read.
    """
    changed = False
    for segment in run.segments:
        if not writable:
            debt.owe(run, segment)
            continue
        try:
            recovered = _recover(run, segment)
        except OSError as error:
            debt.trouble = f"what a crash left cannot be closed: {error.strerror}"
            debt.owe(run, segment)
            continue
        changed = changed or recovered != Recovered()
        if recovered.damage:
            debt.damage.append(f"{run.id}/{segment.name}: {recovered.damage}")
        elif recovered.cut and segment is not run.segments[-1]:  # no crash did that
            debt.damage.append(f"{run.id}/{segment.name}: {recovered.cut} bytes at its end belonged to no block")
    run.entries.sort()
    run.prune()
    owed = {segment for _, segment in debt.tails}
    for segment in [one for one in run.segments if one not in owed and not one.path.stat().st_size]:  # no block came
        with contextlib.suppress(OSError):
            segment.path.unlink()
            run.segments.remove(segment)
    if changed or (writable and run.told_by_footers and run.segments):
        with contextlib.suppress(OSError):  # a cache: it is made anew at the next start
            save_index(run)
            run.told_by_footers = False


def _recover(run: LocalRun, segment: Segment) -> Recovered:
    recovered = recover_tail(run, segment)
    if recovered.cut:
        log.warning("history: %s/%s: %d torn bytes were cut off", run.id, segment.name, recovered.cut)
    return recovered
