"""Taking stock: each segment has its turn, and what is not there any more is named."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support.recorded import Writer
from tick_gateway.history.local import inventory
from tick_gateway.history.local.inventory import Inventory, cut_blocks, size_now, why_missing
from tick_gateway.history.local.run import LocalRun
from tick_gateway.history.local.segment_file import Segment, segment_name


def test_each_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "SOME", 2)
    runs = [LocalRun(name, segments=[Segment(Path(name) / segment_name(0)) for _ in range(3)]) for name in "AB"]
    turns = Inventory()
    seen = [turns.some(runs) for _ in range(3)]
    assert [[run.id for run, _ in some] for some in seen] == [["A", "A"], ["A", "B"], ["B", "B"]]
    assert turns.some(runs) == seen[0], "after the last ones, the first ones again"
    assert Inventory().some([]) == []


def test_what_is_not_there_any_more(run: Writer) -> None:
    segment = run.recorder.runs["R"].segments[0]
    entries = run.recorder.runs["R"].entries.of(segment)
    assert size_now(segment) == segment.size and cut_blocks(entries, segment.size) == []
    ends = [entry.offset + entry.frame + entry.footer for entry in entries]
    assert [len(cut_blocks(entries, size)) for size in (ends[0] - 1, ends[0], ends[1] - 1, ends[1], 0)] == [
        2,
        1,
        1,
        0,
        2,
    ]
    os.truncate(segment.path, ends[0])
    assert size_now(segment) == ends[0] and why_missing(segment, ends[0]) == f"{segment.name} was cut"
    segment.path.unlink()
    assert size_now(segment) == 0 and why_missing(segment, 0) == os.strerror(errno.ENOENT)


def test_where_nobody_can_tell_it_counts_as_there(run: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = run.recorder.runs["R"].segments[0]

    def refused(*_: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "stat", refused)
    assert size_now(segment) == segment.size
