"""Plans what to do about a directory of history. The second of three steps in which one is opened; see ``scan``.

A run is what its index and its footers say. Blocks with ticks that other blocks have are left out, blocks that lost
their footers are put at their places. Then come segment ends that a crash left open (``tail_recovery``), files without
any block, and an incomplete index.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import NamedTuple

from ..block_index import Blocks
from ..stored_block import Entry
from .run import LocalRun
from .salvage import adopt, told_of
from .scan import ScannedRun
from .segment_file import Segment
from .tail_recovery import Recovery, plan_tail


@dataclass(slots=True)
class RunPlan:
    """What to do about a run. What was done is removed from it; see ``apply_plan``.

    Attributes:
        run: the run as it is stored. It can be served before anything is done, without the results of ``recoveries``.
        after: what will be known of it in addition when everything is done.
        damage: descriptions of what is wrong, except at segment ends, beginning with the file's name.
        recoveries: what to do about ends of segments, oldest first.
        empty: names of segments without any block, to be deleted.
        save_index: the index is incomplete, and has to be saved.
        unknown_since: if neither footer nor journal says when the run began: when its first segment was changed, ms
            since the epoch; else None.
    """

    run: LocalRun
    after: LocalRun
    damage: list[str] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    save_index: bool = False
    unknown_since: int | None = None

    @property
    def is_done(self) -> bool:
        """Nothing is left to be done."""
        return not (self.recoveries or self.empty or self.save_index)

    @property
    def tail_damage(self) -> Iterator[str]:
        """Descriptions of what is wrong with its ends, beyond the effects of a crash."""
        for one in self.recoveries:
            if one.damage:
                yield f"{self.run.id}/{one.file}: {one.damage}"
            elif one.cut and one.file != self.run.segments[-1].name:  # no crash does that
                yield f"{self.run.id}/{one.file}: {one.cut} bytes at its end belonged to no block"


class DirectoryPlan(NamedTuple):
    """What to do about a directory: its runs in the order in which they began; descriptions of damage."""

    runs: list[RunPlan]
    damage: list[str]


def plan_directory(found: Iterable[RunPlan]) -> DirectoryPlan:
    """Plan for a directory, from the plans for its runs."""
    plans: dict[str, RunPlan] = {}
    damage: list[str] = []
    for plan in found:
        damage += plan.damage
        if plan.run.id in plans:
            name = plan.run.directory.name if plan.run.directory is not None else ""
            damage.append(f"{name}: run {plan.run.id} has another folder, too; what is in this one is not read")
        else:
            plans[plan.run.id] = plan
    place_strangers(plans.values())
    runs = sorted(plans.values(), key=lambda plan: (plan.run.seq, plan.run.started, plan.run.id))
    for plan in runs:
        damage += plan.tail_damage
    return DirectoryPlan(runs, damage)


def place_strangers(plans: Iterable[RunPlan]) -> None:
    """Put runs without any footer or journal after those that had begun when they were written."""
    known = [plan.run for plan in plans if plan.unknown_since is None]
    placed: list[int] = []
    strangers = [(plan.unknown_since, plan.run) for plan in plans if plan.unknown_since is not None]
    for since, stranger in sorted(strangers, key=itemgetter(0)):
        earlier = [run.seq for run in known if run.started <= since]
        stranger.seq = 1 + max([*earlier, *placed], default=-1)
        placed.append(stranger.seq)


def plan_run(scanned: ScannedRun) -> RunPlan:
    """Plan for a run.

    Raises:
        UnreadableIndex: the index of a segment cannot be read: scan the run by its footers.
    """
    name = scanned.directory.name
    run = LocalRun(scanned.id, directory=scanned.directory, segments=[one.segment for one in scanned.segments])
    _take_facts(run, scanned)
    damage = [
        f"{name}/{one.segment.name}: at {at} is a block of run {other}"
        for one in scanned.segments for at, other in one.foreign
    ]  # fmt: skip
    run.entries = Blocks(scanned.entries)
    run.entries.sort()
    damage += [f"{name}/{sentence}" for sentence in _drop_doubles(run)]
    for one in scanned.segments:
        for stray in one.strays:
            taken = adopt(run, one.segment, stray, one.changed_at)
            damage.append(f"{name}/{one.segment.name}: {told_of(stray, taken)}")
    bounds = run.entries.bounds
    run.know(run.stored, bounds[1].last if bounds else -1)
    unknown_since = scanned.segments[0].changed_at if scanned.segments and not run.started else None
    after = replace(run, entries=Blocks(run.entries), edges=dict(run.edges), segments=list(run.segments))
    recoveries = list(_plan_tails(after, scanned))
    left = [one.segment for one in scanned.segments if one.size]
    for recovery in recoveries:
        if recovery.keep == 0 and recovery.block is None:
            left = [segment for segment in left if segment.name != recovery.file]
    return RunPlan(
        run, after, damage, recoveries, [one.name for one in run.segments if one not in left],
        bool(left and any(one.walked for one in scanned.segments)), unknown_since,
    )  # fmt: skip


def _take_facts(run: LocalRun, scanned: ScannedRun) -> None:
    """Take over what is known of the run as a whole: from its index, then its footers, else its journal."""
    index = scanned.index
    if index is not None:
        run.seq, run.started, run.origin = index.seq, index.started, index.origin
        run.ended, run.lost_tail = index.ended, index.lost_tail
        run.know(index.total, index.tip)
        there = {segment.name for segment in run.segments}
        run.edges = dict(index.edges)
        for listed in index.segments:
            if listed.name not in there and listed.blocks:  # deleted since: its blocks are now missing
                run.edges[listed.total] = listed.last
    for one in scanned.segments:
        if one.facts is not None:
            run.seq, run.started, run.origin = one.facts.seq, one.facts.started, one.facts.origin
            run.know(one.facts.total, one.facts.tip)
            if one.facts.ended:
                run.ended, run.lost_tail = True, one.facts.lost_tail
    head = scanned.journal.head if scanned.journal is not None else None
    if not run.started and head is not None:
        run.seq, run.started, run.origin = head.seq, head.started, head.origin


def _drop_doubles(run: LocalRun) -> Iterator[str]:
    """Leave out blocks with numbers that other blocks have: every tick once, even if files were copied there."""
    if run.entries.disjoint:
        return
    last, doubles = -1, False
    kept = Blocks()
    for entry in run.entries:
        if entry.first > last:
            kept.append(entry)
            last = entry.last
        else:
            doubles = True
            yield f"{_file(entry)}: the block at {entry.offset} has ticks {entry.first} to {entry.last} once more"
    if doubles:
        run.entries = kept


def _file(entry: Entry) -> str:
    return entry.volume.name if isinstance(entry.volume, Segment) else ""


def _plan_tails(after: LocalRun, scanned: ScannedRun) -> Iterator[Recovery]:
    """What to do about the ends of a run's segments; ``after`` is the run as it will be."""
    journal = scanned.journal
    if journal is not None:
        # not the tip: ticks that were not acknowledged are sent again, and must be accepted
        after.know(journal.published, -1)
    for one in scanned.segments:
        if one.tail is not None:
            last = one is scanned.segments[-1]
            yield plan_tail(after, one.segment, one.tail, journal, last=last, changed_at=one.changed_at)
    after.entries.sort()
    after.prune()
