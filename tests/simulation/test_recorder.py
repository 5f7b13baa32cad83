"""The recorder under whatever happens, in any order: a state machine."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.faulty_disk import Disk
from tests.support.recorded import Clock, data_of, opened
from tick_gateway.bus.ring import Batch, Run
from tick_gateway.history.local import recorder as module
from tick_gateway.history.local.events import BlockClosed, SegmentIndexed, SegmentSealed
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.history.local.run import LocalRun
from tick_gateway.history.stored_block import Entry
from tick_gateway.model.tick import PublishedTick


class Machine(RuleBasedStateMachine):
    """Whatever happens: what was acknowledged is there, what is there was published, and the events tell what is."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock()
        self.patch.setattr(module, "time", self.clock)
        shared = Path("/dev/shm")
        self.scratch = tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None)
        self.directory = Path(self.scratch.name)
        self.disk = Disk(self.patch, self.directory)
        self.published: dict[str, dict[int, bytes]] = {}
        self.acknowledged: dict[str, set[int]] = {}
        self.histories: dict[str, list[Entry]] = {}
        self.live: Run | None = None
        self.runs = 0
        self.t = -1

    def teardown(self) -> None:
        self.recorder._drop_files()
        self.patch.undo()
        self.scratch.cleanup()

    @initialize(
        block_ticks=st.integers(1, 8), segment_bytes=st.sampled_from([1, 400, 1 << 20]),
        fsync=st.sampled_from(["never", "block", "interval"]),
    )  # fmt: skip
    def begin(self, block_ticks: int, segment_bytes: int, fsync: str) -> None:
        self.limits = Limits(
            block_ticks=block_ticks, block_age=60, segment_bytes=segment_bytes, segment_age=300, fsync=fsync
        )  # fmt: skip
        self.recorder = Recorder(self.directory, self.limits)

    def guarded(self, act: Callable[[], None]) -> bool:
        """Do something on the disk as it is; returns whether it went well."""
        try:
            if self.recorder.broken:
                self.recorder.resume()
            act()
        except OSError:
            assert self.disk.failed, "it fails where the disk does, alone"
            return False
        finally:
            self.take_events()
        return True

    def take_events(self) -> None:
        for event in self.recorder.events:
            if isinstance(event, BlockClosed):
                self.histories.setdefault(event.run, []).append(event.entry)
            elif not isinstance(event, SegmentSealed | SegmentIndexed):
                history = self.histories[event.run]
                self.histories[event.run] = [entry for entry in history if entry.volume is not event.segment]
        self.recorder.events.clear()

    @rule(counts=st.lists(st.integers(1, 5), min_size=1, max_size=4), step=st.integers(1, 3), lost=st.integers(0, 2))
    def write(self, counts: list[int], step: int, lost: int) -> None:
        """Some batches at once, perhaps behind ticks that were dropped."""
        if self.live is None:
            self.live = Run(f"run-{self.runs}", self.runs, self.t + 1 if self.t >= 0 else 0, int(self.clock.now * 1000))
            self.runs += 1
        run, batches = self.live, []
        for count in counts:
            self.t += lost * step
            ticks = []
            for _ in range(count):
                self.t += step
                ticks.append(PublishedTick(self.t, data_of(self.t), int(self.clock.now * 1000)))
            run.lost += lost
            batches.append(Batch(run, ticks, sum(len(tick.data) for tick in ticks), bool(lost), run.count + run.lost))
            run.count += count
            run.tip = self.t
            lost = 0
        ticks = [tick for batch in batches for tick in batch.ticks]
        self.published.setdefault(run.id, {}).update({tick.t: tick.data for tick in ticks})
        if self.guarded(lambda: self.recorder.write(batches)):
            self.acknowledged.setdefault(run.id, set()).update(tick.t for tick in ticks)

    @precondition(lambda self: self.live is not None)
    @rule(told=st.booleans())
    def end(self, told: bool) -> None:
        """The run is over; where that is not told (the disk failed), the next run tells it."""
        run, self.live = self.live, None
        assert run is not None
        run.ended = True
        self.t = -1
        if told:
            self.guarded(lambda: self.recorder.end(run))

    @rule(seconds=st.sampled_from([0.1, 2, 61, 400]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.guarded(self.recorder.maintain)

    @rule(first=st.integers(1, 12), count=st.integers(1, 6), error=st.sampled_from([errno.ENOSPC, errno.EIO]))
    def fail(self, first: int, count: int, error: int) -> None:
        """Some of the calls to come fail."""
        self.disk.calls, self.disk.error = 0, error
        self.disk.fails = range(first, first + count).__contains__

    @rule()
    def mend(self) -> None:
        self.disk.mend()

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        """Another process opens what this one left."""
        if clean:
            try:
                self.recorder.close()
            except OSError:
                assert self.disk.failed
        self.recorder._drop_files()
        self.disk.mend()
        self.take_events()
        found = opened(self.directory)
        assert not found.damage
        self.check(found.runs)
        self.recorder = Recorder(self.directory, self.limits, [run for run in found.runs if run.total])
        self.histories = {run.id: list(run.entries) for run in found.runs}
        if self.live is not None and self.live.id not in self.recorder.runs:
            self.live = None  # nothing of it is stored: nobody knows it any more
            self.t = -1

    @invariant()
    def events_tell_what_is_there(self) -> None:
        if hasattr(self, "recorder"):
            for name, run in self.recorder.runs.items():
                assert self.histories.get(name, []) == run.entries

    @invariant()
    def what_was_acknowledged_can_be_opened(self) -> None:
        """By another process, at any moment: in a copy, so that nothing is recovered under the recorder."""
        if not hasattr(self, "recorder") or not self.acknowledged:
            return
        copy = self.directory.with_name(self.directory.name + "-copy")
        error, self.disk.error = self.disk.error, None
        calls = self.disk.calls
        shutil.copytree(self.directory, copy)
        try:
            self.check(opened(copy).runs)
        finally:
            shutil.rmtree(copy)
            self.disk.error, self.disk.calls = error, calls

    def check(self, runs: list[LocalRun]) -> None:
        there = {run.id: run for run in runs}
        for name, acknowledged in self.acknowledged.items():
            published, tip, least = self.published[name], -1, 0
            found: set[int] = set()
            for entry in there[name].entries:
                block = entry.volume.read(entry)
                missing = [t for t in published if tip < t < entry.first]
                assert entry.ordinal >= least and (entry.ordinal > least or not missing), "what is missing is told"
                least = entry.ordinal + entry.count
                for t, line in zip(block.ts, block.lines.splitlines(), strict=True):
                    assert t > tip and published[t] == line
                    tip = t
                    found.add(t)
            assert acknowledged <= found, f"{name}: {sorted(acknowledged - found)} are lost"


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
