"""The content of a zstd file that another program writes, as far as it has come.

Such a file is a row of frames (RFC 8878), whose last one may be open: each flush of its writer ends a block. So blocks
are taken one by one, each as soon as it is whole. A writer that was killed leaves its last block cut off; where one
then appends, a new frame begins behind that, and reading goes on there:

    between frames ──magic──► block ──► block ──► last block, checksum ──► between frames
          ▲                     │ cut off, damaged
          └──── the next magic ◄┘           what was an unfinished line is ended there

What comes out does not depend on the pieces in which the bytes came in. Pure: bytes in, bytes out.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import zstandard

MAGIC: Final = b"\x28\xb5\x2f\xfd"  # never part of UTF-8 text, and so of no block that holds text as it is
_SKIPPABLE: Final = b"\x2a\x4d\x18"  # behind one byte 0x50 to 0x5f
_LARGEST_BLOCK: Final = 1 << 17
_LARGEST_HEADER: Final = 18
_RLE, _COMPRESSED, _RESERVED = 1, 2, 3
_CHECKSUM_BYTES: Final = 4
_LINE_FEED: Final = 10
_LOOK_BACK: Final = len(MAGIC) - 1  # of a new frame's magic, so much may have filled up a block that was cut off


class Cut(NamedTuple):
    """Bytes of a file, from ``begin`` to before ``end``, that belong to no whole block of a frame; none of them: the
    frame before breaks off there."""

    begin: int
    end: int

    def __str__(self) -> str:
        if self.end - self.begin > 1:
            return f"bytes {self.begin} to {self.end - 1} belong to no whole zstd frame"
        if self.end > self.begin:
            return f"byte {self.begin} belongs to no whole zstd frame"
        return f"the zstd frame before byte {self.end} breaks off"


class _Header(NamedTuple):
    """A frame's header: its bytes, the largest block in its frame, and whether a checksum ends that."""

    size: int
    largest: int
    checksum: bool


class Frames:
    """Decompresses what it is fed, block by block.

    Args:
        at: where in its file the bytes begin that it will be fed: 0, or where a frame begins.

    Attributes:
        at: where in the file the first byte lies that was not used yet.
        given: bytes of content that came out.
        boundary: the newest place where a frame begins and the content before it ends with a line, as ``at`` and
            ``given`` were there.
        lost: where it lost its way, while it looks for the next magic; else None.
        cuts: what was passed over, for the caller to take away.
    """

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.given = 0
        self.boundary = (at, 0)
        self.cuts: list[Cut] = []
        self._data = b""
        self._from = 0  # what of the data is not used yet begins here, which is ``at`` in the file
        self._reader: zstandard.ZstdDecompressionObj | None = None  # of the frame that is open
        self._largest = 0
        self._checksum = False
        self._ending = False  # the last block is through, its checksum is not
        self._skip = 0  # bytes of a skippable frame that are still to come
        self.lost: int | None = None
        self._in_line = False  # the content does not end with a line's end
        self._content: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        """The content that is there now."""
        kept = max(self._from - _LOOK_BACK, 0)
        self._data, self._from = self._data[kept:] + data, self._from - kept
        while self._step():
            continue
        found, self._content = b"".join(self._content), []
        return found

    def _step(self) -> bool:
        """Go on by one step; whether there may be another one."""
        if self._skip:
            size = min(self._skip, len(self._data) - self._from)
            self._skip -= size
            return self._pass(size)
        if self.lost is not None:
            return self._look_for_magic()
        if self._ending:
            return self._end_frame()
        if self._reader is None:
            return self._begin_frame()
        return self._blocks(0)

    def _pass(self, size: int) -> bool:
        self._from += size
        self.at += size
        return size > 0

    def _give(self, piece: bytes) -> None:
        if piece:
            self._content.append(piece)
            self.given += len(piece)
            self._in_line = piece[-1] != _LINE_FEED

    # ---- between frames ----

    def _begin_frame(self) -> bool:
        start = self._data[self._from : self._from + _LARGEST_HEADER]
        if len(start) < len(MAGIC):
            return False
        if not self._in_line:
            self.boundary = self.at, self.given
        if start[1:4] == _SKIPPABLE and 0x50 <= start[0] <= 0x5F:
            self._skip = 8 + int.from_bytes(start[4:8], "little") if len(start) >= 8 else 0
            return self._skip > 0
        if not start.startswith(MAGIC):
            return self._lose(self._from)
        header = _header(start)
        if header is None:
            return self._lose(self._from, 1)
        if header.size > len(start):
            return False
        self._reader = zstandard.ZstdDecompressor().decompressobj()
        self._largest, self._checksum = header.largest, header.checksum
        if not self._blocks(header.size):  # the frame has not begun before its first block is whole and sound
            self._reader = None
            return False
        return True

    def _look_for_magic(self) -> bool:
        found = self._data.find(MAGIC, self._from)
        if found < 0:
            self._pass(max(len(self._data) - len(MAGIC) + 1 - self._from, 0))
            return False
        self._pass(found - self._from)
        assert self.lost is not None
        self.cuts.append(Cut(min(self.lost, self.at), self.at))
        self.lost = None
        if self._in_line:
            self._give(b"\n")
        return True

    def _lose(self, at: int, search: int = -_LOOK_BACK) -> bool:
        """What lies from ``at`` on in the data is not what it should be: look for the next frame, ``search`` bytes
        behind that."""
        self.lost = self.at + at - self._from
        self._reader, self._ending = None, False
        self._pass(max(at + search, 0) - self._from)
        return True

    # ---- in a frame ----

    def _blocks(self, header: int) -> bool:
        """Take blocks, the first of them behind so many bytes of its frame's header; whether there were any, or what
        is there is none."""
        data, start, reader = self._data, self._from, self._reader
        assert reader is not None
        at, end, last = start, len(data), False
        magic = data.find(MAGIC, max(at + (1 if header else -_LOOK_BACK), 0))
        while not last and end - at >= header + 3:
            begin = at + header
            head = data[begin] | data[begin + 1] << 8 | data[begin + 2] << 16
            last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
            behind = 1 if header else -_LOOK_BACK
            if kind == _RESERVED or size > self._largest:
                return self._lose(at, behind)
            stop = begin + (4 if kind == _RLE else 3 + size)
            if 0 <= magic < at + behind:
                magic = data.find(MAGIC, at + behind)
            new = self._new_frame(magic, stop, kind, certain=magic > at) if 0 <= magic < stop else -1
            if new is not None and new >= 0:
                return self._lose(at, new - at)
            if new is None or stop > end:
                break
            try:
                self._give(reader.decompress(data[at:stop]))
            except zstandard.ZstdError:
                return self._lose(at, behind)
            at, header = stop, 0
        else:
            if last:
                self._ending, self._reader = self._checksum, reader if self._checksum else None
        return self._pass(at - start)

    def _new_frame(self, magic: int, stop: int, kind: int, *, certain: bool) -> int | None:
        """Where before ``stop``, the end of a block, a new frame begins; -1: nowhere; None: more bytes will tell. In
        compressed bytes, and over the block's begin, the magic may stand by chance: there the new frame must show its
        first block, too."""
        while 0 <= magic <= stop - len(MAGIC):
            begins = (certain and kind != _COMPRESSED) or _begins_frame(
                self._data[magic : magic + _LARGEST_HEADER + 3 + _LARGEST_BLOCK]
            )
            if begins is not False:
                return magic if begins else None
            certain = True
            magic = self._data.find(MAGIC, magic + 1)
        return -1

    def _end_frame(self) -> bool:
        checksum = self._data[self._from : self._from + _CHECKSUM_BYTES]
        if len(checksum) < _CHECKSUM_BYTES:
            return False
        assert self._reader is not None
        try:
            self._reader.decompress(checksum)
        except zstandard.ZstdError:
            return self._lose(self._from)
        self._reader, self._ending = None, False
        return self._pass(_CHECKSUM_BYTES)


def _header(data: bytes) -> _Header | None:
    """The header of the frame that begins here, where as yet there may be less of it than its ``size``; None: there is
    none."""
    if len(data) < 5:
        return _Header(_LARGEST_HEADER, 0, False)
    descriptor = data[4]
    single, checksum = bool(descriptor & 0x20), bool(descriptor & 0x04)
    if descriptor & 0x08 or descriptor & 0x03:  # a reserved bit, or a dictionary that nobody has here
        return None
    field = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    size = 5 + (0 if single else 1) + field
    if len(data) < size:
        return _Header(size, 0, checksum)
    if single:
        window = int.from_bytes(data[5 : 5 + field], "little") + (256 if field == 2 else 0)
    else:
        base = 1 << (10 + (data[5] >> 3))
        window = base + (base >> 3) * (data[5] & 7)
    return _Header(size, min(window, _LARGEST_BLOCK), checksum)


def _begins_frame(data: bytes) -> bool | None:
    """Whether a frame begins here: it shows its first block, or was cut off itself and another one behind it shows
    that; None: more bytes will tell."""
    shown, at = _shows_block(data), 0
    while shown is None and (at := data.find(MAGIC, at + 1)) > 0:
        shown = _shows_block(data[at:]) or None
    return shown


def _shows_block(data: bytes) -> bool | None:
    """Whether a frame's header and its first block are here, and sound; None: so far they are."""
    header = _header(data)
    if header is None:
        return False
    if len(data) < header.size + 3:
        return None
    head = int.from_bytes(data[header.size : header.size + 3], "little")
    kind, size = head >> 1 & 3, head >> 3
    stop = header.size + (4 if kind == _RLE else 3 + size)
    if kind == _RESERVED or size > header.largest:
        return False
    if stop > len(data):
        return None
    try:
        zstandard.ZstdDecompressor().decompressobj().decompress(data[:stop])
    except zstandard.ZstdError:
        return False
    return True
