"""When ticks count as received that nobody here saw come."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tick_gateway.history.external import receive_times as times
from tick_gateway.history.external.receive_times import ReceiveTimes


def write(path: Path, size: int, changed: float) -> Path:
    path.write_bytes(b"x" * size)
    os.utime(path, (changed, changed))
    return path


def test_evenly_by_bytes_from_the_birth_to_the_last_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "born", lambda path: 1_000_000)
    path, estimate = write(tmp_path / "a", 1000, 2000.0), ReceiveTimes()
    estimate.begin(path)
    assert estimate.of(path, 0, 500) == (1_000_000, 1_500_000)
    assert estimate.of(path, 500, 1000) == (1_500_000, 2_000_000)
    write(path, 1500, 3000.0)
    assert estimate.of(path, 1000, 1500) == (2_000_000, 3_000_000), "what was appended: from there to the next change"


def test_without_a_birth_the_file_before_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "born", lambda path: None)
    first, second, estimate = write(tmp_path / "a", 10, 1000.0), write(tmp_path / "b", 10, 2000.0), ReceiveTimes()
    estimate.begin(first)
    assert estimate.of(first, 0, 10) == (1_000_000, 1_000_000), "nothing is known: all at its last change"
    estimate.leave(first)
    estimate.begin(second)
    assert estimate.of(second, 0, 5) == (1_000_000, 1_500_000)


def test_time_never_falls_and_never_lies_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "born", lambda path: 5_000_000)
    old, estimate = write(tmp_path / "a", 10, 1000.0), ReceiveTimes()
    estimate.begin(old)  # a copy: it was made after its last change
    assert estimate.of(old, 0, 10) == (1_000_000, 1_000_000)
    ahead = write(tmp_path / "b", 10, time.time() + 1000)
    _, last = estimate.of(ahead, 0, 10)
    assert 1_000_000 < last <= time.time() * 1000
    assert estimate.of(old, 0, 10) == (last, last)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    estimate, path = ReceiveTimes(), tmp_path / "gone"
    estimate.at = 7
    estimate.begin(path)
    estimate.leave(path)
    assert estimate.of(path, 0, 10) == (7, 7)
