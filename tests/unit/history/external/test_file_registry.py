"""Which file is which: known by content, whatever became of its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zstandard

from tests.support.backend import line_of
from tick_gateway.history.external import file_registry
from tick_gateway.history.external.file_registry import FileRegistry
from tick_gateway.history.external.source_file import SourceFile

MAX_TICK = 4096
TEXT = b"".join(line_of(t, t, 50) + b"\n" for t in range(20))


@pytest.fixture
def registry(tmp_path: Path) -> FileRegistry:
    return FileRegistry(tmp_path, MAX_TICK)


def read(path: Path, text: bytes = TEXT) -> SourceFile:
    """A file that was read to its end, and is closed."""
    path.write_bytes(text if path.suffix == ".jsonl" else zstandard.compress(text))
    file = SourceFile(path, MAX_TICK)
    while file.pull():
        file.take()
    file.close()
    return file


def names(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def test_the_newest_is_the_one_that_was_begun_last(registry: FileRegistry, tmp_path: Path) -> None:
    one, two = read(tmp_path / "a.jsonl"), read(tmp_path / "b.jsonl", TEXT[1:])
    assert registry.newest is None
    assert registry.begin(one) and registry.begin(two) and registry.newest is two
    assert not registry.begin(one), "it was read before"
    assert registry.newest is one and registry.files == [two, one]


def test_a_file_that_was_renamed(registry: FileRegistry, tmp_path: Path) -> None:
    file = read(tmp_path / "a.jsonl")
    registry.begin(file)
    file.path.rename(tmp_path / "b.jsonl")
    assert registry.place(names(tmp_path)) == {"b.jsonl"}
    assert file.name == "b.jsonl" and not registry.missing


def test_a_file_that_was_compressed_is_the_same_one(registry: FileRegistry, tmp_path: Path) -> None:
    file = read(tmp_path / "a.jsonl")
    registry.begin(file)
    new = read(tmp_path / "a.jsonl.zst")
    assert registry.is_copy(new), "while both are there"
    file.path.unlink()
    registry.place(names(tmp_path))
    assert registry.missing == {file} and not registry.is_copy(new)
    assert registry.recognize(new) is file and file.name == "a.jsonl.zst" and not registry.missing


def test_another_one_with_the_same_name_is_not(registry: FileRegistry, tmp_path: Path) -> None:
    file = read(tmp_path / "a.jsonl")
    registry.begin(file)
    file.path.unlink()
    registry.place(names(tmp_path))
    assert registry.recognize(read(tmp_path / "a.jsonl.zst", line_of(0, 7) + b"\n")) is None
    assert registry.recognize(read(tmp_path / "b.jsonl")) is None, "nor the same content under another name"


def test_a_file_that_was_taken_away_may_come_back(registry: FileRegistry, tmp_path: Path) -> None:
    file = read(tmp_path / "a.jsonl")
    registry.begin(file)
    file.path.unlink()
    registry.drop(file, replaced=False)
    assert file not in registry and file.gone
    again = FileRegistry(tmp_path, MAX_TICK)
    again.recall(json.loads(json.dumps(registry.note())))
    found = again.recognize(read(tmp_path / "a.jsonl"))
    assert found is not None and found.offset == len(TEXT) and not found.gone and found in again


def test_few_that_went_are_remembered(registry: FileRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(file_registry._MOST_GONE + 5):
        file = SourceFile(tmp_path / f"s{number}.jsonl", MAX_TICK)
        registry.begin(file)
        registry.drop(file, replaced=False)
    assert len(registry.note()["gone"]) == file_registry._MOST_GONE
