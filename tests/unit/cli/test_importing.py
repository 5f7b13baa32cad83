"""``tick-gateway import``: what it says, and with which exit code it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command
from tests.support.made_history import write
from tests.support.recorded import stored

LINES = [b'{"t":%d,"x":1.50}' % t for t in range(50)]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(b"".join(line + b"\n" for line in LINES))
    return folder


def test_what_is_there_is_brought_in_and_told(command: Command, files: Path, tmp_path: Path) -> None:
    ended = command("import", files, "--data", tmp_path / "data")
    assert (ended.code, ended.out) == (0, ""), ended
    assert ended.err.splitlines()[-1].endswith(f", in {tmp_path / 'data'}") and "50 ticks" in ended.err
    assert [line for _, _, line in stored(tmp_path / "data")] == LINES
    again = command("import", files, "--data", tmp_path / "data")
    assert again.code == 0 and len(stored(tmp_path / "data")) == 50


def test_what_cannot_be_read_is_told_with_exit_code_1(command: Command, files: Path, tmp_path: Path) -> None:
    (files / "b.jsonl.zst").write_bytes(b"no zstd at all")
    ended = command("import", files, "--data", tmp_path / "data")
    assert ended.code == 1 and "b.jsonl.zst" in ended.err
    assert len(stored(tmp_path / "data")) == 50


@pytest.mark.parametrize(
    ("source", "words"),
    [("nowhere", "is no directory"), ("empty", "has no *.jsonl.zst and no *.jsonl"), ("made", "is a history already")],
)
def test_what_is_no_source(command: Command, source: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "made", {"A": range(20)})
    ended = command("import", tmp_path / source, "--data", tmp_path / "data")
    assert (ended.code, ended.out) == (2, "") and words in ended.err and ended.err.count("\n") == 1, ended


def test_it_needs_a_history(command: Command, files: Path) -> None:
    ended = command("import", files)
    assert ended.code == 2 and "say which directory history is kept in" in ended.err
