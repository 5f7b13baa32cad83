"""Blocks whose footers are damaged or missing: what can be known of them."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import pytest

from tests.support import history_files
from tests.support.recorded import AT, Writer
from tick_gateway.history.format.segment import MAX_SEAL, MIN_FOOTER, Footer
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.run import LocalRun
from tick_gateway.history.local.salvage import begins_footer, blocks_in, is_footer, placement_of
from tick_gateway.history.local.segment_file import Segment
from tick_gateway.history.stored_block import Entry


def test_blocks_are_found_among_anything(tmp_path: Path) -> None:
    writer = Writer(tmp_path, Limits(block_ticks=3, block_age=1e12, segment_age=0, fsync="never"))
    for t in range(12):
        writer.write([t])
    writer.recorder.close()
    (path,) = history_files.segments(tmp_path, "R")
    data, row = path.read_bytes(), writer.recorder.runs["R"].entries
    frames = [data[one.offset : one.offset + one.frame] for one in row]
    rubbish = b"\x28\xb5\x2f\xfd rubbish \x28\xb5\x2f\xfd"
    mixed = rubbish + frames[0] + frames[2] + rubbish + frames[1][:-1] + frames[3]
    found = list(blocks_in(mixed, 1000))
    assert [(block.first, block.last, block.ticks) for block in found] == [(0, 2, 3), (6, 8, 3), (9, 11, 3)]
    cut = [mixed[block.begin - 1000 :][: block.frame] for block in found]
    assert cut == [frames[0], frames[2], frames[3]] and [block.crc for block in found] == list(map(crc32, cut))


def placed(*blocks: tuple[int, list[int]], origin: int = 0) -> LocalRun:
    """A run with blocks of these ordinals and numbers."""
    run, segment = LocalRun("R", 0, AT, origin), Segment(Path("x"))
    for ordinal, ts in blocks:
        footer = run.footer(ordinal, ts, [AT + t for t in ts], size=1, frame=1, crc=0)
        run.entries.append(Entry.of(segment, 1, footer, 1))
        run.know(footer.ordinal + footer.count, footer.last)
    return run


@pytest.mark.parametrize(
    "blocks, ts, ordinal",
    [
        ([], [0, 1], 0),  # the run began with it
        ([], [3, 4], 1),  # or not
        ([(0, [0, 1, 2])], [3, 4], 3),  # nothing fits between
        ([(0, [0, 1, 2])], [5, 6], 4),  # 3 and 4 may be missing, or never have been
        ([(0, [0, 5]), (4, [20, 25])], [10, 15], 2),  # there is no room for more
        ([(0, [0, 5]), (9, [90, 95])], [10, 15], 3),  # ticks are missing: before it, behind it, or both
        ([(0, [0, 1, 2])], [2, 3], None),  # some of it is there
        ([(5, [5, 6])], [4, 5], None),
        ([(0, [0, 9])], [3, 4], None),
    ],
)
def test_where_a_block_belongs(blocks: list[tuple[int, list[int]]], ts: list[int], ordinal: int | None) -> None:
    placement = placement_of(placed(*blocks), ts[0], ts[-1], len(ts))
    assert (placement.ordinal if placement is not None else None) == ordinal


def test_what_looks_like_a_footer() -> None:
    seal = Footer("R" * 64, 0, 1, 0, 0, 0, 0, 0, 0, sealed=True).pack()
    assert len(seal) == MAX_SEAL == MIN_FOOTER + 64
    assert is_footer(seal) and not begins_footer(seal) and not is_footer(b"") and begins_footer(b"")
    for size in range(1, len(seal)):
        assert begins_footer(seal[:size]) and not is_footer(seal[:size])
    for at in range(len(seal)):
        changed = seal[:at] + bytes([seal[at] ^ 1]) + seal[at + 1 :]
        assert is_footer(changed), "by its first bytes, or by its last ones"
    assert not is_footer(seal + b"x") and not begins_footer(b"\x28\xb5\x2f\xfd")
