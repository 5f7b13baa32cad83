"""A directory of history: what is in it, and what should not be there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.support import history_files
from tests.support.recorded import AT, LIMITS, SMALL, Writer, files, lay, opened, planned, read_known
from tick_gateway.errors import HistoryError
from tick_gateway.history.local.lock import DirectoryLock
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.history.local.recovery_plan import plan_run
from tick_gateway.history.local.scan import scan_run
from tick_gateway.history.local.verify import verify

# ---- what there is ----


def test_a_runs_folder_is_no_history(run: Writer, tmp_path: Path) -> None:
    """One level too deep: a gateway would serve nothing from there, and begin another history inside the run."""
    before = sorted(tmp_path.rglob("*"))
    for look in (_locked, planned, verify):
        with pytest.raises(HistoryError, match=f"/R is a run's folder in a history, .*; accepted: {tmp_path}$"):
            look(tmp_path / "R")
    assert sorted(tmp_path.rglob("*")) == before
    _locked(tmp_path)


def _locked(directory: Path) -> None:
    with DirectoryLock(directory):
        pass


def test_an_empty_directory(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        assert planned(directory) == ([], [])
    (tmp_path / "file").touch()
    with pytest.raises(HistoryError, match="is no directory"):
        planned(tmp_path / "file")


def test_what_is_no_run_is_passed_over(run: Writer, tmp_path: Path) -> None:
    before = read_known(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "not a run").mkdir()
    (tmp_path / "not a run" / "0000000000000000.jsonl.zst").touch()
    for name in ("copy of 0000000000000000.jsonl.zst", "x.jsonl.zst", "0000000000000000.jsonl.zst.0.damaged"):
        (run.folder / name).write_bytes(b"mine")
    assert read_known(tmp_path) == before


def test_a_run_that_may_not_be_read_is_not_passed_over(
    run: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ticks would be gone without a word, and its name would be given to another run."""
    before, calls = opened(tmp_path).ticks, {name: getattr(os, name) for name in ("listdir", "scandir")}

    def refuse(name: str) -> Callable[[Any], Any]:
        def call(path: Any) -> Any:
            if Path(path) == run.folder:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return calls[name](path)

        return call

    with monkeypatch.context() as patch:
        for name in calls:
            patch.setattr(os, name, refuse(name))
        for look in (planned, verify):
            with pytest.raises(PermissionError) as caught:
                look(tmp_path)
            assert caught.value.filename == str(run.folder)
    assert opened(tmp_path).ticks == before


def test_runs_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, LIMITS)
    for seq, name in enumerate(["z", "a", "m"]):
        writer = Writer(tmp_path, name=name, seq=seq, recorder=recorder)
        writer.write([1])
        writer.end()
    recorder.close()
    assert [one.id for one in planned(tmp_path)[0]] == ["z", "a", "m"]


def test_progress_comes_to_its_end(run: Writer, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    planned(tmp_path, lambda done, total: told.append((done, total)))
    total = sum(path.stat().st_size for path in history_files.segments(tmp_path, "R"))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (total, total) and {of for _, of in told} == {total}


# ---- files that should not be there ----


def test_every_tick_once_whatever_was_copied(run: Writer, tmp_path: Path) -> None:
    first, second, _ = history_files.segments(tmp_path, "R")
    (run.folder / "0000000000000003.jsonl.zst").write_bytes(first.read_bytes())
    found = opened(tmp_path)
    assert found.ticks["R"] == run.written
    assert len(found.damage) == 2 and all("once more" in sentence for sentence in found.damage)
    assert second.exists()


def test_a_file_of_another_run(run: Writer, tmp_path: Path) -> None:
    other = Writer(tmp_path / "other", SMALL, name="S")
    other.write([100])
    other.recorder.close()
    (path,) = history_files.segments(tmp_path / "other", "S")
    (run.folder / "0000000000000100.jsonl.zst").write_bytes(path.read_bytes())
    found = opened(tmp_path)
    assert found.ticks["R"] == run.written and found.damage == [
        "R/0000000000000100.jsonl.zst: at 0 is a block of run S"
    ]


def test_a_folder_with_another_name(run: Writer, tmp_path: Path) -> None:
    """Nothing in it is served under a name that is not its own."""
    run.folder.rename(tmp_path / "S")
    found = opened(tmp_path)
    assert found.ticks.get("S", {}) == {} and found.damage


def test_nothing_is_written_behind_damage(run: Writer, tmp_path: Path) -> None:
    """The next ticks go into another file, and what was damaged stays as it is."""
    path = history_files.segments(tmp_path, "R")[-1]
    data = bytearray(path.read_bytes())
    for at in range(5, len(data), 7):  # neither its frame nor its footer is sound
        data[at] ^= 0xFF
    lay(run.folder, files(run.folder) | {path.name: bytes(data)})
    (run.folder / "index").unlink()
    (run.folder / "journal").write_bytes(b"\x00" * 60)
    (stored,) = opened(tmp_path).runs
    recorder = Recorder(tmp_path, SMALL, [stored])
    recorder.write([run.batch([20, 21])])
    recorder.close()
    assert path.read_bytes() == data
    found = opened(tmp_path)
    assert list(found.ticks["R"]) == [*range(12), 20, 21] and found.damage
    assert found.runs[0].entries[-1].ordinal > 12, "there is a gap"


def test_a_journal_of_a_later_format(run: Writer, tmp_path: Path) -> None:
    head = b"TJNL\x02" + bytes(51)
    (run.folder / "journal").write_bytes(head + crc32(head).to_bytes(4, "little"))
    path = history_files.segments(tmp_path, "R")[-1]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(HistoryError, match="format 2"):
        opened(tmp_path)


def test_a_run_without_a_footer_is_known_by_its_journal(tmp_path: Path) -> None:
    writer = Writer(tmp_path, LIMITS, seq=4)
    writer.write([9])
    held = files(writer.folder)
    writer.recorder.close()
    lay(writer.folder, held)
    stored = plan_run(scan_run(writer.folder))
    run = stored.run
    assert (run.seq, run.started, run.origin, list(run.entries)) == (4, AT, 9, []) and not stored.damage
