"""The records of a segment's blocks, on disk: any fault of theirs, and memory that does not grow with the blocks."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.support import history_files
from tests.support.recorded import AT, Clock, Writer, opened, planned
from tick_gateway.bus.ring import Run
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.history import block_index
from tick_gateway.history.archive import Archive
from tick_gateway.history.format.block_record import HEAD, RECORD_BYTES
from tick_gateway.history.local import recorder
from tick_gateway.history.local.events import BlockClosed, SegmentIndexed
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.run import LocalRun
from tick_gateway.history.local.segment_index import SegmentIndex, index_path, index_paths, mend_indexes
from tick_gateway.history.restore_bus import restore
from tick_gateway.history.run_history import RunHistory
from tick_gateway.history.stored_block import Entry
from tick_gateway.settings import Settings

SMALL = Limits(block_ticks=3, block_age=1e12, segment_bytes=400, segment_age=0, fsync="never")


@pytest.fixture(autouse=True)
def few_pages() -> Iterator[None]:
    """Pages of two records, of which one stays in memory."""
    with patch.object(block_index, "_PAGE", 2), patch.object(block_index, "_PAGES", 1):
        yield


@pytest.fixture
def run(tmp_path: Path) -> LocalRun:
    """Three segments, each of two blocks of three ticks, as a start finds them."""
    writer = Writer(tmp_path, SMALL)
    for t in range(15):
        writer.write([t])
    writer.recorder.close()
    (found,), damage = planned(tmp_path)
    assert len(found.segments) == 3 and not damage
    return found


def ranges(run: LocalRun) -> list[block_index.BlockRange]:
    return run.entries.files


# ---- faults ----


def test_any_byte_of_a_segments_index(run: LocalRun, caplog: pytest.LogCaptureFixture) -> None:
    """The footers tell the same, and then the file is written anew."""
    path = index_path(run.segments[1].path)
    whole, before = path.read_bytes(), [entry.record() for entry in run.entries]
    assert len(whole) == len(HEAD) + 2 * RECORD_BYTES
    for at in range(len(whole)):
        for changed in (whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :], whole[:at]):
            path.write_bytes(changed)
            caplog.clear()
            block_index._cache.forget([one.records for one in ranges(run)])
            assert [entry.record() for entry in run.entries] == before
            assert caplog.text.count("its index cannot be read, its footers are") == 1
            mend_indexes(ranges(run))
            assert path.read_bytes() == whole


def gone(path: Path, other: Path) -> None:
    path.unlink()


def replaced(path: Path, other: Path) -> None:
    shutil.copy(other, path)


def no_file(path: Path, other: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path, other: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FAULTS = [gone, replaced, no_file, a_pipe]


@pytest.mark.parametrize("how", FAULTS)
def test_a_segments_index_goes_while_it_is_used(
    run: LocalRun, tmp_path: Path, how: Callable[[Path, Path], None]
) -> None:
    before = [entry.record() for entry in run.entries]
    path = index_path(run.segments[1].path)
    whole = path.read_bytes()
    how(path, index_path(run.segments[0].path))
    assert [entry.record() for entry in run.entries] == before
    mend_indexes(ranges(run))
    assert [entry.record() for entry in run.entries] == before
    if how is not no_file:
        assert path.read_bytes() == whole


@pytest.mark.parametrize("how", FAULTS)
def test_a_start_without_a_segments_index(run: LocalRun, tmp_path: Path, how: Callable[[Path, Path], None]) -> None:
    path = index_path(run.segments[1].path)
    whole, before = path.read_bytes(), [entry.record() for entry in run.entries]
    how(path, index_path(run.segments[0].path))
    if how is no_file:
        path.rmdir()
    (again,) = opened(tmp_path).runs
    assert [entry.record() for entry in again.entries] == before and path.read_bytes() == whole


def test_an_index_and_its_segment_are_damaged(run: LocalRun, tmp_path: Path) -> None:
    """What cannot be told of any more is missing, and all else is served."""
    archive = Archive()
    history = archive.add(Run("R", 3, 0, AT), run.entries)
    index_path(run.segments[1].path).unlink()
    path = run.segments[1].path
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    found, t = [], -1
    while isinstance(entry := history.after(t), Entry):
        found.append(entry.first)
        t = entry.last
    assert found == [0, 3, 12]
    assert history.missing_before(history.entries[2], 5) and archive.damaged == 2
    (told,) = archive.damage
    assert told.startswith("ticks 6 to 11 of run R cannot be read and are missing from now on: the index of 0000")
    assert [entry.first for entry in history.upto(20)] == [12, 3, 0]


def test_an_inventory_writes_indexes_anew(tmp_path: Path) -> None:
    writer = Writer(tmp_path, SMALL)
    for t in range(20):
        writer.write([t])
    paths = index_paths(writer.folder)
    held = {path: path.read_bytes() for path in paths}
    assert len(paths) == 3
    for path in paths:
        path.unlink()
    writer.recorder.maintain()
    assert {path: path.read_bytes() for path in index_paths(writer.folder)} == held


def test_many_indexes_are_written_anew_little_by_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks are not kept waiting while the footers of all files are read."""
    writer = Writer(tmp_path, SMALL)
    for t in range(20):
        writer.write([t])
    clock, by_footers = Clock(), SegmentIndex._by_footers

    def slowly(index: SegmentIndex) -> bytes:
        clock.now += 1
        return by_footers(index)

    monkeypatch.setattr(recorder, "time", clock)
    monkeypatch.setattr(SegmentIndex, "_by_footers", slowly)
    held = {path: path.read_bytes() for path in index_paths(writer.folder)}
    for path in held:
        path.unlink()
    for count in range(len(held)):
        assert len(index_paths(writer.folder)) == count
        writer.recorder.maintain()
    assert {path: path.read_bytes() for path in index_paths(writer.folder)} == held


def test_indexes_go_with_their_segments_and_their_run(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Limits(block_ticks=3, block_age=1e12, segment_bytes=400, segment_age=0, fsync="never",
                                     retain_bytes=500))  # fmt: skip
    for t in range(40):
        writer.write([t])
        names = {path.name for path in history_files.segments(tmp_path, "R")}
        for path in index_paths(writer.folder):
            assert path.with_suffix(".jsonl.zst").name in names
    other = Writer(tmp_path, seq=4, name="S", recorder=writer.recorder)
    for t in range(40):
        other.write([t])
        other.end() if t == 39 else None
    assert not writer.folder.exists() or index_paths(writer.folder)


# ---- memory ----


def test_what_is_sealed_is_held_in_memory_no_more(tmp_path: Path) -> None:
    """Neither by the thread that writes nor by the loop, which is told."""
    writer = Writer(tmp_path, SMALL)
    history = RunHistory(writer.run)
    for t in range(30):
        writer.write([t])
        for event in writer.recorder.events:
            if isinstance(event, SegmentIndexed):
                history.entries.settle({event.segment: event.records})
            elif isinstance(event, BlockClosed):
                history.close(event.entry)
        writer.recorder.events.clear()
        mine = writer.recorder.runs["R"].entries
        assert list(history.entries) == list(mine)
        for blocks in (history.entries, mine):
            for one in blocks.files:
                segment = next(segment for segment in writer.recorder.runs["R"].segments if segment is one.volume)
                assert isinstance(one.records, SegmentIndex) == segment.sealed
    assert len(history.entries.files) == 5


def test_a_block_that_was_lost_before_its_segment_was_sealed(tmp_path: Path) -> None:
    """The loop knows of it alone; what is left of its file is found in the index all the same."""
    writer = Writer(
        tmp_path, Limits(block_ticks=1, block_age=1e12, segment_bytes=1 << 20, segment_age=0, fsync="never")
    )
    for t in range(9):
        writer.write([t])
    entries = list(writer.recorder.runs["R"].entries)
    history = RunHistory(writer.run, entries)
    for lost in (0, 4, 5, 8):
        history.remove(entries[lost])
    writer.end()
    (settled,) = (event for event in writer.recorder.events if isinstance(event, SegmentIndexed))
    history.entries.settle({settled.segment: settled.records})
    left = [entries[at] for at in (1, 2, 3, 6, 7)]
    assert list(history.entries) == left
    assert {type(one.records) for one in history.entries.ranges(settled.segment)} == {SegmentIndex}
    history.remove(entries[6])
    assert list(history.entries) == [entry for entry in left if entry != entries[6]]


def started(directory: Path) -> tuple[int, int, int]:
    """Start with a history, and look around in it; returns how many blocks it has, and the bytes of Python's heap that
    this took at its peak and took in the end."""
    block_index._cache.forget([key[0] for key in block_index._cache._pages])
    tracemalloc.start()
    runs, damage = planned(directory)
    bus, archive = TickBus(Settings(ring=10)), Archive()
    restore(bus, archive, runs, {})
    history = archive.histories["R"]
    blocks = len(history.entries)
    for t in range(0, runs[0].tip, runs[0].tip // 20):
        assert history.after(t - 1) is not None and history.received_since(AT + t) is not None
        assert history.unbroken(history.entries[history.entries.below(t + 1) - 1], runs[0].tip) == runs[0].tip
        history.back(t, 5, 2)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not damage
    return blocks, held, peak


def test_memory_does_not_grow_with_the_number_of_blocks(tmp_path: Path) -> None:
    found = []
    for blocks in (400, 4000):
        directory = tmp_path / str(blocks)
        limits = Limits(block_ticks=1, block_age=1e12, segment_bytes=blocks * 28, segment_age=0, fsync="never")
        writer = Writer(directory, limits)
        for t in range(blocks):
            writer.write([t])
        writer.end()
        writer.recorder.close()
        started(directory)  # what is made once
        found.append((*started(directory), len(history_files.segments(directory, "R"))))
    (few, held, peak, files), (many, held_of_many, peak_of_many, more_files) = found
    assert (few, many) == (400, 4000) and abs(files - more_files) <= 1
    bound = (many - few) * RECORD_BYTES // 4  # what tuples and lists of the interpreter's own take comes and goes
    assert held_of_many - held < bound and peak_of_many - peak < bound
