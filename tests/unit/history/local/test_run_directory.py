"""The directory that a run has, whatever its name and the file system."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.recorded import TIMELESS, Writer, opened
from tick_gateway.history.external.importing import NOTE, write_note
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.lock import LOCK
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.history.local.verify import verify


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
