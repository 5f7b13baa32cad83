"""The segment format: blocks of ticks and their footers in a file.

    segment := (block footer)* seal*
        block   := one zstd frame (RFC 8878) with a content checksum: JSONL, each tick's bytes and a line feed
        footer  := one skippable frame after it: a summary of the block, the numbers and receive times of its ticks, a
        CRC
        seal    := a footer without a block: no block follows in this segment, and possibly: the run is over

Ordinary decoders skip footers, so ``zstdcat`` can read a segment. A footer ends with its own length, so that a segment
can be walked from its end without decompressing anything. ``docs/reference/segments.md`` specifies every byte. The
``journal`` vouches for the open block, which has no footer yet.

Pure: bytes in, bytes out; no I/O, no clock.
"""

from __future__ import annotations

import operator
import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final
from zlib import crc32

import zstandard

from ...errors import Damaged, HistoryError, TickError
from ...model.tick import parse

VERSION: Final = 1
SUFFIX: Final = ".jsonl.zst"
SKIPPABLE: Final = 0x184D2A5C  # one of the sixteen magic numbers of skippable frames
SIGNATURE: Final = SKIPPABLE.to_bytes(4, "little")  # the first bytes of a footer

_HEAD: Final = struct.Struct("<II4sBBBx")  # skippable magic, length of what follows, "TICK", version, flags, len(run)
_BODY: Final = struct.Struct("<8q2Q3I")
_TAIL: Final = struct.Struct("<II4s")  # CRC of all before it, length of the whole footer, "KCIT"
_MAGIC, _MAGIC_BACK = b"TICK", b"KCIT"
_ENDED, _LOST_TAIL, _SEALED = 1, 2, 4
TAIL_BYTES: Final = _TAIL.size
MIN_FOOTER: Final = _HEAD.size + _BODY.size + _TAIL.size
MAX_FOOTER: Final = 1 << 26
MAX_SEAL: Final = MIN_FOOTER + 64  # with the longest name of a run

_packer: Final = zstandard.ZstdCompressor(level=3)
_MAX_TICKS: Final = 1 << 24
_ANY_SIZE: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Footer:
    """The summary of a block.

    Attributes:
        run, seq: the run, and its place in the order of runs.
        started: when the run's first tick was received, ms since the epoch.
        origin: the first ``t`` that the run published.
        ordinal: how many ticks the run published before this block's first one. If fewer are found before it, some are
            missing.
        first, last: its lowest and highest ``t``.
        first_at, last_at: when these two were received, ms since the epoch.
        size: bytes of its lines.
        frame: bytes of the zstd frame; 0: it is a seal.
        count: ticks.
        step: the difference of consecutive numbers, if it is constant; else 0.
        crc: CRC-32 of the zstd frame.
        columns: the numbers and receive times, packed (see ``pack_columns``).
        sealed: no block follows in this segment. Such a footer is a seal: it has no block, ``ordinal`` counts
            everything that the run published up to here, and ``first`` and ``last`` are the highest ``t`` of that.
        ended: it is a seal, and the run is over.
        lost_tail: and ticks after ``last`` were lost before they reached history.
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
    size: int = 0
    frame: int = 0
    count: int = 0
    step: int = 0
    crc: int = 0
    columns: bytes = b""
    sealed: bool = False
    ended: bool = False
    lost_tail: bool = False

    def pack(self) -> bytes:
        """The skippable frame."""
        run = self.run.encode()
        flags = _ENDED * self.ended | _LOST_TAIL * self.lost_tail | _SEALED * self.sealed
        length = MIN_FOOTER + len(run) + len(self.columns)
        head = _HEAD.pack(SKIPPABLE, length - 8, _MAGIC, VERSION, flags, len(run))
        body = _BODY.pack(
            self.seq, self.started, self.origin, self.ordinal, self.first, self.last, self.first_at, self.last_at,
            self.size, self.frame, self.count, self.step, self.crc,
        )  # fmt: skip
        data = head + body + run + self.columns
        return data + _TAIL.pack(crc32(data), length, _MAGIC_BACK)


def footer_length(tail: bytes) -> int:
    """The length of the footer that ends with these ``TAIL_BYTES`` bytes; 0: no footer ends here."""
    if len(tail) != _TAIL.size:
        return 0
    _, length, magic = _TAIL.unpack(tail)
    return int(length) if magic == _MAGIC_BACK and MIN_FOOTER <= length <= MAX_FOOTER else 0


def footer_crc(tail: bytes) -> int | None:
    """The CRC in a footer's last ``TAIL_BYTES`` bytes, which identifies it; None: no footer ends here."""
    return int(_TAIL.unpack(tail)[0]) if footer_length(tail) else None


def footer_begins(data: bytes) -> int | None:
    """The length of the footer that begins with these 8 bytes, as it says itself; None: no footer begins here."""
    magic, rest = struct.unpack("<II", data)
    return rest + 8 if magic == SKIPPABLE and MIN_FOOTER <= rest + 8 <= MAX_FOOTER else None


def unpack_footer(data: bytes) -> Footer:
    """Read a footer; ``data`` must be exactly one.

    Raises:
        Damaged: it is not one, or its CRC does not match.
        HistoryError: it is one, in a format that this program does not know.
    """
    if len(data) < _HEAD.size + _TAIL.size:
        raise Damaged("a footer is cut off")
    crc, length, back = _TAIL.unpack_from(data, len(data) - _TAIL.size)
    magic, rest, name, version, flags, run_bytes = _HEAD.unpack_from(data)
    if magic != SKIPPABLE or name != _MAGIC or back != _MAGIC_BACK or length != len(data) or rest != length - 8:
        raise Damaged("there is no footer where one should be")
    if crc32(memoryview(data)[: -_TAIL.size]) != crc:
        raise Damaged("a footer's CRC does not match")
    if version != VERSION:
        raise HistoryError(f"a segment has format {version}; this program knows format {VERSION}")
    at = _HEAD.size + _BODY.size
    if length < at + run_bytes + _TAIL.size:
        raise Damaged("a footer is too short for what it should hold")
    run = data[at : at + run_bytes].decode("ascii", "replace")
    seq, started, origin, ordinal, first, last, first_at, last_at, size, frame, count, step, frame_crc = (
        _BODY.unpack_from(data, _HEAD.size)
    )
    return Footer(
        run, seq, started, origin, ordinal, first, last, first_at, last_at, size, frame, count, step, frame_crc,
        columns=data[at + run_bytes : -_TAIL.size],
        sealed=bool(flags & _SEALED), ended=bool(flags & _ENDED), lost_tail=bool(flags & _LOST_TAIL),
    )  # fmt: skip


def pack_columns(ts: Sequence[int], ats: Sequence[int]) -> bytes:
    """Pack the numbers and receive times of a block's ticks: a zstd frame of 64-bit little-endian differences, first
    between consecutive numbers (of the first one, from 0), then between receive times."""
    differences = array("q", [ts[0], *map(operator.sub, ts[1:], ts), ats[0], *map(operator.sub, ats[1:], ats)])
    return _packer.compress(little(differences).tobytes())


def unpack_columns(columns: bytes, count: int) -> tuple[list[int], list[int]]:
    """The inverse of ``pack_columns``.

    Raises:
        Damaged: they are not those of ``count`` ticks.
    """
    try:
        data = zstandard.ZstdDecompressor().decompress(columns, max_output_size=16 * min(count, _MAX_TICKS))
    except zstandard.ZstdError as error:
        raise Damaged(f"a block's columns cannot be decompressed: {error}") from None
    if len(data) != 16 * count or not count:
        raise Damaged(f"a block's columns have {len(data)} bytes, not {16 * count}")
    differences = array("q", data)
    little(differences)
    return list(accumulate(differences[:count])), list(accumulate(differences[count:]))


def little(numbers: array[int]) -> array[int]:
    """Convert numbers between the machine's byte order and that of the files, in place."""
    if sys.byteorder != "little":
        numbers.byteswap()
    return numbers


def step_of(ts: Sequence[int]) -> int:
    """The constant difference of consecutive numbers; 0 if there is none (or it needs more than 32 bits)."""
    if len(ts) < 2:
        return 0
    step = ts[1] - ts[0]
    regular = ts[-1] - ts[0] == step * (len(ts) - 1) and step < 1 << 32
    return step if regular and all(b - a == step for a, b in pairwise(ts)) else 0


# ---- without a footer ----


def numbers(lines: bytes) -> list[int] | None:
    """The numbers of a block's ticks, from its lines; None if these are not ticks, or do not rise."""
    ts: list[int] = []
    tip = -1
    for line in lines.split(b"\n")[:-1]:
        try:
            t, data = parse(line, _ANY_SIZE)
        except TickError:
            return None
        if t <= tip or data != line:
            return None
        ts.append(t)
        tip = t
    return ts if lines.endswith(b"\n") else None


def spread(count: int, first_at: int, last_at: int) -> list[int]:
    """Estimated receive times for ticks between two known times."""
    return [first_at + max(last_at - first_at, 0) * index // max(count - 1, 1) for index in range(count)]
