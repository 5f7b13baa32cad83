"""Opens a directory of history: scans it, plans what to do about it, and applies the plan. Also recovers a single
segment after writing to it failed.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from ..block_index import Blocks
from ..engine import Progress
from ..record_page import UnreadableIndex
from ..stored_block import Entry
from ..stored_run import UnclosedBlock
from .apply_plan import apply, apply_recovery, settle, unclosed_block
from .recovery_plan import RunPlan, plan_directory, plan_run
from .run import LocalRun
from .scan import ScannedRun, read_journal, scan_directory, scan_run, scan_tail
from .segment_file import Segment
from .tail_recovery import plan_tail

log = logging.getLogger("tick_gateway.history")


@dataclass(slots=True)
class OpenedDirectory:
    """An open directory.

    Attributes:
        runs: in the order in which they began.
        damage: descriptions of what is wrong in it.
        left: what could not be done, and has to be done before anything is written.
        trouble: why; empty: nothing is left.
        unclosed: by run, blocks at their ends that will be closed then.
    """

    runs: list[LocalRun]
    damage: list[str]
    left: list[RunPlan] = field(default_factory=list)
    trouble: str = ""
    unclosed: dict[str, UnclosedBlock] = field(default_factory=dict)


def open_directory(directory: Path, *, writable: bool = True, progress: Progress | None = None) -> OpenedDirectory:
    """Open a directory whose lock the caller holds, and close what a crash left open.

    Args:
        writable: if false, nothing in it is changed, and everything that has to be done is left.
        progress: called with the progress of reading.

    Raises:
        OSError: a file cannot be read.
        HistoryError: the directory contains something else, or a format that this program does not know.
    """
    plan = plan_directory(map(_plan, scan_directory(directory, progress)))
    opened = OpenedDirectory([one.run for one in plan.runs], plan.damage)
    for one in plan.runs:
        settle(one)
        trouble = apply(one).trouble if writable else None
        if trouble is not None:
            opened.trouble = f"what a crash left cannot be closed: {trouble.strerror}"
        if one.is_done:
            continue
        opened.left.append(one)
        block = unclosed_block(one)
        if block is not None:
            opened.unclosed[one.run.id] = block
    return opened


def _plan(scanned: ScannedRun) -> RunPlan:
    try:
        return plan_run(scanned)
    except UnreadableIndex as error:
        log.warning("history: %s; the footers are asked", error)
        return plan_run(scan_run(scanned.directory, by_footers=True))


class Recovered(NamedTuple):
    """The result for a segment's end: the block that was closed, if any; and a description of damage."""

    entry: Entry | None = None
    damage: str = ""


def recover_segment(run: LocalRun, segment: Segment) -> Recovered:
    """Close what a failure left open at a segment's end.

    Raises:
        OSError: the files cannot be read or written; their content is not worse than before.
        HistoryError: the journal has a format that this program does not know.
    """
    journal = read_journal(segment.path.parent)
    tail = scan_tail(segment, journal)
    after = replace(run, entries=Blocks(run.entries))
    if journal is not None:
        after.know(journal.published, -1)
    if tail is None:
        run.know(after.total, -1)
        return Recovered()
    recovery = plan_tail(
        after, segment, tail, journal, last=segment is run.segments[-1], changed_at=segment.changed_at
    )  # fmt: skip
    run.know(after.total, -1)
    if not run.started:
        run.started, run.origin = after.started, after.origin
    return Recovered(apply_recovery(run, recovery), recovery.damage)
