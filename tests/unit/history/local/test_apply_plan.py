"""What was planned is done; what the disk does not take stays in the plan, and is done before anything is written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support import history_files
from tests.support.faulty_disk import Disk
from tests.support.recorded import LIMITS, TIMELESS, Writer, data_of, files, lay, opened
from tick_gateway.errors import Locked
from tick_gateway.history.local.apply_plan import apply, settle
from tick_gateway.history.local.events import BlockClosed, TicksMissing
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.lock import DirectoryLock
from tick_gateway.history.local.opening import OpenedDirectory, open_directory
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.history.local.recovery_plan import RunPlan, plan_run
from tick_gateway.history.local.scan import scan_run
from tick_gateway.history.local.segment_file import walk

TICKS = {t: data_of(t) for t in range(6)}


@pytest.fixture
def run(tmp_path: Path) -> Writer:
    """A run as a crash leaves it: no closed block, and an open one of six ticks."""
    writer = Writer(tmp_path / "history", LIMITS)
    for t in TICKS:
        writer.write([t])
    held = files(writer.folder)
    writer.recorder.close()
    lay(writer.folder, held)
    return writer


def segment(run: Writer) -> Path:
    (path,) = history_files.segments(run.directory, "R")
    return path


def read_only(run: Writer) -> OpenedDirectory:
    """The directory, opened where nothing can be written."""
    before = files(run.folder)
    found = open_directory(run.directory, writable=False)
    assert files(run.folder) == before
    return found


def test_what_cannot_be_written_is_served_and_done_later(run: Writer) -> None:
    found = read_only(run)
    (plan,), unclosed = found.left, found.unclosed["R"]
    assert (unclosed.ordinal, list(unclosed.block.ts)) == (0, list(TICKS))
    assert unclosed.block.lines.splitlines() == list(TICKS.values())
    assert list(found.runs[0].entries) == [] and not plan.is_done
    recorder = Recorder(run.directory, LIMITS, found.runs, found.left)
    assert recorder.broken, "it comes before all writing"
    recorder.resume()
    (event,) = [one for one in recorder.events if isinstance(one, BlockClosed)]
    assert (event.entry.first, event.entry.last) == (0, 5)
    assert plan.is_done and not recorder.broken
    recorder.write([run.batch([6])])
    recorder.close()
    assert opened(run.directory).ticks["R"] == TICKS | {6: data_of(6)}


def test_a_block_without_a_footer_is_served_before_anything_is_written(tmp_path: Path) -> None:
    """Its footer is damaged and the index is gone, behind it a crash left a block open, and the disk takes nothing."""
    run = Writer(tmp_path / "history", Limits(block_ticks=3, **TIMELESS))
    for t in range(5):
        run.write([t])
    held = files(run.folder)
    run.recorder.close()
    held.pop("index", None)
    lay(run.folder, held)
    (footer,) = walk(segment(run)).footers
    data = bytearray(segment(run).read_bytes())
    data[footer.end - 10] ^= 1
    segment(run).write_bytes(data)
    found = read_only(run)
    assert [(entry.first, entry.last) for entry in found.runs[0].entries] == [(0, 2)]
    assert list(found.unclosed["R"].block.ts) == [3, 4]
    recorder = Recorder(run.directory, LIMITS, found.runs, found.left)
    recorder.resume()
    assert [(entry.first, entry.last) for entry in found.runs[0].entries] == [(0, 2), (3, 4)]
    recorder.close()
    assert opened(run.directory).ticks["R"] == run.written


def test_a_disk_that_fails_at_any_call(run: Writer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At the start, and again and again: all comes back when it works."""
    held, disk = files(run.folder), Disk(monkeypatch, tmp_path)
    calls = 0
    while True:
        calls += 1
        lay(run.folder, held)
        disk.calls, disk.error, disk.fails = 0, errno.ENOSPC, lambda call, first=calls: call >= first  # type: ignore[misc]
        found = open_directory(run.directory)
        if not found.trouble:
            break
        assert found.trouble == f"what a crash left cannot be closed: {os.strerror(errno.ENOSPC)}"
        assert list(found.unclosed["R"].block.ts) == list(TICKS), disk.names
        recorder = Recorder(run.directory, LIMITS, found.runs, found.left)
        with pytest.raises(OSError):
            recorder.resume()
        disk.mend()
        recorder.resume()
        assert opened(run.directory).ticks["R"] == TICKS
        history_files.whole(segment(run))
    disk.mend()
    assert calls > 3 and opened(run.directory).ticks["R"] == TICKS, "what is left then is a cache"


def test_a_file_that_somebody_changed_meanwhile_is_left_alone(run: Writer) -> None:
    """Nothing is cut off that was not looked at, and no footer is put on other bytes."""
    for change in ("longer", "other"):
        held = files(run.folder)
        found = read_only(run)
        data = segment(run).read_bytes()
        changed = data + b"more" if change == "longer" else data[:20] + bytes([data[20] ^ 1]) + data[21:]
        segment(run).write_bytes(changed)
        recorder = Recorder(run.directory, LIMITS, found.runs, found.left)
        with pytest.raises(OSError, match=f"R/{segment(run).name} was changed since it was read"):
            recorder.resume()
        assert segment(run).read_bytes() == changed and recorder.broken
        lay(run.folder, held)


def test_a_file_that_somebody_deleted_meanwhile_is_missing(run: Writer) -> None:
    found = read_only(run)
    segment(run).unlink()
    recorder = Recorder(run.directory, LIMITS, found.runs, found.left)
    recorder.resume()
    (event,) = [one for one in recorder.events if isinstance(one, TicksMissing) and one.ticks]
    assert (event.ticks, event.upto, event.problem) == (6, 6, os.strerror(errno.ENOENT))
    recorder.write([run.batch([6])])
    recorder.close()
    assert opened(run.directory).ticks["R"] == {6: data_of(6)}


def test_the_lock_comes_first(run: Writer) -> None:
    """A directory that could not be locked: another process may have taken it meanwhile."""
    found, lock = read_only(run), DirectoryLock(run.directory)
    recorder = Recorder(run.directory, LIMITS, found.runs, found.left, lock)
    with DirectoryLock(run.directory), pytest.raises(OSError, match="in use by process"):
        recorder.resume()
    assert found.left[0].recoveries and recorder.broken
    recorder.resume()
    assert lock.held and found.left[0].is_done
    with pytest.raises(Locked):
        DirectoryLock(run.directory).acquire()
    recorder.close()
    lock.release()


def damaged(run: Writer) -> tuple[RunPlan, bytes]:
    """The last flush of the open block is damaged: a plan, and the bytes that are to be kept aside."""
    path, end = segment(run), run.flushes[-2].end
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    plan = plan_run(scan_run(run.folder))
    settle(plan)
    return plan, bytes(data[end:])


def test_damaged_bytes_are_kept_aside_once(run: Writer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However often it has to be begun anew."""
    plan, aside = damaged(run)
    disk = Disk(monkeypatch, tmp_path)
    for call in range(1, 8):
        disk.calls, disk.error, disk.fails = 0, errno.EIO, lambda number, at=call: number == at  # type: ignore[misc]
        applied = apply(plan)
        assert (applied.trouble is None) == (not plan.recoveries)
    disk.mend()
    apply(plan)
    assert plan.is_done
    (kept,) = run.folder.glob("*.damaged")
    assert kept.read_bytes() == aside
    assert opened(run.directory).ticks["R"] == {t: data for t, data in TICKS.items() if t < 5}


def test_files_in_which_no_block_came_to_be_are_deleted(run: Writer) -> None:
    held = files(run.folder)
    empty = run.folder / "0000000000000100.jsonl.zst"
    for there in (b"", b"\x28\xb5"):
        lay(run.folder, held)
        empty.write_bytes(there)
        found = open_directory(run.directory)
        assert not empty.exists() and [one.name for one in found.runs[0].segments] == [segment(run).name]


def test_an_index_that_said_too_little_is_saved(run: Writer) -> None:
    (plan,) = [plan_run(scan_run(run.folder))]
    settle(plan)
    assert plan.save_index and apply(plan).trouble is None
    again = plan_run(scan_run(run.folder))
    assert again.is_done and len(again.run.entries) == 1
