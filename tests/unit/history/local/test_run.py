"""What is known of a run in segments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.support.recorded import AT
from tick_gateway.history.format.segment import Footer
from tick_gateway.history.local.run import LocalRun
from tick_gateway.history.local.segment_file import Segment, segment_name
from tick_gateway.history.stored_block import Entry


def test_what_a_footer_says_of_its_run() -> None:
    run = LocalRun("R")
    assert (run.stored, run.total, run.tip) == (0, 0, -1)
    run.know(5, 9)
    run.know(3, 2)
    assert (run.total, run.tip) == (5, 9), "what was known stands"
    seal = run.seal_footer(ended=True)
    assert isinstance(seal, Footer) and (seal.ordinal, seal.last, seal.sealed, seal.ended) == (5, 9, True, True)


def test_where_deleted_blocks_ended() -> None:
    """It is known as long as something follows there, or may."""
    run, segments = LocalRun("R"), [Segment(Path(segment_name(first))) for first in (0, 10, 20)]
    run.segments = list(segments)
    for number, segment in enumerate(segments):
        footer = run.footer(10 * number, [10 * number, 10 * number + 9], [AT, AT], size=1, frame=1, crc=number)
        run.entries.append(Entry.of(segment, 0, replace(footer, count=10), 1))
    run.forget(segments[0])
    assert run.edges == {10: 9} and [one.first for one in run.entries] == [10, 20]
    run.forget(segments[1])
    assert run.edges == {20: 19}, "who has the last one of those misses nothing"
    run.forget(segments[2])
    assert run.edges == {30: 29} and (run.stored, run.segments) == (0, [])
