"""When a file was made, in each of the ways in which systems and Pythons say it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tick_gateway.history.external import file_birth as birth


def test_the_birth_of_a_file(tmp_path: Path) -> None:
    before = time.time_ns() // 1_000_000 - 20  # a file system's clock ticks
    (tmp_path / "a").write_bytes(b"")
    found = birth.born(tmp_path / "a")
    assert found is None or before <= found <= time.time() * 1000 + 1
    assert birth.born(tmp_path / "b") is None


def test_by_statx_of_newer_pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, int]] = []

    def statx(path: Path, mask: int) -> SimpleNamespace:
        asked.append((path, mask))
        os.stat(path)
        return SimpleNamespace(stx_btime_ns=None if path.name == "untold" else 1_500_000_999)

    monkeypatch.setattr(os, "statx", statx, raising=False)
    way = birth._way()
    monkeypatch.setattr(birth, "_birth_ns", way)
    for name in ("a", "untold"):
        (tmp_path / name).write_bytes(b"")
    assert birth.born(tmp_path / "a") == 1500
    assert birth.born(tmp_path / "untold") is None
    assert birth.born(tmp_path / "b") is None
    assert asked[0] == (tmp_path / "a", 0x800)


def test_by_stat_where_there_is_no_statx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(birth, "_by_c_library", lambda: None)
    monkeypatch.delattr(os, "statx", raising=False)
    way = birth._way()
    monkeypatch.setattr(birth, "_birth_ns", way)
    found = birth.born(tmp_path)
    assert (found is None) is (sys.platform == "linux")
    assert birth.born(tmp_path / "b") is None
