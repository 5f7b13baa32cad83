"""Applies the plan for a directory of history. The last of three steps in which one is opened; see ``scan``.

Steps that the disk does not allow stay in the plan, and are done before anything else is written, once the disk works
again. Each step can be interrupted anywhere and repeated.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple
from zlib import crc32

from ...errors import Damaged
from ..format.block import decompress
from ..stored_block import Block, Entry
from ..stored_run import UnclosedBlock
from .disk import set_aside, write_at
from .index import save_index
from .recovery_plan import RunPlan
from .run import LocalRun
from .salvage import Rescued, take
from .segment_file import Segment
from .segment_index import SegmentIndex
from .tail_recovery import Recovery

log = logging.getLogger("tick_gateway.history")


class Applied(NamedTuple):
    """The result of applying a plan.

    closed: the blocks that were closed.
        closed: the blocks that were closed.
        gone: parts of the plan that are obsolete: their file was deleted.
        trouble: why a part of the plan is left; None: nothing is.
    """

    closed: Sequence[Entry]
    gone: Sequence[Recovery]
    trouble: OSError | None


def settle(plan: RunPlan) -> None:
    """Do the parts of a plan that write nothing: take over what is known of the run, and blocks that are served from
    where they are."""
    run, after = plan.run, plan.after
    run.know(after.total, -1)
    if not run.started:
        run.started, run.origin = after.started, after.origin
    run.edges = dict(after.edges)
    for recovery in plan.recoveries:
        for adopted in recovery.adopted:
            take(run, adopted)
    plan.recoveries = [one._replace(adopted=()) for one in plan.recoveries if one.keep is not None]


def apply(plan: RunPlan, settled: Callable[[SegmentIndex], None] | None = None) -> Applied:
    """Do the rest of a settled plan, as far as the disk allows; ``settled`` as for ``save_index``."""
    run = plan.run
    closed: list[Entry] = []
    gone: list[Recovery] = []
    left: list[Recovery] = []
    trouble: OSError | None = None
    for recovery in plan.recoveries:
        try:
            entry = apply_recovery(run, recovery)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not segment_of(run, recovery.file).path.exists():
                gone.append(recovery)
                continue
            trouble = error
            left.append(recovery)
            continue
        closed += [entry] if entry is not None else []
        if recovery.cut:
            log.warning("history: %s/%s: %d torn bytes were cut off", run.id, recovery.file, recovery.cut)
    plan.recoveries = left
    _remove_empty(plan)
    if plan.save_index and run.segments:
        with contextlib.suppress(OSError):  # a cache: the next start makes it again
            save_index(run, settled)
    plan.save_index = False
    return Applied(closed, gone, trouble)


def _remove_empty(plan: RunPlan) -> None:
    """Delete files without any block; failing to delete one is not reported."""
    waiting = {recovery.file for recovery in plan.recoveries}
    for name in [name for name in plan.empty if name not in waiting]:
        plan.empty.remove(name)
        segment = segment_of(plan.run, name)
        with contextlib.suppress(OSError):
            segment.path.unlink()
            plan.run.segments.remove(segment)


# ---- the end of a segment ----


def apply_recovery(run: LocalRun, recovery: Recovery) -> Entry | None:
    """Do what the plan says for a segment's end; returns the entry of the block that was closed, if any.

    Afterwards ``segment.size`` is the file's size, unless the rest of it is damaged.

    Raises:
        OSError: it failed; the file's content is not worse than before.
    """
    segment, entry = segment_of(run, recovery.file), None
    if recovery.keep is not None:
        entry = _rewrite_tail(run, segment, recovery, recovery.keep)
    if entry is not None:
        segment.size = entry.offset + entry.frame + entry.footer
        take(run, entry)
    for adopted in recovery.adopted:
        take(run, adopted)
    return entry


def _rewrite_tail(run: LocalRun, segment: Segment, recovery: Recovery, keep: int) -> Entry | None:
    """Cut a segment, and write what its last block lacks, including its footer."""
    block, entry, rest = recovery.block, None, b""
    if block is not None:
        footer = run.footer(
            recovery.ordinal, block.ts, block.ats, size=block.size, frame=block.frame, crc=block.crc
        )  # fmt: skip
        packed = footer.pack()
        rest = block.closing + packed
        entry = Entry.of(segment, block.begin, footer, len(packed))
    with segment.path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        begun = size != recovery.size  # an earlier attempt cut bytes off and wrote a part of the rest
        sound = not begun or (size >= keep and rest.startswith(os.pread(file.fileno(), size - keep, keep)))
        if not sound or not _is_there(file.fileno(), block):
            raise OSError(errno.EBUSY, f"{run.id}/{segment.name} was changed since it was read")
        if recovery.aside is not None and not begun:
            begin, end = recovery.aside
            set_aside(segment.path, begin, os.pread(file.fileno(), end - begin, begin))
        os.ftruncate(file.fileno(), keep)
        if rest:
            write_at(file.fileno(), rest, keep)
        os.fsync(file.fileno())
    return entry


def _is_there(fd: int, block: Rescued | None) -> bool:
    """Whether a block that is to be closed is still in its file as it was when that was decided."""
    if block is None:
        return True
    return crc32(block.closing, crc32(os.pread(fd, block.there, block.begin))) == block.crc


def segment_of(run: LocalRun, name: str) -> Segment:
    """The segment of a run with that name."""
    return next(segment for segment in run.segments if segment.name == name)


# ---- what is left ----


def unclosed_block(plan: RunPlan) -> UnclosedBlock | None:
    """The block at the end of a run that has yet to be closed, to be served meanwhile; None: there is none.

    Raises:
        OSError: it cannot be read.
    """
    for recovery in plan.recoveries:
        block = recovery.block
        if block is not None and recovery.file == plan.run.segments[-1].name:
            frame = segment_of(plan.run, recovery.file).load(block.begin, block.end) + block.closing
            with contextlib.suppress(Damaged):  # changed since: do not serve it
                return UnclosedBlock(recovery.ordinal, Block(decompress(frame, block.size), block.ts, block.ats))
    return None
