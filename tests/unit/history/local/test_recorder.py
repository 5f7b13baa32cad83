"""The recorder: when blocks are closed and segments sealed, what is forced to the disk, what is let go.

(``tests/unit/history/local/test_recorder_faults.py`` lets each of its calls fail, and be its last.)
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import history_files
from tests.support.faulty_disk import Disk
from tests.support.recorded import AT, FOREVER, Clock, Writer, data_of, opened
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.history.archive import Archive
from tick_gateway.history.external.importing import NOTE, write_note
from tick_gateway.history.format.segment import Footer
from tick_gateway.history.local import recorder as module
from tick_gateway.history.local.events import BlockClosed, SegmentRemoved
from tick_gateway.history.local.index import save_index
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.lock import LOCK
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.history.local.segment_file import walk
from tick_gateway.history.local.verify import verify
from tick_gateway.history.restoring import restore

TIMELESS: dict[str, Any] = {"block_age": FOREVER, "segment_age": 0.0, "fsync": "never"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was forced to the disk: names of files and folders."""
    names: list[str] = []

    def fsync(fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        names.append(path.name + "/" * stat.S_ISDIR(os.fstat(fd).st_mode))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("without /proc it is not known which file a call is for")
    monkeypatch.setattr(os, "fsync", fsync)
    return names


def footers(directory: Path, run: str = "R") -> list[list[Footer]]:
    """The footers in each segment of a run."""
    return [[found.footer for found in walk(path).footers] for path in history_files.segments(directory, run)]


def counts(directory: Path, run: str = "R") -> list[list[int]]:
    """How many ticks are in each block of each segment; a seal has none."""
    return [[footer.count for footer in segment] for segment in footers(directory, run)]


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    yield
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1


# ---- blocks and segments ----


def test_blocks_by_ticks_and_bytes(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "ticks", Limits(block_ticks=4, **TIMELESS))
    for t in range(10):
        writer.write([t])
    writer.recorder.close()
    assert counts(tmp_path / "ticks") == [[4, 4, 2]]
    size = len(data_of(1000) + data_of(1001) + data_of(1002)) + 3  # line feeds
    writer = Writer(tmp_path / "bytes", Limits(block_bytes=size, **TIMELESS))
    for t in (1000, 1001, 1002, 1003, 1004):
        writer.write([t])
    writer.write([1005, 1006, 1007])
    writer.recorder.close()
    assert counts(tmp_path / "bytes") == [[3, 5]], "what is written together stays together"


def test_a_block_by_age(tmp_path: Path, clock: Clock) -> None:
    writer = Writer(tmp_path, Limits(block_age=60, segment_age=0, fsync="never"))
    writer.write([1])
    clock.now += 59
    writer.recorder.maintain()
    assert counts(tmp_path) == [[]] and not writer.recorder.events
    clock.now += 1
    writer.recorder.maintain()
    assert counts(tmp_path) == [[1]]
    (event,) = writer.recorder.events
    assert isinstance(event, BlockClosed) and (event.run, event.entry.first) == ("R", 1)
    writer.recorder.close()


def test_segments_by_bytes(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Limits(block_ticks=2, segment_bytes=400, **TIMELESS))
    for t in range(12):
        writer.write([t])
    assert counts(tmp_path) == [[2, 2, 0], [2, 2, 0], [2, 2, 0]], "each ends with a seal"
    assert all(segment[-1].sealed and not segment[-1].ended for segment in footers(tmp_path))
    assert [path.name[:16] for path in history_files.segments(tmp_path, "R")] == [f"{t:016d}" for t in (0, 4, 8)]
    assert all(segment.sealed for segment in writer.recorder.runs["R"].segments)
    writer.recorder.close()


def test_a_segment_by_age(tmp_path: Path, clock: Clock) -> None:
    """By the clock where nothing comes, by its ticks' times where they come from elsewhere."""
    limits = Limits(block_ticks=1, block_age=FOREVER, segment_age=100, fsync="never")
    writer = Writer(tmp_path, limits)
    writer.write([0])
    clock.now += 99
    writer.recorder.maintain()
    writer.write([1])
    assert counts(tmp_path) == [[1, 1]]
    clock.now += 1
    writer.recorder.maintain()
    assert counts(tmp_path) == [[1, 1, 0]]
    writer.write([2])  # received at AT + 2
    writer.write([100_001])
    assert counts(tmp_path)[1:] == [[1, 1]]
    writer.write([100_002])  # 100 s after the first of the segment
    assert counts(tmp_path)[1:] == [[1, 1, 1, 0]]
    writer.recorder.close()


def test_an_old_segment_is_not_opened_again(tmp_path: Path) -> None:
    """Not by the next process either: whoever has a copy of a sealed file has all of it."""
    writer = Writer(tmp_path, Limits(block_ticks=2, segment_bytes=400, **TIMELESS))
    for t in range(4):
        writer.write([t])
    (sealed,) = history_files.segments(tmp_path, "R")
    held = sealed.read_bytes()
    writer.recorder.close()
    again = Recorder(tmp_path, Limits(segment_bytes=1 << 30, **TIMELESS), opened(tmp_path).runs)
    again.write([writer.batch([4, 5])])
    again.close()
    assert sealed.read_bytes() == held and counts(tmp_path) == [[2, 2, 0], [2]]


def test_a_segment_with_room_is_opened_again(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Limits(**TIMELESS))
    writer.write([0, 1])
    writer.recorder.close()
    again = Recorder(tmp_path, Limits(**TIMELESS), opened(tmp_path).runs)
    again.write([writer.batch([2])])
    again.close()
    assert counts(tmp_path) == [[2, 1]]
    assert [footer.ordinal for footer in footers(tmp_path)[0]] == [0, 2]


def test_a_hole_closes_a_block(tmp_path: Path) -> None:
    """The next block's ordinal tells of it."""
    writer = Writer(tmp_path, Limits(**TIMELESS))
    writer.write([0, 5])
    writer.write([20], lost=2)
    writer.recorder.close()
    assert [(footer.ordinal, footer.count) for footer in footers(tmp_path)[0]] == [(0, 2), (4, 1)]


# ---- ends of runs ----


def test_a_run_that_ends(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Limits(**TIMELESS))
    writer.write([3, 4])
    writer.end()
    writer.end()
    ((block, seal),) = footers(tmp_path)
    assert (seal.sealed, seal.ended, seal.lost_tail) == (True, True, False)
    assert (block.count, seal.frame, seal.ordinal, seal.last) == (2, 0, 2, 4)
    run = opened(tmp_path).runs[0]
    assert run.ended and not run.lost_tail
    history_files.whole(*history_files.segments(tmp_path, "R"))
    writer.recorder.close()


def test_the_next_run_ends_the_one_before(tmp_path: Path) -> None:
    """Its end is told behind the next one's first ticks: that one's segment is not disturbed."""
    first = Writer(tmp_path, Limits(**TIMELESS), name="A", seq=0)
    second = Writer(tmp_path, name="B", seq=1, recorder=first.recorder)
    first.write([1])
    first.run.ended = True
    second.write([1])
    assert counts(tmp_path, "A") == [[1, 0]] and footers(tmp_path, "A")[0][-1].ended
    first.end()
    second.write([2])
    second.recorder.close()
    assert counts(tmp_path, "B") == [[2]]


def test_a_run_whose_end_comes_late(tmp_path: Path) -> None:
    """Another one is written to already: its open block stays open."""
    first = Writer(tmp_path, Limits(**TIMELESS), name="A", seq=0)
    second = Writer(tmp_path, name="B", seq=1, recorder=first.recorder)
    first.write([1])
    second.write([1])
    assert not first.recorder.runs["A"].ended
    first.end()
    second.write([2])
    second.recorder.close()
    assert footers(tmp_path, "A")[-1][-1].ended and counts(tmp_path, "B") == [[2]]
    assert [run.id for run in opened(tmp_path).runs if run.ended] == ["A"]


def test_what_a_run_lost_at_its_end(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Limits(**TIMELESS))
    writer.write([1])
    writer.batch([2, 3])  # published, and never written
    writer.end()
    writer.recorder.close()
    run = opened(tmp_path).runs[0]
    assert run.ended and run.lost_tail and run.tip == 1


def test_an_end_behind_a_sealed_segment(tmp_path: Path) -> None:
    """It stands in a file of its own, named by the number behind the tip: a sealed one does not change."""
    writer = Writer(tmp_path, Limits(block_ticks=1, segment_bytes=1, **TIMELESS))
    writer.write([7])
    held = history_files.segments(tmp_path, "R")[0].read_bytes()
    writer.end()
    writer.recorder.close()
    old, new = history_files.segments(tmp_path, "R")
    assert old.read_bytes() == held and new.name.startswith("0000000000000008") and counts(tmp_path) == [[1, 0], [0]]
    assert opened(tmp_path).runs[0].ended


def test_a_run_of_which_nothing_was_written(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Limits(**TIMELESS))
    writer.batch([1])
    writer.end()
    writer.recorder.close()
    assert opened(tmp_path).runs == [] and not (tmp_path / "R").exists()


def test_any_name_that_a_run_may_have(tmp_path: Path) -> None:
    """None of them stands in the way of the directory's own files."""
    recorder = Recorder(tmp_path, Limits(**TIMELESS))
    names = ["lock", "index", "journal", "tail.json", NOTE.strip("."), LOCK.strip("."), "0", "a" * 64, "A.jsonl.zst"]
    names = list(dict.fromkeys(names))
    for seq, name in enumerate(names):
        writer = Writer(tmp_path, name=name, seq=seq, recorder=recorder)
        writer.write([seq])
        writer.end()
    recorder.close()
    write_note(tmp_path, {"any": "note"})
    assert [run.id for run in opened(tmp_path).runs] == names
    assert {path.name for path in tmp_path.iterdir()} == {*names, NOTE}


@pytest.mark.parametrize(
    "run, folder",
    [("NUL", "~NUL~"), ("com1.x", "~com1.x~"), ("a.", "~a.~"), ("a..", "~a..~"), ("nully", "nully"), ("com10", "com10"),
     ("x.nul", "x.nul")],
)  # fmt: skip
def test_names_that_windows_has_no_folders_for(tmp_path: Path, run: str, folder: str) -> None:
    writer = Writer(tmp_path, name=run)
    writer.write([1, 2])
    writer.end()
    writer.recorder.close()
    assert [path.name for path in tmp_path.iterdir()] == [folder]
    assert [found.id for found in opened(tmp_path).runs] == [run] and verify(tmp_path).findings == []


@pytest.fixture
def one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that does not tell a from A, as those of Windows and macOS."""

    def there(path: Path) -> bool:
        return path.parent.is_dir() and path.name.lower() in {name.lower() for name in os.listdir(path.parent)}

    monkeypatch.setattr(os.path, "lexists", there)


@pytest.mark.usefixtures("one_case")
def test_runs_whose_names_differ_in_case_alone(tmp_path: Path) -> None:
    """Each has a folder of its own, also when another process goes on with one of them."""
    names = ["Sim", "sim", "SIM", "nul", "NUL"]
    for life in range(2):
        recorder = Recorder(tmp_path, Limits(**TIMELESS), [run for run in opened(tmp_path).runs if run.segments])
        for seq, name in enumerate(names if not life else names[-1:]):
            writer = Writer(tmp_path, name=name, seq=seq + 4 * life, recorder=recorder)
            writer._count = life
            writer.write([seq + 10 * life])
        recorder.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SIM~3", "Sim", "sim~2", "~NUL~2", "~nul~"]
    assert {run.id: len(run.entries) for run in opened(tmp_path).runs} == dict.fromkeys(names, 1) | {"NUL": 2}


def test_two_folders_of_one_run(tmp_path: Path) -> None:
    """As a copy between systems may make them: one is read, and the other one told."""
    writer = Writer(tmp_path, name="R")
    writer.write([1])
    writer.recorder.close()
    shutil.copytree(tmp_path / "R", tmp_path / "R~2")
    found = opened(tmp_path)
    assert [run.id for run in found.runs] == ["R"] and any("has another folder" in told for told in found.damage)


# ---- what is forced to the disk ----


def test_fsync_never(tmp_path: Path, clock: Clock, synced: list[str]) -> None:
    writer = Writer(tmp_path, Limits(block_ticks=2, segment_bytes=300, block_age=FOREVER, segment_age=0, fsync="never"))
    for t in range(9):
        writer.write([t])
        clock.now += 10
        writer.recorder.maintain()
    writer.end()
    writer.recorder.close()
    assert synced == []


def test_fsync_block(tmp_path: Path, clock: Clock, synced: list[str]) -> None:
    """A block is on the disk when it is closed, a new file and its folder before anything is in it."""
    writer = Writer(tmp_path, Limits(block_ticks=2, block_age=FOREVER, segment_age=0, fsync="block"))
    segment = "0000000000000000.jsonl.zst"
    writer.write([0])
    assert synced == [f"{tmp_path.name}/", "R/"]
    clock.now += 100
    writer.recorder.maintain()
    writer.write([1])
    assert synced[2:] == [segment]
    writer.write([2, 3])
    assert synced[3:] == [segment]
    writer.write([4])
    writer.end()
    assert synced[4:] == [segment, segment], "the block, the seal"
    writer.recorder.close()


def test_fsync_interval(tmp_path: Path, clock: Clock, synced: list[str]) -> None:
    """What was acknowledged is on the disk when the interval has passed: by the next write, or by maintenance."""
    limits = Limits(block_age=FOREVER, segment_age=0, fsync="interval", fsync_interval=2.0)
    writer = Writer(tmp_path, limits)
    segment = "0000000000000000.jsonl.zst"
    writer.write([0])
    synced.clear()
    clock.now += 1
    writer.write([1])
    assert synced == []
    clock.now += 1
    writer.write([2])
    assert synced == [segment, "journal"]
    clock.now += 5
    writer.recorder.maintain()
    assert synced == [segment, "journal"], "nothing was written since"
    writer.write([3])
    clock.now += 2
    writer.recorder.maintain()
    assert synced[2:] == [segment, "journal"]
    writer.recorder.close()
    assert synced[4:] == [segment], "the footer"


# ---- retention ----


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


# ---- files that vanish ----


def test_the_active_file_is_deleted(tmp_path: Path) -> None:
    """It is found at the next write; writing goes on in another file, behind a hole."""
    writer = Writer(tmp_path, Limits(block_ticks=2, **TIMELESS))
    for t in range(3):
        writer.write([t])
    (path,) = history_files.segments(tmp_path, "R")
    path.unlink()
    with pytest.raises(OSError, match="No such file"):
        writer.write([3])
    assert writer.recorder.broken
    writer.recorder.resume()
    writer.write([4])
    writer.recorder.close()
    found = opened(tmp_path)
    assert list(found.ticks["R"]) == [4] and found.runs[0].entries[0].ordinal == 4


def test_the_directory_is_deleted(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "history", Limits(**TIMELESS))
    writer.write([0])
    shutil.rmtree(tmp_path / "history")
    with pytest.raises(OSError):
        writer.write([1])
    writer.recorder.resume()
    writer.write([2])
    writer.recorder.close()
    assert list(opened(tmp_path / "history").ticks["R"]) == [2]


def test_the_active_file_is_cut(tmp_path: Path) -> None:
    """Nothing is written behind the hole; what is left of it comes back."""
    writer = Writer(tmp_path, Limits(block_ticks=2, **TIMELESS))
    for t in range(5):
        writer.write([t])
    (path,) = history_files.segments(tmp_path, "R")
    os.truncate(path, writer.flushes[2].end + 5)
    with pytest.raises(OSError, match="cut while"):
        writer.recorder.maintain()
    writer.recorder.resume()
    writer.write([6], lost=1)
    writer.recorder.close()
    found = opened(tmp_path)
    assert {0, 1, 6} <= set(found.ticks["R"]) <= {0, 1, 2, 6}
    assert found.ticks["R"] == {t: data_of(t) for t in found.ticks["R"]}


def test_another_file_where_a_new_segment_goes(tmp_path: Path) -> None:
    """It is kept aside: nothing is written behind somebody else's bytes."""
    (tmp_path / "R").mkdir()
    (tmp_path / "R" / "0000000000000003.jsonl.zst").write_bytes(b"mine")
    writer = Writer(tmp_path, Limits(**TIMELESS))
    writer.write([3])
    writer.recorder.close()
    assert (tmp_path / "R" / "0000000000000003.jsonl.zst.0.damaged").read_bytes() == b"mine"
    assert list(opened(tmp_path).ticks["R"]) == [3]


def test_a_disk_that_takes_a_byte_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:1], at))
    writer = Writer(tmp_path, Limits(block_ticks=3, **TIMELESS))
    for t in range(7):
        writer.write([t])
    writer.end()
    writer.recorder.close()
    assert opened(tmp_path).ticks["R"] == writer.written


def test_a_disk_that_takes_nothing_and_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(tmp_path, Limits(**TIMELESS))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: 0)
    with pytest.raises(OSError, match="nothing could be written"):
        writer.write([1])


def test_resume_that_fails_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was acknowledged outlives any number of them."""
    disk = Disk(monkeypatch, tmp_path)
    writer = Writer(tmp_path, Limits(block_ticks=3, **TIMELESS))
    for t in range(5):
        writer.write([t])
    disk.break_()
    with pytest.raises(OSError):
        writer.write([5])
    for call in range(8):
        disk.calls, disk.fails = 0, lambda number, call=call: number > call  # type: ignore[misc]
        if call < 3:
            with pytest.raises(OSError):
                writer.recorder.resume()
            assert writer.recorder.broken
    disk.mend()
    if writer.recorder.broken:
        writer.recorder.resume()
    writer.write([6], lost=1)
    writer.recorder.close()
    found = opened(tmp_path).ticks["R"]
    assert {0, 1, 2, 3, 4, 6} <= set(found) and not {5} & set(found) - {5}
