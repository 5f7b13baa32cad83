"""A run's index: a cache of its footers, so that a start need not walk every segment.

    DIR/RUN/index          CRC-32 of the JSON in hex, line feed, one JSON object, line feed: the run, and of each
                           segment the bounds of its blocks
    DIR/RUN/FIRST_T.index  the blocks of a segment, see ``segment_index``; written before ``index`` tells of it

It is saved when a segment is sealed or deleted, at a clean end, and by a start that had to read footers. If it is lost,
damaged, of another format or does not fit a file, that file's footers are read. It alone has how much was published
that is no longer stored, and where that ended.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import crc32

import orjson

from ...errors import Damaged
from ..block_index import BlockRange, Blocks, joined_ranges
from ..format.block_record import RECORD_BYTES, unpack_record
from ..format.segment import TAIL_BYTES, footer_crc
from ..stored_block import Entry, Volume
from .disk import read_file, replace_file
from .run import LocalRun
from .run_directory import run_of
from .segment_file import Segment
from .segment_index import SegmentIndex, index_name, index_path, index_paths, read_records, write_segment_index

log = logging.getLogger("tick_gateway.history")

INDEX: Final = "index"
VERSION: Final = 2
_RECORDS_AT_ONCE: Final = 8192


class IndexedSegment(NamedTuple):
    """A segment in an index.

    Attributes:
        name: of its file.
        size: bytes of it that are indexed.
        end: the CRC in the last footer of those, which identifies the file.
        sealed: as in ``Segment``.
        blocks: their number; 0: the other fields have no meaning.
        bare: how many of them have lost their footers.
        seed, crc: see ``SegmentIndex``.
        first, last, first_at, last_at, ordinal, total, ticks: see ``BlockRange``, whose ``end`` is ``total``.
    """

    name: str
    size: int
    end: int
    sealed: bool
    blocks: int = 0
    bare: int = 0
    seed: int = 0
    crc: int = 0
    first: int = 0
    last: int = 0
    first_at: int = 0
    last_at: int = 0
    ordinal: int = 0
    total: int = 0
    ticks: int = 0


class Index(NamedTuple):
    """The index of a run; see ``StoredRun``."""

    run: str
    seq: int
    started: int
    origin: int
    total: int
    tip: int
    ended: bool
    lost_tail: bool
    segments: list[IndexedSegment]
    edges: tuple[tuple[int, int], ...] = ()


def pack_index(index: Index) -> bytes:
    """Its bytes."""
    segments = [segment._asdict() for segment in index.segments]
    body = orjson.dumps({"version": VERSION, **index._asdict(), "segments": segments})
    return b"%08x\n%s\n" % (crc32(body), body)


def unpack_index(data: bytes) -> Index | None:
    """The inverse; None: it has another format.

    Raises:
        Damaged: its CRC does not match.
    """
    crc, _, rest = data.partition(b"\n")
    body = rest.removesuffix(b"\n")
    if crc != b"%08x" % crc32(body):
        raise Damaged("the index's CRC does not match")
    index: dict[str, Any] = orjson.loads(body)
    if index.pop("version", None) != VERSION:
        return None
    segments = [IndexedSegment(**segment) for segment in index.pop("segments")]
    edges = tuple((number, t) for number, t in index.pop("edges", ()))
    return Index(**index, segments=segments, edges=edges)


# ---- saving ----


def save_index(run: LocalRun, settled: Callable[[SegmentIndex], None] | None = None) -> None:
    """Write the index of a run with segments: the blocks of those that have changed, and the bounds of all.

    Args:
        settled: called for each segment whose records were written, and need not be held in memory any more.

    Raises:
        OSError: it cannot be written. What was not written stays in memory.
    """
    assert run.directory is not None, "its segments lie somewhere"
    segments: list[IndexedSegment] = []
    written: dict[Volume, SegmentIndex] = {}
    by_volume = run.entries.by_volume()
    try:
        for segment in run.segments:
            ranges = by_volume.get(segment, [])
            bare, index = 0, _settled(ranges, segment)
            if index is None and ranges:
                entries = [entry for block_range in ranges for entry in block_range.entries()]
                index = write_segment_index(segment, entries)
                bare = sum(not entry.footer for entry in entries)
                if not bare:  # else the footers could not replace it
                    written[segment] = index
            listed = IndexedSegment(segment.name, segment.size, _end_of(segment), segment.sealed)
            if index is not None:
                bounds = joined_ranges(ranges)
                listed = listed._replace(
                    blocks=len(index), bare=bare, seed=index.seed, crc=index.crc, first=bounds.first, last=bounds.last,
                    first_at=bounds.first_at, last_at=bounds.last_at, ordinal=bounds.ordinal, total=bounds.end,
                    ticks=bounds.ticks,
                )  # fmt: skip
            segments.append(listed)
    finally:
        if written:
            run.entries.settle(written)
        for index in written.values():
            if settled is not None:
                settled(index)
    replace_file(run.directory / INDEX, pack_index(Index(
        run.id, run.seq, run.started, run.origin, run.total, run.tip, run.ended, run.lost_tail, segments,
        tuple(sorted(run.edges.items())),
    )))  # fmt: skip
    wanted = {index_name(segment.name) for segment in run.segments}
    for path in index_paths(run.directory):
        if path.name not in wanted:
            with suppress(OSError):  # without its segment it has no meaning
                path.unlink()


def _settled(ranges: list[BlockRange], segment: Segment) -> SegmentIndex | None:
    """A segment's index, if it is complete."""
    if len(ranges) != 1 or not isinstance(index := ranges[0].records, SegmentIndex):
        return None
    return index if index.size == segment.size and ranges[0].blocks == len(index) else None


# ---- loading ----


def load_index(directory: Path) -> Index | None:
    """A run's index; None: it has none, or one of another format or run.

    Raises:
        Damaged: it is not what was written, or cannot be read.
    """
    try:
        index = unpack_index(read_file(directory / INDEX))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Damaged(f"the index cannot be read: {error.strerror}") from error
    return index if index is not None and index.run == run_of(directory.name) else None


def take_blocks(blocks: Blocks, segment: Segment, listed: IndexedSegment) -> bool:
    """Append the blocks of a segment, from its index.

    Returns:
        Whether that was possible: the segment's own index may be gone, damaged, or of another segment.
    """
    if not listed.blocks:
        return True
    try:
        if listed.bare:
            blocks.extend(load_entries(segment, listed))
            return True
        check_index(segment, listed)
    except (Damaged, OSError) as error:
        if not isinstance(error, FileNotFoundError):
            problem = error.strerror if isinstance(error, OSError) else error
            log.warning("history: %s/%s: its index is made anew: %s", segment.path.parent.name, segment.name, problem)
        return False
    index = SegmentIndex(segment, listed.size, listed.blocks, listed.seed, listed.crc)
    blocks.add(BlockRange(
        segment, index, 0, listed.blocks, listed.first, listed.last, listed.first_at, listed.last_at, listed.ordinal,
        listed.total, listed.ticks,
    ))  # fmt: skip
    return True


def check_index(segment: Segment, listed: IndexedSegment) -> None:
    """Check that a segment's index is what was written. If not, its footers are read, and damaged ones can be salvaged
    now, not later.

    Raises:
        Damaged, OSError: it is not, or cannot be read.
    """
    crc, path = 0, index_path(segment.path)
    for begin in range(0, listed.blocks, _RECORDS_AT_ONCE):
        crc = crc32(read_records(path, begin, min(begin + _RECORDS_AT_ONCE, listed.blocks)), crc)
    if crc != listed.crc:
        raise Damaged("its CRC does not match")


def load_entries(segment: Segment, listed: IndexedSegment) -> list[Entry]:
    """All blocks of a segment, read from its index.

    Raises:
        Damaged: they are not what was written.
        OSError: they cannot be read.
    """
    data = read_records(index_path(segment.path), 0, listed.blocks, listed.seed) if listed.blocks else b""
    return [Entry.of_record(segment, unpack_record(data, at)) for at in range(0, len(data), RECORD_BYTES)]


def fits(listed: IndexedSegment, path: Path) -> bool:
    """Whether the file has the expected footer at the end of the indexed part; a file that was replaced does not."""
    return listed.size == 0 or _end(path, listed.size) == listed.end


def _end_of(segment: Segment) -> int:
    """The CRC of the footer that a segment ends with as far as it is accounted for, asked once for a sealed one; 0:
    there is none."""
    if segment.end is None or segment.end[0] != segment.size or not segment.sealed:
        segment.end = segment.size, _end(segment.path, segment.size) or 0
    return segment.end[1]


def _end(path: Path, size: int) -> int | None:
    """The CRC of the footer that ends at an offset; None: none does, or there is no such file."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        return footer_crc(os.pread(file.fileno(), TAIL_BYTES, size - TAIL_BYTES)) if size >= TAIL_BYTES else None
