"""What a scan finds in a directory that was written by a recorder, and then damaged: facts, and nothing is changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import history_files
from tests.support.recorded import AT, Writer, files, lay
from tick_gateway.errors import HistoryError
from tick_gateway.history.format.journal import Ending
from tick_gateway.history.local import scan as module
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.scan import RunFacts, ScannedRun, scan_directory, scan_run
from tick_gateway.history.local.segment_file import Segment, Walk, walk

THREES = Limits(block_ticks=3, block_age=1e12, segment_bytes=400, segment_age=0, fsync="never")


@pytest.fixture
def run(tmp_path: Path) -> Writer:
    """Two sealed segments, each of two blocks of three ticks, and one with a block and an open one of two ticks."""
    writer = Writer(tmp_path, THREES)
    for t in range(17):
        writer.write([t])
    held = files(writer.folder)
    writer.recorder.close()
    lay(writer.folder, held)
    assert len(history_files.segments(tmp_path, "R")) == 3
    return writer


def scanned(run: Writer, *, by_footers: bool = False) -> ScannedRun:
    """A scan; what was scanned is as it was."""
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.folder.iterdir()}
    found = scan_run(run.folder, by_footers=by_footers)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.folder.iterdir()} == before
    return found


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)


def test_what_a_crash_leaves(run: Writer) -> None:
    found = scanned(run)
    assert found.id == "R" and found.index is not None and not found.index_fault
    assert [one.walked for one in found.segments] == [False, False, True], "of the others the index tells"
    assert [one.segment.sealed for one in found.segments] == [True, True, False]
    assert [entry.first for entry in found.entries] == [0, 3, 6, 9, 12]
    last = found.segments[-1]
    assert last.facts == RunFacts(3, AT, 0, 15, 14, False, False)
    assert not last.strays and not last.foreign and not last.seals
    tail = last.tail
    assert tail is not None and tail.open is not None and (tail.begin, tail.end) == (last.segment.size, last.size)
    assert tail.open.flushed is not None and tail.open.flushed.ts == [15, 16] and not tail.open.damaged
    assert tail.open.flushed.ats == [AT + 15, AT + 16] and tail.open.whole is None


def test_a_clean_end_leaves_no_tail(tmp_path: Path) -> None:
    writer = Writer(tmp_path, THREES)
    for t in range(17):
        writer.write([t])
    writer.recorder.close()
    found = scanned(writer)
    assert not any(one.walked or one.tail for one in found.segments)
    assert [entry.first for entry in found.entries] == [0, 3, 6, 9, 12, 15]


def test_the_footers_tell_the_same_as_the_index(run: Writer) -> None:
    by_index, by_footers = scanned(run), scanned(run, by_footers=True)
    assert all(one.walked for one in by_footers.segments)
    assert [entry.record() for entry in by_index.entries] == [entry.record() for entry in by_footers.entries]
    assert [(one.segment.size, one.segment.sealed) for one in by_index.segments] == [
        (one.segment.size, one.segment.sealed) for one in by_footers.segments
    ]
    assert [len(one.seals) for one in by_footers.segments] == [1, 1, 0]
    assert [one.facts.total for one in by_footers.segments if one.facts is not None] == [6, 12, 15]
    (seal,) = by_footers.segments[0].seals
    assert seal[1] == by_footers.segments[0].size


def test_an_index_that_does_not_fit_a_file(run: Writer) -> None:
    """That file's footers tell; of the others the index does."""
    path = history_files.segments(run.directory, "R")[1]
    flip(path, path.stat().st_size - 12)  # in the last footer's CRC
    found = scanned(run)
    assert [one.walked for one in found.segments] == [False, True, True]
    tail = found.segments[1].tail
    assert tail is not None and tail.remains.footer and tail.open is None, "a seal that is damaged"


def test_an_index_that_cannot_be_read(run: Writer, caplog: pytest.LogCaptureFixture) -> None:
    flip(run.folder / "index", 40)
    found = scanned(run)
    assert found.index is None and found.index_fault == "the index's CRC does not match"
    assert "R: the index's CRC does not match; it is made anew" in caplog.text
    assert all(one.walked for one in found.segments)
    (run.folder / "index").unlink()
    assert (scanned(run).index, scanned(run).index_fault) == (None, "")
    (run.folder / "index").mkdir()
    found = scan_run(run.folder)
    assert found.index is None and found.index_fault.startswith("the index cannot be read: ")
    assert [entry.first for entry in found.entries] == [0, 3, 6, 9, 12]


def test_a_file_that_was_longer_once(run: Writer) -> None:
    path = history_files.segments(run.directory, "R")[0]
    os.truncate(path, path.stat().st_size - 200)
    first = scanned(run).segments[0]
    assert first.segment.shortened and first.walked and first.tail is not None


def test_bytes_between_footers_that_belong_to_no_block(run: Writer) -> None:
    path = history_files.segments(run.directory, "R")[0]
    block, footer, *_ = history_files.frames(path)
    flip(path, footer.at + 30)
    found = scanned(run, by_footers=True)
    (stray,) = found.segments[0].strays
    assert (stray.begin, stray.end) == (0, footer.at + footer.size)
    (bare,) = stray.blocks
    assert (bare.begin, bare.frame, bare.first, bare.last, bare.ticks) == (0, block.size, 0, 2, 3)
    assert [entry.first for entry in found.entries] == [3, 6, 9, 12]


def test_a_block_of_another_run(run: Writer) -> None:
    other = Writer(run.directory / "other", THREES, name="S")
    other.write([100])
    other.recorder.close()
    (path,) = history_files.segments(other.directory, "S")
    (run.folder / "0000000000000100.jsonl.zst").write_bytes(path.read_bytes())
    last = scanned(run).segments[-1]
    assert last.foreign == [(0, "S")] and last.facts is None and last.tail is None


def test_without_a_journal(run: Writer) -> None:
    """The whole parts of the frame can be read, and nothing vouches for them."""
    (run.folder / "journal").unlink()
    found = scanned(run)
    tail = found.segments[-1].tail
    assert found.journal is None and tail is not None and tail.open is None
    assert tail.remains.cut is not None and tail.remains.cut.ts == [15, 16] and not tail.remains.cut.ats


def test_a_damaged_journal(run: Writer) -> None:
    flip(run.folder / "journal", 3)
    found = scanned(run)
    assert found.journal is not None and (found.journal.head, found.journal.ending) == (None, Ending.DAMAGED)


def test_a_journal_whose_last_record_is_damaged(run: Writer) -> None:
    journal = run.folder / "journal"
    flip(journal, journal.stat().st_size - 1)
    tail = scanned(run).segments[-1].tail
    assert tail is not None and tail.open is not None and tail.open.flushed is not None
    assert tail.open.flushed.ts == [15] and tail.open.damaged and tail.open.uncounted


def test_what_is_read_of_a_long_history(run: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an index, of each file that is as it says one footer's last bytes, and nothing of what is in it."""
    seen: list[str] = []

    def watched(path: Path, begin: int) -> Walk:
        seen.append(path.name)
        return walk(path, begin)

    monkeypatch.setattr(module, "walk", watched)
    load = Segment.load

    def loaded(segment: Segment, begin: int, end: int | None = None) -> bytes:
        data = load(segment, begin, end)
        seen.append(f"{len(data)} bytes")
        return data

    monkeypatch.setattr(Segment, "load", loaded)
    last = scanned(run).segments[-1]
    assert seen == [last.segment.name, f"{last.size - last.segment.size} bytes"]


def test_a_directory(run: Writer) -> None:
    (run.directory / "empty").mkdir()
    told: list[tuple[int, int]] = []
    runs = list(scan_directory(run.directory, lambda done, total: told.append((done, total))))
    assert [one.id for one in runs] == ["R"]
    total = sum(path.stat().st_size for path in history_files.segments(run.directory, "R"))
    assert len(told) == 3 and told[-1] == (total, total)
    with pytest.raises(HistoryError, match="is a run's folder"):
        list(scan_directory(run.folder))
