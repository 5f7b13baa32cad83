"""Decoding a zstd file that another program writes, while it grows.

Such a file is a sequence of frames (RFC 8878), whose last one may be open: each flush of its writer ends a block. So
blocks are decoded one by one, as soon as they are complete. A writer that was killed leaves its last block cut off; if
another one then appends, a new frame begins after it, and decoding continues there:

    between frames ──magic──► block ──► block ──► last block, checksum ──► between frames
          ▲                     │ cut off, damaged
          └──── the next magic ◄┘           what was an unfinished line is ended there

A frame may end with a checksum of its content, so only its end shows whether that is correct. What was returned before
is not taken back: ``refuted`` has its place, and the caller decides what to do.

The output does not depend on the pieces in which the bytes arrive. Pure: bytes in, bytes out.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, NamedTuple

import zstandard

from ...wire.zstd_frame import (
    BLOCK_HEADER,
    COMPRESSED,
    LARGEST_BLOCK,
    MAGIC,
    RESERVED,
    RLE,
    SKIPPABLE_HEADER,
    ReservedBit,
    block_header,
    frame_header,
    header_size,
    is_skippable,
)

_LARGEST_HEADER: Final = 18
_CHECKSUM_BYTES: Final = 4
_LINE_FEED: Final = 10
_LOOK_BACK: Final = len(MAGIC) - 1  # bytes of a new frame's magic that may have completed a block that was cut off
MAX_WINDOW: Final = 1 << 27  # maximum window of a frame, in bytes, as for ``zstd -d`` without options
_UNBOUNDED: Final = 1 << 62
_KINDS: Final = {
    MAGIC: "zstd",
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


class Verdict(Enum):
    """A decision; undecided: more bytes are needed."""

    YES = auto()
    NO = auto()
    UNDECIDED = auto()


class Cut(NamedTuple):
    """Bytes of a file, from ``begin`` up to ``end``, that belong to no complete block of a frame; if empty, the
    previous frame is incomplete."""

    begin: int
    end: int

    def __str__(self) -> str:
        if self.end - self.begin > 1:
            return f"bytes {self.begin} to {self.end - 1} belong to no whole zstd frame"
        if self.end > self.begin:
            return f"byte {self.begin} belongs to no whole zstd frame"
        return f"the zstd frame before byte {self.end} breaks off"


class Refuted(NamedTuple):
    """A frame whose checksum does not match its content: bytes of the file from ``begin`` up to ``end``, with content
    from ``first`` up to ``last``."""

    begin: int
    end: int
    first: int
    last: int

    def __str__(self) -> str:
        return f"bytes {self.begin} to {self.end - 1} are a zstd frame whose checksum does not match its content"


class OpenFrame(NamedTuple):
    """An open frame: its offset in the file and in the content, whether it will end with a checksum, and how many bytes
    of content are kept to continue it."""

    at: int
    given: int
    checked: bool
    window: int


class _Header(NamedTuple):
    """A frame's header: its bytes, the maximum block size, whether there is a checksum, the window, and why the frame
    cannot be decoded (empty: it can)."""

    size: int
    largest: int
    checksum: bool
    window: int = 0
    problem: str = ""


class FrameDecoder:
    """Decompresses what it is fed, block by block.

    Args:
        at: offset in the file of the bytes that it will be fed: 0, or the begin of a frame.

    Attributes:
        at: offset in the file of the first unused byte.
        given: bytes of content returned.
        boundary: the newest place where a frame begins after the end of a line, as values of ``at`` and ``given``.
        lost: the offset from which it searches for the next magic; None: it is not searching.
        why: what is wrong there, as far as that is known.
        cuts: what was skipped; the caller removes them.
        refuted: frames with a wrong checksum; the caller removes them.
        frame: the open frame; None: it is between frames, or searching.
        ended: number of complete frames, with a correct checksum or none.
        unfinished: what it was fed has more content than there was room for.
    """

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.given = 0
        self.boundary = (at, 0)
        self.cuts: list[Cut] = []
        self.refuted: list[Refuted] = []
        self.frame: OpenFrame | None = None
        self.ended = 0
        self.unfinished = False
        self.why = ""
        self._data = b""
        self._from = 0  # the unused data begins here, which is ``at`` in the file
        self._reader: zstandard.ZstdDecompressionObj | None = None  # of the open frame
        self._largest = 0
        self._ending = False  # the last block is complete, its checksum is not
        self._mismatch = False  # the checksum does not match
        self._skip = self._skipped_from = 0  # bytes of a skippable frame still to come, and its offset
        self.lost: int | None = None
        self._in_line = False  # the content does not end at the end of a line
        self._content: list[bytes] = []
        self._room = 0

    def feed(self, data: bytes, room: int = _UNBOUNDED) -> bytes:
        """Return the content that is available: up to ``room`` bytes and one block (128 KiB) more. If there is more
        (``unfinished``), call ``feed(b"")`` next."""
        if data:
            kept = max(self._from - _LOOK_BACK, 0)
            self._data, self._from = self._data[kept:] + data, self._from - kept
        self._room = room
        while self._room > 0 and self._step():
            continue
        self.unfinished = self._room <= 0
        found, self._content = b"".join(self._content), []
        return found

    @property
    def skipping(self) -> int | None:
        """The offset of an incomplete skippable frame; None: there is none."""
        return self._skipped_from if self._skip else None

    @property
    def doubtful(self) -> bool:
        """Whether the open frame is complete and its checksum does not match, unless its last bytes are the first of
        another
        frame: more bytes will tell."""
        return self._mismatch

    def _step(self) -> bool:
        """Do one step; returns whether another one may be possible."""
        if self._skip:
            size = min(self._skip, len(self._data) - self._from)
            self._skip -= size
            return self._advance(size)
        if self.lost is not None:
            return self._look_for_magic()
        if self._ending:
            return self._end_frame()
        if self._reader is None:
            return self._begin_frame()
        return self._blocks(0)

    def _advance(self, size: int) -> bool:
        self._from += size
        self.at += size
        return size > 0

    def _give(self, piece: bytes) -> None:
        if piece:
            self._content.append(piece)
            self._room -= len(piece)
            self.given += len(piece)
            self._in_line = piece[-1] != _LINE_FEED

    # ---- between frames ----

    def _begin_frame(self) -> bool:
        start = self._data[self._from : self._from + _LARGEST_HEADER]
        if len(start) < len(MAGIC):
            return False
        if not self._in_line:
            self.boundary = self.at, self.given
        if is_skippable(start):
            there = len(start) >= SKIPPABLE_HEADER
            self._skip = SKIPPABLE_HEADER + int.from_bytes(start[4:8], "little") if there else 0
            self._skipped_from = self.at
            return self._skip > 0
        if not start.startswith(MAGIC):
            return self._lose(self._from, why=f"belongs to no zstd frame{_looks_like(start)}")
        header = _header(start)
        if header.problem:
            return self._lose(self._from, 1, why=f"begins a zstd frame that {header.problem}")
        if header.size > len(start):
            return False
        self._reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
        self._largest, self.frame = header.largest, OpenFrame(self.at, self.given, header.checksum, header.window)
        if not self._blocks(header.size):  # a frame counts only once its first block is complete and sound
            self._reader = self.frame = None
            return False
        return True

    def _look_for_magic(self) -> bool:
        found = self._data.find(MAGIC, self._from)
        if found < 0:
            self._advance(max(len(self._data) - len(MAGIC) + 1 - self._from, 0))
            return False
        self._advance(found - self._from)
        assert self.lost is not None
        self.cuts.append(Cut(min(self.lost, self.at), self.at))
        self.lost = None
        if self._in_line:
            self._give(b"\n")
        return True

    def _lose(self, at: int, search: int = -_LOOK_BACK, why: str = "belongs to no zstd frame") -> bool:
        """Data from ``at`` on is not valid: search for the next frame, from ``search`` bytes after that."""
        self.lost, self.why = self.at + at - self._from, why
        self._reader, self._ending, self.frame = None, False, None
        self._advance(max(at + search, 0) - self._from)
        return True

    # ---- in a frame ----

    def _blocks(self, header: int) -> bool:
        """Decode blocks, the first one after the frame's header; returns whether there were any, or what is there is
        not a block."""
        data, start, reader = self._data, self._from, self._reader
        assert reader is not None
        at, end = start, len(data)
        magic = data.find(MAGIC, max(at + (1 if header else -_LOOK_BACK), 0))
        while self._room > 0 and end - at >= header + BLOCK_HEADER:
            # Inline ``block_header``: a call would be a third of the cost of a tick's own block.
            begin = at + header
            word = data[begin] | data[begin + 1] << 8 | data[begin + 2] << 16
            last, kind, size = word & 1, word >> 1 & 3, word >> 3
            behind = 1 if header else -_LOOK_BACK
            if kind == RESERVED or size > self._largest:
                return self._lose(at, behind)
            stop = begin + BLOCK_HEADER + (1 if kind == RLE else size)
            if 0 <= magic < at + behind:
                magic = data.find(MAGIC, at + behind)
            if 0 <= magic < stop:
                begins, new = self._new_frame(magic, stop, kind, certain=magic > at)
                if begins is Verdict.YES:
                    return self._lose(at, new - at)
                if begins is Verdict.UNDECIDED:
                    break
            if stop > end:
                break
            try:
                self._give(reader.decompress(data[at:stop]))
            except zstandard.ZstdError:
                return self._lose(at, behind)
            at, header = stop, 0
            if last:
                self._end_blocks()
                break
        return self._advance(at - start)

    def _new_frame(self, magic: int, stop: int, kind: int, *, certain: bool) -> tuple[Verdict, int]:
        """Whether and where a new frame begins before ``stop``, the end of a block. In compressed bytes, and across the
        block's begin, the magic may occur by chance: there, the new frame must have a valid first block, too."""
        while 0 <= magic <= stop - len(MAGIC):
            if certain and kind != COMPRESSED:
                return Verdict.YES, magic
            begins = _begins_frame(self._data[magic : magic + _LARGEST_HEADER + BLOCK_HEADER + LARGEST_BLOCK])
            if begins is not Verdict.NO:
                return begins, magic
            certain = True
            magic = self._data.find(MAGIC, magic + 1)
        return Verdict.NO, -1

    def _end_blocks(self) -> None:
        """The last block is complete: the frame ends, or its checksum follows."""
        assert self.frame is not None
        if self.frame.checked:
            self._ending = True
        else:
            self._close_frame()

    def _close_frame(self) -> None:
        self._reader, self._ending, self.frame = None, False, None
        self.ended += 1

    def _end_frame(self) -> bool:
        data, start = self._data, self._from
        stop = start + _CHECKSUM_BYTES
        if len(data) < stop:
            return False
        assert self._reader is not None and self.frame is not None
        checker = self._reader
        if not self._mismatch:
            try:
                checker.decompress(data[start:stop])
            except zstandard.ZstdError:
                self._mismatch = True
            else:
                self._close_frame()
                return self._advance(_CHECKSUM_BYTES)
        # it was cut off, and another one begins
        if data.find(MAGIC, max(start - _LOOK_BACK, 0), stop + _LOOK_BACK) >= 0:
            self._mismatch = False
            return self._lose(start)
        if len(data) < stop + _LOOK_BACK and any(data.endswith(MAGIC[:size]) for size in range(1, len(MAGIC))):
            return False
        self._mismatch = False
        frame = self.frame
        self.refuted.append(Refuted(frame.at, self.at + _CHECKSUM_BYTES, frame.given, self.given))
        self._reader, self._ending, self.frame = None, False, None
        return self._advance(_CHECKSUM_BYTES)


def _looks_like(data: bytes) -> str:
    """What bytes are that are not zstd, for an error, if that can be told."""
    kind = kind_of(data)
    if kind is None and data[:1] in b"{[ \t\r\n":
        kind = "text"
    return f" (it looks like {kind})" if kind is not None else ""


def kind_of(data: bytes) -> str | None:
    """What a file is, by its first bytes, if it is not text; None: it may be text."""
    return next((name for magic, name in _KINDS.items() if data.startswith(magic)), None)


def _header(data: bytes) -> _Header:
    """The frame header at the start of the data, which may be shorter than its ``size``."""
    try:
        found = frame_header(data)
    except ReservedBit:
        return _Header(header_size(data), 0, False, problem="has a reserved bit set")
    if found is None:
        return _Header(header_size(data), 0, False)
    problem = ""
    if found.dictionary:
        problem = "asks for a dictionary, which nobody has here"
    elif found.window > MAX_WINDOW:
        asked, most = found.window >> 20, MAX_WINDOW >> 20
        problem = f"asks for a window of {asked} MiB (zstd --long), of which at most {most} are taken"
    return _Header(found.size, min(found.window, LARGEST_BLOCK), found.checksum, found.window, problem)


def _begins_frame(data: bytes) -> Verdict:
    """Whether a frame begins here: its first block is valid, or it was cut off and followed by another frame for which
    that is true."""
    verdict, at = _shows_block(data), 0
    while verdict is Verdict.UNDECIDED and (at := data.find(MAGIC, at + 1)) > 0:
        if _shows_block(data[at:]) is Verdict.YES:
            return Verdict.YES
    return verdict


def _shows_block(data: bytes) -> Verdict:
    """Whether a frame's header and its first block are complete and sound."""
    header = _header(data)
    if header.problem:
        return Verdict.NO
    if len(data) < header.size + BLOCK_HEADER:
        return Verdict.UNDECIDED
    block = block_header(data, header.size)
    stop = header.size + BLOCK_HEADER + block.length
    if block.kind == RESERVED or block.size > header.largest:
        return Verdict.NO
    if stop > len(data):
        return Verdict.UNDECIDED
    try:
        zstandard.ZstdDecompressor().decompressobj().decompress(data[:stop])
    except zstandard.ZstdError:
        return Verdict.NO
    return Verdict.YES
