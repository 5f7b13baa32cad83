"""The recorder: when blocks are closed and segments sealed, what is forced to the disk, what is let go.

(``tests/unit/history/local/test_recorder_faults.py`` lets each of its calls fail, and be its last.)
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from tests.support import history_files
from tests.support.faulty_disk import Disk
from tests.support.recorded import FOREVER, TIMELESS, Clock, Writer, counts, data_of, footers, opened
from tick_gateway.history.local.events import BlockClosed
from tick_gateway.history.local.limits import Limits

pytestmark = pytest.mark.usefixtures("nothing_left_open")


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


def test_a_run_of_which_nothing_was_written(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Limits(**TIMELESS))
    writer.batch([1])
    writer.end()
    writer.recorder.close()
    assert opened(tmp_path).runs == [] and not (tmp_path / "R").exists()


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
