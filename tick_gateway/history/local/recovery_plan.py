"""What a directory of history comes to, and what is to be done about it. The second of three steps; see ``scan``.

A run is taken as its index and its footers have it. Blocks that others have already are left out, blocks that lost
their footers are put where they belong. Then come the ends that a crash left open (``tail_recovery``), files in which
no block came to be, and an index that does not say all of it.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import NamedTuple

from ..block_index import Blocks, Entry
from .run import LocalRun
from .salvage import adopt, told_of
from .scan import ScannedRun
from .segment_file import Segment
from .tail_recovery import Recovery, plan_tail


@dataclass(slots=True)
class RunPlan:
    """What is to be done about a run. What was done is taken away from it; see ``apply``.

    Attributes:
        run: the run as it lies there. It can be served before anything is done, but for what ``recoveries`` bring.
        after: what is known of it besides when all is done.
        damage: what was found to be wrong before its ends, as sentences that begin with the file.
        recoveries: what is to be done about ends of segments, oldest first.
        empty: names of segments in which no block came to be, to be deleted.
        save_index: the index is to be saved, since it does not say all of it.
        unknown_since: neither footer nor journal tells when the run began; when its first segment was changed, ms since
            the epoch. None: one does.
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
        """What was found to be wrong with its ends, beyond what a crash explains."""
        for one in self.recoveries:
            if one.damage:
                yield f"{self.run.id}/{one.file}: {one.damage}"
            elif one.cut and one.file != self.run.segments[-1].name:  # no crash did that
                yield f"{self.run.id}/{one.file}: {one.cut} bytes at its end belonged to no block"


class DirectoryPlan(NamedTuple):
    """What is to be done about a directory: its runs in the order in which they began; what is damaged, as
    sentences."""

    runs: list[RunPlan]
    damage: list[str]


def plan_directory(found: Iterable[RunPlan]) -> DirectoryPlan:
    """Decide what to do about a directory, by what is planned for its runs."""
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
    """Runs of which no footer and no journal is left come behind those that had begun when they were written."""
    known = [plan.run for plan in plans if plan.unknown_since is None]
    placed: list[int] = []
    strangers = [(plan.unknown_since, plan.run) for plan in plans if plan.unknown_since is not None]
    for since, stranger in sorted(strangers, key=itemgetter(0)):
        earlier = [run.seq for run in known if run.started <= since]
        stranger.seq = 1 + max([*earlier, *placed], default=-1)
        placed.append(stranger.seq)


def plan_run(scanned: ScannedRun) -> RunPlan:
    """Decide what to do about a run.

    Raises:
        UnreadableIndex: what its index says of a segment cannot be read: it has to be scanned by its footers.
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
    """What is known of a run as a whole: by its index, then by its footers, else by its journal."""
    index = scanned.index
    if index is not None:
        run.seq, run.started, run.origin = index.seq, index.started, index.origin
        run.ended, run.lost_tail = index.ended, index.lost_tail
        run.know(index.total, index.tip)
        there = {segment.name for segment in run.segments}
        run.edges = dict(index.edges)
        for listed in index.segments:
            if listed.name not in there and listed.blocks:  # deleted since: its blocks are missing from here on
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
    """Leave out blocks with numbers that others have: every tick once, whatever files were put there."""
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
    """What is to be done about the ends of a run's segments; ``after`` is as the run will be."""
    journal = scanned.journal
    if journal is not None:
        after.know(journal.published, -1)  # not the tip: what was not acknowledged comes again, and has to find room
    for one in scanned.segments:
        if one.tail is not None:
            last = one is scanned.segments[-1]
            yield plan_tail(after, one.segment, one.tail, journal, last=last, changed_at=one.changed_at)
    after.entries.sort()
    after.prune()
