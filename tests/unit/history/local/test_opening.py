"""Opening a directory: what is read is served, whatever is wrong with some of it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from tests.support import history_files
from tests.support.recorded import LIMITS, Writer, files, lay, opened
from tick_gateway.errors import HistoryError
from tick_gateway.history.local import opening
from tick_gateway.history.local.opening import open_directory, recover_segment
from tick_gateway.history.local.recovery_plan import RunPlan, plan_run
from tick_gateway.history.local.scan import ScannedRun
from tick_gateway.history.record_page import UnreadableIndex


def crashed(directory: Path, name: str = "R", seq: int = 3) -> Writer:
    """A run with an open block of three ticks."""
    writer = Writer(directory, LIMITS, name=name, seq=seq)
    writer.write([0, 1, 2])
    held = files(writer.folder)
    writer.recorder.close()
    lay(writer.folder, held)
    return writer


def test_an_empty_directory(tmp_path: Path) -> None:
    found = open_directory(tmp_path / "nowhere")
    assert (found.runs, found.damage, found.left, found.trouble, found.unclosed) == ([], [], [], "", {})
    (tmp_path / "file").touch()
    with pytest.raises(HistoryError, match="is no directory"):
        open_directory(tmp_path / "file")


def test_damage_in_one_run_does_not_keep_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = crashed(tmp_path, "A", 0), crashed(tmp_path, "B", 1)
    (path,) = history_files.segments(tmp_path, "A")
    path.write_bytes(b"\x00" * 500)
    found = open_directory(tmp_path)
    assert [run.id for run in found.runs] == ["A", "B"] and not found.left
    assert [len(run.entries) for run in found.runs] == [0, 1]
    assert found.damage and all(sentence.startswith(f"A/{path.name}: ") for sentence in found.damage)
    assert opened(tmp_path).ticks["B"] == second.written and first.written
    assert "A" not in caplog.text or "cut off" in caplog.text


def test_what_is_cut_off_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = crashed(tmp_path)
    (path,) = history_files.segments(tmp_path, "R")
    path.write_bytes(path.read_bytes() + b"torn")
    with caplog.at_level(logging.WARNING, "tick_gateway.history"):
        found = open_directory(tmp_path)
    assert caplog.messages == [f"history: R/{path.name}: 4 torn bytes were cut off"]
    assert not found.damage and opened(tmp_path).ticks["R"] == run.written


def test_an_index_that_turns_out_to_be_unreadable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its records are asked for, which is late: then the footers tell, and the history is opened."""
    run = crashed(tmp_path)
    asked: list[ScannedRun] = []

    def unreadable(scanned: ScannedRun) -> RunPlan:
        asked.append(scanned)
        if len(asked) == 1:
            raise UnreadableIndex(scanned.segments[0].segment, "the index of R is damaged")
        return plan_run(scanned)

    monkeypatch.setattr(opening, "plan_run", unreadable)
    assert opened(tmp_path).ticks["R"] == run.written
    assert len(asked) == 2 and all(one.walked for one in asked[1].segments)
    assert "the index of R is damaged; the footers are asked" in caplog.text


def test_a_segment_is_recovered_by_itself(tmp_path: Path) -> None:
    """As after a write that failed: a run that is known, and the bytes behind the last block of one segment."""
    writer = Writer(tmp_path, LIMITS)
    writer.write([0, 1, 2])
    run = writer.recorder.runs["R"]
    (segment,) = run.segments
    writer.recorder._drop_files()
    with segment.path.open("ab") as file:
        file.write(b"half written")
    recovered = recover_segment(run, segment)
    assert recovered.entry is not None and not recovered.damage
    assert (recovered.entry.first, recovered.entry.last) == (0, 2) and list(run.entries) == [recovered.entry]
    assert segment.size == os.stat(segment.path).st_size
    assert recover_segment(run, segment).entry is None, "there is nothing more to do"
