"""Retention: the oldest segments go, by their bytes and by their age; nothing else does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support import history_files
from tests.support.recorded import AT, TIMELESS, Clock, Writer, opened
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.history.archive import Archive
from tick_gateway.history.local.events import SegmentRemoved
from tick_gateway.history.local.index import save_index
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.history.restore_bus import restore

pytestmark = pytest.mark.usefixtures("nothing_left_open")


def retaining(tmp_path: Path, **limits: float) -> Writer:
    return Writer(tmp_path, Limits(block_ticks=2, segment_bytes=1, **TIMELESS | limits))


def test_retention_by_bytes(tmp_path: Path) -> None:
    writer = retaining(tmp_path, retain_bytes=1000)
    for t in range(20):
        writer.write([t])
        assert sum(path.stat().st_size for path in history_files.segments(tmp_path, "R")) == writer.recorder.size
    assert writer.recorder.size <= 1000 + 400
    removed = [event.segment.first for event in writer.recorder.events if isinstance(event, SegmentRemoved)]
    assert removed == sorted(removed) and removed[0] == 0
    left = opened(tmp_path)
    assert list(left.ticks["R"]) == list(range(removed[-1] + 2, 20)) and not left.damage
    assert left.runs[0].entries[0].ordinal == removed[-1] + 2, "what is gone is counted"
    writer.recorder.close()


def test_retention_by_age(tmp_path: Path, clock: Clock) -> None:
    """By when the newest tick of a segment was received."""
    writer = retaining(tmp_path, retain_age=10.0)
    for t in range(0, 20_000, 1000):  # a second between each two
        writer.write([t])
    writer.recorder.maintain()
    assert list(opened(tmp_path).ticks["R"]) == list(range(0, 20_000, 1000))
    clock.now = AT / 1000 + 19 + 0.5
    writer.recorder.maintain()
    assert list(opened(tmp_path).ticks["R"]) == list(range(10_000, 20_000, 1000))
    clock.now += 1e6
    writer.recorder.maintain()
    assert list(opened(tmp_path).ticks["R"]) == [18_000, 19_000], "the last segment of a run that goes on stays"
    writer.recorder.close()


@pytest.mark.parametrize("how", ["retention", "somebody", "killed before the index was saved"])
def test_where_deleted_blocks_ended_is_known_after_a_start(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So who has the last tick of them is told no gap, also where numbers are left out behind it."""
    writer = retaining(tmp_path)
    for t in range(0, 60, 10):
        writer.write([t, t + 5])  # a block, and a segment
    writer.write([60])
    writer.recorder.close()
    if how == "somebody":
        for path in history_files.segments(tmp_path, "R")[:3]:
            path.unlink()
    else:
        size = sum(path.stat().st_size for path in history_files.segments(tmp_path, "R")[3:])
        recorder = Recorder(tmp_path, Limits(retain_bytes=size + 1, **TIMELESS), opened(tmp_path).runs)
        if how != "retention":
            monkeypatch.setattr("tick_gateway.history.local.recorder.save_index", lambda run, settled: None)
        recorder.maintain()
        recorder.close()
    for _ in range(2):  # the second start has what the first one saved
        (stored,) = opened(tmp_path).runs
        assert stored.entries[0].first == 30 and stored.edges == {6: 25}
        bus, archive = TickBus(), Archive()
        restore(bus, archive, [stored], {})
        run = bus.runs["R"]
        history = archive.history(run)
        assert [history.missing_before(history.entries[0], t) for t in (20, 24, 25, 29)] == [True, True, False, False]
        assert run.evicted == 25, "memory has all that is left"
        save_index(stored)
    (tmp_path / "R" / "index").unlink()
    (stored,) = opened(tmp_path).runs
    assert stored.edges == {}, "the footers do not say"


def test_a_run_goes_with_its_last_segment(tmp_path: Path, clock: Clock) -> None:
    first = Writer(tmp_path, Limits(retain_age=10.0, **TIMELESS), name="A", seq=0)
    second = Writer(tmp_path, name="B", seq=1, recorder=first.recorder)
    first.write([1])
    first.end()
    second.write([5000])
    assert (tmp_path / "A").exists()
    clock.now += 14
    second.recorder.maintain()
    assert not (tmp_path / "A").exists() and list(second.recorder.runs) == ["B"]
    second.end()
    clock.now += 100
    second.recorder.maintain()
    assert not (tmp_path / "B").exists() and second.recorder.runs == {} and second.recorder.size == 0
    second.recorder.close()


def test_after_a_start_the_last_segment_stays(tmp_path: Path, clock: Clock) -> None:
    """The run goes on, though nothing was written to it since."""
    writer = Writer(tmp_path, Limits(**TIMELESS))
    writer.write([1])
    writer.recorder.close()
    clock.now += 1e6
    recorder = Recorder(tmp_path, Limits(retain_age=1.0, retain_bytes=1, **TIMELESS), opened(tmp_path).runs)
    recorder.maintain()
    assert list(opened(tmp_path).ticks["R"]) == [1]
    recorder.close()


def test_other_files_in_a_run_that_goes(tmp_path: Path, clock: Clock) -> None:
    writer = Writer(tmp_path, Limits(retain_age=10.0, **TIMELESS))
    writer.write([1])
    writer.end()
    (tmp_path / "R" / "notes.txt").write_text("mine")
    clock.now += 100
    writer.recorder.maintain()
    assert [path.name for path in (tmp_path / "R").iterdir()] == ["notes.txt"] and opened(tmp_path).runs == []
    writer.recorder.close()


def test_a_segment_that_cannot_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That is said, and writing goes on."""

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    writer = retaining(tmp_path, retain_bytes=500)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        for t in range(10):
            writer.write([t])
    assert "cannot be deleted" in caplog.text and list(opened(tmp_path).ticks["R"]) == list(range(10))
    assert not any(isinstance(event, SegmentRemoved) for event in writer.recorder.events)
    writer.recorder.maintain()
    assert any(isinstance(event, SegmentRemoved) for event in writer.recorder.events)
    writer.recorder.close()
