"""The segment format: how blocks of ticks and their feet lie in a file, and how the open block is journaled.

    segment := (block foot)* end?
    block   := one zstd frame (RFC 8878) of JSONL: each tick's bytes and a line feed
    foot    := one skippable frame behind it: what the block holds, the numbers and receive times of its ticks, a CRC
    end     := a foot without a block: the run is over

Ordinary decoders pass over feet, so that ``zstdcat`` reads a segment as it is. A foot ends with its own length, so that
a segment can be walked from its end without decompressing anything.

The open block's frame is flushed as it grows. A journal beside the segment has, for each flush, where it ended, its
CRC, and the numbers and receive times that the foot will have; what a crash leaves of the block is cut back to the last
flush that the journal vouches for. ``docs/reference/segments.md`` specifies every byte of both.

Pure: bytes in, bytes out; no I/O, no clock.
"""

from __future__ import annotations

import operator
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, NamedTuple
from zlib import crc32

import zstandard

from ..errors import Damaged

VERSION: Final = 1
SUFFIX: Final = ".jsonl.zst"
SKIPPABLE: Final = 0x184D2A5C  # one of the sixteen magic numbers of skippable frames
END_OF_FRAME: Final = b"\x01\x00\x00"  # an empty last block: closes a frame that was flushed
JOURNAL: Final = "journal"

_HEAD: Final = struct.Struct("<II4sBBBx")  # skippable magic, length of what follows, "TICK", version, flags, len(run)
_BODY: Final = struct.Struct("<QQQQQQQQIIIII")
_TAIL: Final = struct.Struct("<II4s")  # CRC of all before it, length of the whole foot, "KCIT"
_MAGIC, _MAGIC_BACK = b"TICK", b"KCIT"
_ENDED, _LOST_TAIL = 1, 2
TAIL_BYTES: Final = _TAIL.size
MAX_FOOT: Final = 1 << 26

_JOURNAL_HEAD: Final = struct.Struct("<4sBBxxQQQQQQ")
_JOURNAL_MAGIC: Final = b"TJNL"
_RECORD: Final = struct.Struct("<IIQI")  # CRC of the rest, ticks, end of the flush in the block, CRC of its bytes
_U32: Final = struct.Struct("<I")

_packer: Final = zstandard.ZstdCompressor(level=3)
_MAX_TICKS: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class Foot:
    """What a block holds.

    Attributes:
        run, seq: the run, and its place in the order of runs.
        started: when the run's first tick was received, ms since the epoch.
        origin: the first ``t`` that the run published.
        ordinal: how many ticks the run published before this block's first one. Where that is more than are found
            before it, some are missing.
        first, last: its lowest and highest ``t``.
        first_at, last_at: when those two were received, ms since the epoch.
        count: ticks.
        step: what lies between each two numbers, where that is always the same; else 0.
        size: bytes of its lines.
        frame: bytes of the zstd frame.
        crc: CRC-32 of the zstd frame.
        columns: the numbers and receive times, packed (see ``pack_columns``).
        ended: the run is over behind it; such a foot has no block, and ``first`` and ``last`` are the run's tip.
        lost_tail: ticks behind the tip were lost.
    """

    run: str
    seq: int
    started: int
    origin: int
    ordinal: int
    first: int
    last: int
    first_at: int
    last_at: int
    count: int
    step: int
    size: int
    frame: int
    crc: int
    columns: bytes
    ended: bool = False
    lost_tail: bool = False

    def pack(self) -> bytes:
        """The skippable frame."""
        run = self.run.encode()
        flags = _ENDED * self.ended | _LOST_TAIL * self.lost_tail
        length = _HEAD.size + _BODY.size + len(run) + len(self.columns) + _TAIL.size
        head = _HEAD.pack(SKIPPABLE, length - 8, _MAGIC, VERSION, flags, len(run))
        body = _BODY.pack(
            self.seq, self.started, self.origin, self.ordinal, self.first, self.last, self.first_at, self.last_at,
            self.count, self.step, self.size, self.frame, self.crc,
        )  # fmt: skip
        data = head + body + run + self.columns
        return data + _TAIL.pack(crc32(data), length, _MAGIC_BACK)


def foot_length(tail: bytes) -> int:
    """How long the foot is that ends with these ``TAIL_BYTES`` bytes; 0: no foot ends here."""
    if len(tail) != _TAIL.size:
        return 0
    _, length, magic = _TAIL.unpack(tail)
    return int(length) if magic == _MAGIC_BACK and _HEAD.size + _BODY.size + _TAIL.size <= length <= MAX_FOOT else 0


def unpack_foot(data: bytes) -> Foot:
    """Read a foot, all of it and nothing else.

    Raises:
        Damaged: it is none, or its CRC is not that of its bytes.
    """
    if len(data) < _HEAD.size + _BODY.size + _TAIL.size:
        raise Damaged("a foot is cut off")
    crc, length, back = _TAIL.unpack_from(data, len(data) - _TAIL.size)
    magic, rest, name, version, flags, run_bytes = _HEAD.unpack_from(data)
    if magic != SKIPPABLE or name != _MAGIC or back != _MAGIC_BACK or length != len(data) or rest != length - 8:
        raise Damaged("there is no foot where one should be")
    if crc32(memoryview(data)[: -_TAIL.size]) != crc:
        raise Damaged("a foot's CRC does not match")
    if version != VERSION:
        raise Damaged(f"the segment has format {version}; this program knows {VERSION}")
    seq, started, origin, ordinal, first, last, first_at, last_at, count, step, size, frame, frame_crc = (
        _BODY.unpack_from(data, _HEAD.size)
    )
    at = _HEAD.size + _BODY.size
    run = data[at : at + run_bytes].decode("ascii", "replace")
    columns = data[at + run_bytes : -_TAIL.size]
    return Foot(
        run, seq, started, origin, ordinal, first, last, first_at, last_at, count, step, size, frame, frame_crc,
        columns, bool(flags & _ENDED), bool(flags & _LOST_TAIL),
    )  # fmt: skip


def pack_columns(ts: Sequence[int], ats: Sequence[int]) -> bytes:
    """The numbers and receive times of a block's ticks: a zstd frame of 64-bit little-endian differences, first those
    of all numbers from the one before (the first from 0), then those of all receive times."""
    differences = array("Q", [ts[0], *map(operator.sub, ts[1:], ts), ats[0], *map(operator.sub, ats[1:], ats)])
    return _packer.compress(_little(differences).tobytes())


def unpack_columns(columns: bytes, count: int) -> tuple[list[int], list[int]]:
    """The reverse of ``pack_columns``.

    Raises:
        Damaged: they are not those of ``count`` ticks.
    """
    try:
        data = zstandard.ZstdDecompressor().decompress(columns, max_output_size=16 * min(count, _MAX_TICKS))
    except zstandard.ZstdError as error:
        raise Damaged(f"a block's columns cannot be decompressed: {error}") from None
    if len(data) != 16 * count or not count:
        raise Damaged(f"a block's columns have {len(data)} bytes, not {16 * count}")
    differences = array("Q")
    differences.frombytes(data)
    differences = _little(differences)
    return list(accumulate(differences[:count])), list(accumulate(differences[count:]))


def _little(numbers: array[int]) -> array[int]:
    if struct.pack("=I", 1) != struct.pack("<I", 1):
        numbers.byteswap()
    return numbers


def step_of(ts: Sequence[int]) -> int:
    """The one difference between each two numbers, 0 where they differ or there is none (or it needs over 32 bits)."""
    if len(ts) < 2:
        return 0
    step = ts[1] - ts[0]
    regular = ts[-1] - ts[0] == step * (len(ts) - 1) and step < 1 << 32
    return step if regular and all(b - a == step for a, b in pairwise(ts)) else 0


class JournalHead(NamedTuple):
    """Which block a journal is of: the run's facts as its foot will have them, and where it begins."""

    seq: int
    started: int
    origin: int
    ordinal: int
    segment: int  # the first ``t`` in the segment, which names its file
    offset: int  # where the block begins in the segment

    def pack(self) -> bytes:
        data = _JOURNAL_HEAD.pack(_JOURNAL_MAGIC, VERSION, 0, *self)
        return data + _U32.pack(crc32(data))


class Flush(NamedTuple):
    """One flush of the open block: the bytes of the frame up to ``end`` hold these ticks beside those before."""

    end: int
    crc: int  # of the bytes since the flush before
    ts: list[int]
    ats: list[int]

    def pack(self) -> bytes:
        numbers = _little(array("Q", [*self.ts, *self.ats])).tobytes()
        body = _RECORD.pack(0, len(self.ts), self.end, self.crc)[4:] + numbers
        return _U32.pack(crc32(body)) + body


def unpack_journal(data: bytes) -> tuple[JournalHead, list[Flush]] | None:
    """What a journal vouches for: its head and the flushes up to the first that is torn or damaged; None: no head."""
    size = _JOURNAL_HEAD.size
    if len(data) < size + 4 or _U32.unpack_from(data, size)[0] != crc32(data[:size]):
        return None
    magic, version, _, *fields = _JOURNAL_HEAD.unpack_from(data)
    if magic != _JOURNAL_MAGIC or version != VERSION:
        return None
    flushes: list[Flush] = []
    at = size + 4
    while len(data) - at >= _RECORD.size:
        crc, count, end, flush_crc = _RECORD.unpack_from(data, at)
        stop = at + _RECORD.size + 16 * count
        if stop > len(data) or crc32(memoryview(data)[at + 4 : stop]) != crc:
            break
        numbers = array("Q")
        numbers.frombytes(data[at + _RECORD.size : stop])
        numbers = _little(numbers)
        flushes.append(Flush(end, flush_crc, list(numbers[:count]), list(numbers[count:])))
        at = stop
    return JournalHead(*fields), flushes


def vouched(frame: bytes, flushes: Sequence[Flush]) -> list[Flush]:
    """Those flushes whose bytes lie whole and sound in what is left of the open block's frame."""
    sound: list[Flush] = []
    begin = 0
    for flush in flushes:
        if flush.end > len(frame) or crc32(memoryview(frame)[begin : flush.end]) != flush.crc:
            break
        sound.append(flush)
        begin = flush.end
    return sound


def decompress(frame: bytes, size: int) -> bytes:
    """A block's lines.

    Args:
        size: how many bytes they are.

    Raises:
        Damaged: it is no zstd frame of that content.
    """
    try:
        reader = zstandard.ZstdDecompressor().decompressobj()
        lines = reader.decompress(frame)
    except zstandard.ZstdError as error:
        raise Damaged(f"a block cannot be decompressed: {error}") from None
    if len(lines) != size or not reader.eof or reader.unused_data:
        raise Damaged(f"a block has {len(lines)} bytes, not {size}")
    return lines


def decompress_torn(frame: bytes) -> bytes:
    """The whole lines in what there is of a frame; the rest of it may be missing or damaged."""
    reader = zstandard.ZstdDecompressor().decompressobj()
    parts: list[bytes] = []
    for at in range(0, len(frame), 256):  # what decompressed before the fault is kept
        try:
            parts.append(reader.decompress(frame[at : at + 256]))
        except zstandard.ZstdError:
            break
        if reader.eof:
            break
    lines = b"".join(parts)
    return lines[: lines.rfind(b"\n") + 1]
