"""What tests of the writing of history share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import history_files
from tests.support.recorded import SMALL, Clock, Writer
from tick_gateway.history.local import recorder as module


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the recorder takes for the time."""
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


@pytest.fixture
def nothing_left_open() -> Iterator[None]:
    """Afterwards the process has no more files open than before."""
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    yield
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.fixture
def run(tmp_path: Path) -> Writer:
    """Three segments, each of two blocks of three ticks; the last one has room."""
    writer = Writer(tmp_path, SMALL)
    for t in range(15):
        writer.write([t])
    writer.recorder.close()
    assert len(history_files.segments(tmp_path, "R")) == 3
    return writer
