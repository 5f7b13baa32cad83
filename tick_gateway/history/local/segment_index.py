"""A segment's index file: the records of its blocks, so that memory need not hold them.

    DIR/RUN/FIRST_T.index := head record*

A cache of the segment's footers. It is read a page at a time, when a block is looked up. If it is gone or not what was
written, the footers are read instead and kept in memory until the thread that writes history has rewritten it (see
``mend``).

Everything here waits for the disk. It is the one part of history that the event loop waits for: some kilobytes, which
the system nearly always has in memory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from zlib import crc32

from ...errors import Damaged, HistoryError
from ..block_index import BlockRange
from ..format.block_record import HEAD, RECORD_BYTES, check_records
from ..format.segment import SUFFIX
from ..record_page import HeldRecords, RecordPage
from ..stored_block import Entry, Page, Volume
from .disk import READ, replace_file
from .run_directory import run_of
from .segment_file import Segment, walk

log = logging.getLogger("tick_gateway.history")

INDEX_SUFFIX: Final = ".index"


def index_path(segment: Path) -> Path:
    """The path of a segment's index."""
    return segment.with_name(index_name(segment.name))


def index_name(segment: str) -> str:
    """The name of a segment's index."""
    return segment.removesuffix(SUFFIX) + INDEX_SUFFIX


def index_paths(directory: Path) -> list[Path]:
    """The paths of all index files in a run's directory, whatever their segments."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):  # somebody deleted it
        return []
    found = (name for name in names if name.endswith(INDEX_SUFFIX))
    return [directory / name for name in found if name.removesuffix(INDEX_SUFFIX).isdecimal()]


class SegmentIndex:
    """The records of a segment's blocks, in its index file.

    Attributes:
        segment: the segment.
        size: bytes of the segment that it covers.
        seed: initial value of the records' CRCs: the CRC of the segment's first block, so that another segment's
            records are not valid.
        crc: CRC-32 of all records.
    """

    __slots__ = ("_blocks", "_rebuilt", "crc", "seed", "segment", "size")

    def __init__(self, segment: Segment, size: int, blocks: int, seed: int, crc: int) -> None:
        self.segment = segment
        self.size = size
        self.seed = seed
        self.crc = crc
        self._blocks = blocks
        # Records from the footers, if the file was found damaged, until it is rewritten. Set by any thread: answers do
        # not depend on it.
        self._rebuilt: bytes | None = None

    def __len__(self) -> int:
        return self._blocks

    def page(self, begin: int, end: int, volume: Volume) -> Page:
        """See ``RecordSource.page``."""
        return RecordPage(self._read(begin, end), 0, volume)

    def _read(self, begin: int, end: int) -> bytes:
        rebuilt = self._rebuilt
        if rebuilt is None:
            try:
                return read_records(index_path(self.segment.path), begin, end, self.seed)
            except (Damaged, OSError) as error:
                if not self.segment.retired:
                    path, problem = self.segment.path, error.strerror if isinstance(error, OSError) else error
                    log.warning(
                        "history: %s/%s: its index cannot be read, its footers are: %s",
                        path.parent.name, path.name, problem,
                    )  # fmt: skip
            rebuilt = self._rebuilt = self._by_footers()
        return rebuilt[begin * RECORD_BYTES : end * RECORD_BYTES]

    def _by_footers(self) -> bytes:
        """All records, from the segment's footers.

        Raises:
            Damaged: the footers have other blocks.
            HistoryError, OSError: as for ``walk``.
        """
        run = run_of(self.segment.path.parent.name)
        entries = [
            Entry.of(self.segment, found.begin, found.footer, found.length)
            for found in walk(self.segment.path).footers
            if found.footer.frame and found.footer.run == run
        ][: self._blocks]
        records = HeldRecords(entries).pack(self.seed)
        if crc32(records) != self.crc:
            raise Damaged(f"the index of {self.segment.name} is damaged, and so are its footers")
        return records

    def mend(self) -> bool:
        """Rewrite the file if it is gone, or was found damaged; returns whether it was.

        Raises:
            Damaged, OSError: it failed.
        """
        path = index_path(self.segment.path)
        if self._rebuilt is None:
            try:
                if path.stat().st_size >= len(HEAD) + self._blocks * RECORD_BYTES:
                    return False
            except FileNotFoundError:
                pass
        replace_file(path, HEAD + (self._rebuilt or self._by_footers()))
        self._rebuilt = None
        return True


def write_segment_index(segment: Segment, entries: Iterable[Entry]) -> SegmentIndex:
    """Write the index of a segment that has these blocks, at least one.

    Raises:
        OSError: it cannot be written; the old one is unchanged.
    """
    found = list(entries)
    records = HeldRecords(found).pack(found[0].crc)
    replace_file(index_path(segment.path), HEAD + records)
    return SegmentIndex(segment, segment.size, len(found), found[0].crc, crc32(records))


def read_records(path: Path, begin: int, end: int, seed: int | None = None) -> bytes:
    """Some records of an index file. (By reads, not mmap: a file that shrinks meanwhile must not crash the process.)

    Args:
        seed: initial value of the records' CRCs, which are checked; None: they are not.

    Raises:
        Damaged: they are not what was written, or have another format.
        OSError: the file cannot be read.
    """
    fd = os.open(path, READ)
    try:
        head = os.pread(fd, len(HEAD), 0)
        data = os.pread(fd, (end - begin) * RECORD_BYTES, len(HEAD) + begin * RECORD_BYTES)
    finally:
        os.close(fd)
    if head != HEAD:
        raise Damaged(f"{path.name} is of another format, or damaged")
    if len(data) != (end - begin) * RECORD_BYTES:
        raise Damaged(f"{path.name} is cut off")
    if seed is not None:
        check_records(data, seed)
    return data


def mend_indexes(ranges: Iterable[BlockRange]) -> bool:
    """Write the index files of a segment's blocks anew, where that is needed; what cannot be done is left for later.

    Returns:
        Whether it was needed for any.
    """
    needed = False
    for index in {block_range.records for block_range in ranges}:
        if isinstance(index, SegmentIndex):
            try:
                needed = index.mend() or needed
            except (HistoryError, OSError):  # it was logged when somebody needed it; until then it may come back
                needed = True
    return needed
