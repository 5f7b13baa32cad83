"""A run's index: a cache of its footers, so that a start need not walk every segment.

    DIR/RUN/index := CRC-32 of the JSON in hex, line feed, one JSON object, line feed

It is saved when a segment is sealed or deleted, at a clean end, and by a start that had to ask the footers. Where it is
lost, damaged, of another format or does not fit a file, that file's footers tell. What it alone knows is how much was
published that is no longer stored, and where that ended.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import crc32

import orjson

from ...errors import Damaged
from ..block_index import Entry
from ..format.segment import TAIL_BYTES, footer_crc
from .run import LocalRun
from .run_directory import run_of
from .segment_file import Place, Segment

INDEX: Final = "index"
VERSION: Final = 1

FIELDS: Final = (
    "offset", "foot", "ordinal", "first", "last", "first_at", "last_at", "count", "step", "size", "frame", "crc",
)  # fmt: skip
"""What it says of each block, in this order; ``foot`` is the bytes of the block's footer."""
row_of: Final[Callable[[Entry], tuple[int, ...]]] = attrgetter(
    *("footer" if name == "foot" else name for name in FIELDS)
)
"""Its row."""


class Listed(NamedTuple):
    """What an index says of a segment.

    Attributes:
        name: of its file.
        size: of its bytes that were accounted for.
        end: the CRC in the last footer of those, by which the file is known again.
        sealed: as in ``Segment``.
        blocks: a row of ``FIELDS`` each.
    """

    name: str
    size: int
    end: int
    sealed: bool
    blocks: Sequence[Sequence[int]]


class Index(NamedTuple):
    """What an index says of a run; see ``LocalRun``."""

    run: str
    seq: int
    started: int
    origin: int
    total: int
    tip: int
    ended: bool
    lost_tail: bool
    segments: list[Listed]
    edges: tuple[tuple[int, int], ...] = ()


def pack_index(index: Index) -> bytes:
    """Its bytes."""
    begin, end = _around(index)
    body = b"".join([begin, b",".join(map(_pack_listed, index.segments)), end])
    return b"%08x\n%s\n" % (crc32(body), body)


def _around(index: Index) -> tuple[bytes, bytes]:
    """The JSON of an index before and behind what it says of its segments."""
    whole = orjson.dumps({"version": VERSION, **index._asdict(), "fields": FIELDS, "segments": []})
    begin, bracket, end = whole.partition(b'"segments":[')
    return begin + bracket, end


def _pack_listed(listed: Listed) -> bytes:
    return orjson.dumps(listed._asdict())


def unpack_index(data: bytes) -> Index | None:
    """The reverse; None: it is of another format.

    Raises:
        Damaged: its CRC is not that of its bytes.
    """
    crc, _, rest = data.partition(b"\n")
    body = rest.removesuffix(b"\n")
    if crc != b"%08x" % crc32(body):
        raise Damaged("the index's CRC does not match")
    index: dict[str, Any] = orjson.loads(body)
    if index.pop("version", None) != VERSION or tuple(index.pop("fields", ())) != FIELDS:
        return None
    segments = [Listed(**row) for row in index.pop("segments")]
    edges = tuple((number, t) for number, t in index.pop("edges", ()))
    return Index(**index, segments=segments, edges=edges)


def save_index(run: LocalRun) -> None:
    """Write the index of a run that has segments, one segment after another: what it said of those that have not
    changed is copied, so that a long history takes no more memory than a short one, and little more time.

    Raises:
        OSError: it cannot be written.
    """
    assert run.folder is not None, "its segments lie somewhere"
    begin, end = _around(Index(
        run.id, run.seq, run.started, run.origin, run.total, run.tip, run.ended, run.lost_tail, [],
        tuple(sorted(run.edges.items())),
    ))  # fmt: skip
    temporary = run.folder / f"{INDEX}.new"
    places: dict[Segment, Place] = {}
    ticks: Counter[int] = Counter()
    for held in run.entries.files:
        ticks[id(held.volume)] += held.ticks
    with _old(run.folder) as old, temporary.open("wb") as file:
        file.write(b"%08x\n" % 0)
        crc = crc32(begin)
        file.write(begin)
        for segment in run.segments:
            about = segment.size, segment.sealed, ticks[id(segment)]
            data = _copied(old, segment.listed, about) or _pack_listed(_listed(run, segment))
            if places:
                crc = crc32(b",", crc)
                file.write(b",")
            places[segment] = Place(file.tell(), len(data), crc32(data), about)
            crc = crc32(data, crc)
            file.write(data)
        file.write(end + b"\n")
        file.seek(0)
        file.write(b"%08x" % crc32(end, crc))
    temporary.replace(run.folder / INDEX)
    for segment, place in places.items():
        segment.listed = place


def _listed(run: LocalRun, segment: Segment) -> Listed:
    rows = list(map(row_of, run.entries.of(segment)))
    return Listed(segment.name, segment.size, _end(segment.path, segment.size) or 0, segment.sealed, rows)


@contextmanager
def _old(folder: Path) -> Iterator[int | None]:
    """The index that there is, to read from; None: there is none that can be read."""
    try:
        fd = os.open(folder / INDEX, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:  # what cannot be read is made anew
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _copied(old: int | None, place: Place | None, about: tuple[int, bool, int]) -> bytes | None:
    """What the index says of a sealed segment; None: something else than is to be said now, or it is not what was
    written there."""
    if old is None or place is None or place.about != about or not about[1]:
        return None
    try:
        data = os.pread(old, place.length, place.begin)
    except OSError:
        return None
    return data if crc32(data) == place.crc and len(data) == place.length else None


def load_index(folder: Path) -> Index | None:
    """A run's index; None: it has none, or one of another format or run.

    Raises:
        Damaged: it is not what was written.
        OSError: it cannot be read.
    """
    try:
        index = unpack_index((folder / INDEX).read_bytes())
    except FileNotFoundError:
        return None
    return index if index is not None and index.run == run_of(folder.name) else None


def entries_of(listed: Listed, segment: Segment) -> list[Entry]:
    """The blocks of a segment."""
    return [
        Entry(segment, offset, footer, ordinal=ordinal, first=first, last=last, first_at=first_at, last_at=last_at,
              count=count, step=step, size=size, frame=frame, crc=crc)
        for offset, footer, ordinal, first, last, first_at, last_at, count, step, size, frame, crc in listed.blocks
    ]  # fmt: skip


def edges_of(listed: Listed) -> dict[int, int]:
    """Where the blocks of a segment end, which is gone; see ``LocalRun.edges``."""
    ordinal, last, count = (FIELDS.index(name) for name in ("ordinal", "last", "count"))
    return {row[ordinal] + row[count]: row[last] for row in listed.blocks}


def fits(listed: Listed, path: Path) -> bool:
    """Whether a file has, where the index ends, the footer that the index says: one that was replaced has not."""
    return listed.size == 0 or _end(path, listed.size) == listed.end


def _end(path: Path, size: int) -> int | None:
    """The CRC of the footer that ends at an offset; None: none does, or there is no such file."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        return footer_crc(os.pread(file.fileno(), TAIL_BYTES, size - TAIL_BYTES)) if size >= TAIL_BYTES else None
