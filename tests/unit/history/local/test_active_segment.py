"""The segment that is written to: what stands in it and in its journal, step by step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.recorded import LIMITS, Writer
from tick_gateway.history.format.journal import Ending, unpack_journal
from tick_gateway.history.local.active_segment import ActiveSegment
from tick_gateway.history.local.run import LocalRun
from tick_gateway.history.local.segment_file import Segment, segment_name, walk


@pytest.fixture
def active(tmp_path: Path) -> ActiveSegment:
    run = LocalRun("R", 3, 1, 0, directory=tmp_path)
    return ActiveSegment.open(run, Segment(tmp_path / segment_name(0)), 3)


def batches(tmp_path: Path, *ts: list[int]) -> list[object]:
    writer = Writer(tmp_path / "other", LIMITS)
    return [writer.batch(some) for some in ts]


def test_a_journal_comes_before_its_block_and_a_footer_behind_it(active: ActiveSegment, tmp_path: Path) -> None:
    first, second = batches(tmp_path, [0, 1], [2])
    active.begin(0, 0.0)
    journal = unpack_journal((tmp_path / "journal").read_bytes())
    assert journal.head is not None and (journal.head.ordinal, journal.head.offset, journal.flushes) == (0, 0, [])
    assert active.size == 0, "before the block's first byte"
    active.add(first)  # type: ignore[arg-type]
    active.flush()
    active.add(second)  # type: ignore[arg-type]
    active.flush()
    active.flush()
    journal = unpack_journal((tmp_path / "journal").read_bytes())
    assert journal.ending is Ending.CLEAN and [flush.ts for flush in journal.flushes] == [[0, 1], [2]]
    assert journal.published == 3 and journal.flushes[-1].end == active.size == active.segment.path.stat().st_size
    entry = active.close_block()
    assert (entry.first, entry.last, entry.count, active.block) == (0, 2, 3, None)
    active.seal(active.run.seal_footer())
    active.drop()
    block, seal = walk(active.segment.path).footers
    assert (block.footer.count, block.begin, seal.footer.sealed) == (3, 0, True)
    assert active.segment.sealed and active.segment.size == active.segment.path.stat().st_size == seal.end


@pytest.mark.parametrize("how", ["replaced", "deleted", "cut"])
def test_a_file_that_is_not_the_one_that_was_opened(active: ActiveSegment, tmp_path: Path, how: str) -> None:
    """A deleted one takes bytes, too: it is noticed before anything is vouched for."""
    (batch,) = batches(tmp_path, [0, 1])
    active.begin(0, 0.0)
    active.add(batch)  # type: ignore[arg-type]
    active.flush()
    path = active.segment.path
    if how == "cut":
        os.truncate(path, 3)
    else:
        path.unlink()
    if how == "replaced":
        path.write_bytes(b"x" * 1000)
    with pytest.raises(OSError):
        active.check()
    active.drop()


def test_what_cannot_be_opened_is_not_left_open(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    with pytest.raises(OSError):
        ActiveSegment.open(LocalRun("R"), Segment(tmp_path / segment_name(0)), 3)
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before
