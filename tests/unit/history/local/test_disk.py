"""What is done to files: all of it is written, one is replaced in one step, what is cut out is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.recorded import TIMELESS, Writer, opened
from tick_gateway.history.local.disk import free_name, read_file, replace_file, set_aside
from tick_gateway.history.local.limits import Limits


def test_a_disk_that_takes_a_byte_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:1], at))
    writer = Writer(tmp_path, Limits(block_ticks=3, **TIMELESS))
    for t in range(7):
        writer.write([t])
    writer.end()
    writer.recorder.close()
    assert opened(tmp_path).ticks["R"] == writer.written


def test_a_disk_that_takes_nothing_and_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(tmp_path, Limits(**TIMELESS))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: 0)
    with pytest.raises(OSError, match="nothing could be written"):
        writer.write([1])


def test_bytes_that_are_cut_out_are_kept_once(tmp_path: Path) -> None:
    """Under the name of the place that they were in; other bytes from there get another name."""
    path = tmp_path / "0000000000000000.jsonl.zst"
    first = set_aside(path, 7, b"damaged")
    assert first.name == f"{path.name}.7.damaged" and set_aside(path, 7, b"damaged") == first
    second = set_aside(path, 7, b"other")
    assert second.name == f"{path.name}.7-2.damaged"
    assert (first.read_bytes(), second.read_bytes()) == (b"damaged", b"other")
    assert free_name(path, 7).name == f"{path.name}.7-3.damaged"
    assert sorted(tmp_path.iterdir()) == sorted([first, second]), "nothing half written is left"


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "index"
    for data in (b"first", b"second", b""):
        replace_file(path, data)
        assert read_file(path) == data and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "index"
    os.mkfifo(path)
    assert read_file(path) == b""
    replace_file(path, b"data")
    assert path.read_bytes() == b"data"
    os.mkfifo(tmp_path / "index.new")
    with pytest.raises(OSError):
        replace_file(path, b"other")
    assert path.read_bytes() == b"data"
