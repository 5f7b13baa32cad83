"""Rotation: which segment is written to, when it is sealed, and that it never changes again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import history_files
from tests.support.recorded import FOREVER, TIMELESS, Clock, Writer, counts, footers, opened
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.recorder import Recorder

pytestmark = pytest.mark.usefixtures("nothing_left_open")


def test_segments_by_bytes(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Limits(block_ticks=2, segment_bytes=400, **TIMELESS))
    for t in range(12):
        writer.write([t])
    assert counts(tmp_path) == [[2, 2, 0], [2, 2, 0], [2, 2, 0]], "each ends with a seal"
    assert all(segment[-1].sealed and not segment[-1].ended for segment in footers(tmp_path))
    assert [path.name[:16] for path in history_files.segments(tmp_path, "R")] == [f"{t:016d}" for t in (0, 4, 8)]
    assert all(segment.sealed for segment in writer.recorder.runs["R"].segments)
    writer.recorder.close()


def test_a_segment_by_age(tmp_path: Path, clock: Clock) -> None:
    """By the clock where nothing comes, by its ticks' times where they come from elsewhere."""
    limits = Limits(block_ticks=1, block_age=FOREVER, segment_age=100, fsync="never")
    writer = Writer(tmp_path, limits)
    writer.write([0])
    clock.now += 99
    writer.recorder.maintain()
    writer.write([1])
    assert counts(tmp_path) == [[1, 1]]
    clock.now += 1
    writer.recorder.maintain()
    assert counts(tmp_path) == [[1, 1, 0]]
    writer.write([2])  # received at AT + 2
    writer.write([100_001])
    assert counts(tmp_path)[1:] == [[1, 1]]
    writer.write([100_002])  # 100 s after the first of the segment
    assert counts(tmp_path)[1:] == [[1, 1, 1, 0]]
    writer.recorder.close()


def test_an_old_segment_is_not_opened_again(tmp_path: Path) -> None:
    """Not by the next process either: whoever has a copy of a sealed file has all of it."""
    writer = Writer(tmp_path, Limits(block_ticks=2, segment_bytes=400, **TIMELESS))
    for t in range(4):
        writer.write([t])
    (sealed,) = history_files.segments(tmp_path, "R")
    held = sealed.read_bytes()
    writer.recorder.close()
    again = Recorder(tmp_path, Limits(segment_bytes=1 << 30, **TIMELESS), opened(tmp_path).runs)
    again.write([writer.batch([4, 5])])
    again.close()
    assert sealed.read_bytes() == held and counts(tmp_path) == [[2, 2, 0], [2]]


def test_a_segment_with_room_is_opened_again(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Limits(**TIMELESS))
    writer.write([0, 1])
    writer.recorder.close()
    again = Recorder(tmp_path, Limits(**TIMELESS), opened(tmp_path).runs)
    again.write([writer.batch([2])])
    again.close()
    assert counts(tmp_path) == [[2, 1]]
    assert [footer.ordinal for footer in footers(tmp_path)[0]] == [0, 2]


def test_an_end_behind_a_sealed_segment(tmp_path: Path) -> None:
    """It stands in a file of its own, named by the number behind the tip: a sealed one does not change."""
    writer = Writer(tmp_path, Limits(block_ticks=1, segment_bytes=1, **TIMELESS))
    writer.write([7])
    held = history_files.segments(tmp_path, "R")[0].read_bytes()
    writer.end()
    writer.recorder.close()
    old, new = history_files.segments(tmp_path, "R")
    assert old.read_bytes() == held and new.name.startswith("0000000000000008") and counts(tmp_path) == [[1, 0], [0]]
    assert opened(tmp_path).runs[0].ended


def test_another_file_where_a_new_segment_goes(tmp_path: Path) -> None:
    """It is kept aside: nothing is written behind somebody else's bytes."""
    (tmp_path / "R").mkdir()
    (tmp_path / "R" / "0000000000000003.jsonl.zst").write_bytes(b"mine")
    writer = Writer(tmp_path, Limits(**TIMELESS))
    writer.write([3])
    writer.recorder.close()
    assert (tmp_path / "R" / "0000000000000003.jsonl.zst.0.damaged").read_bytes() == b"mine"
    assert list(opened(tmp_path).ticks["R"]) == [3]
