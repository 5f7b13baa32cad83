"""NDJSON: a line a message, a blank line as heartbeat; chunked for HTTP/1.1, close-delimited for HTTP/1.0.

Ticks hold neither CR nor LF, so each is a line as it stands.

With ``coding`` zstd, what is written at once is a zstd frame of its own (RFC 8878), without references to any other, so
that it is made once for all, and so that stored blocks take their place in the stream as they are. Some decoders fail
on a read that ends exactly where a frame does (httpx 0.28); so each write ends with the first bytes of the frame to
come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import zstandard

from ..notices import End, Notice
from ..view import Payload
from . import LAST_CHUNK, chunk, notice_json

ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_EMPTY_FRAME: Final = ZSTD_MAGIC + b"\x20\x00\x01\x00\x00"
_compressor: Final = zstandard.ZstdCompressor(level=3)


@dataclass(frozen=True, slots=True)
class NDJSONFraming:
    """Lines; positions are the ticks' own ``t``, with the run in the header ``Tick-Run`` or a notice.

    Attributes:
        coding: ``zstd``, or empty for none.
    """

    chunked: bool = True
    coding: str = ""

    @property
    def opening(self) -> bytes:
        return self._chunk(ZSTD_MAGIC) if self.coding else b""

    @property
    def heartbeat(self) -> bytes:
        return self._wrap(b"\n")

    def messages(self, run: str, payloads: Sequence[Payload]) -> bytes:
        return self._wrap(lines(payloads))

    def notice(self, notice: Notice) -> bytes:
        return self._wrap(notice_json(notice) + b"\n")

    def closing(self, notice: Notice) -> bytes | None:
        if not isinstance(notice, End):
            return None
        rest = self._chunk(_EMPTY_FRAME[len(ZSTD_MAGIC) :]) if self.coding else b""
        return rest + (LAST_CHUNK if self.chunked else b"")

    def stored(self, frames: bytes | bytearray) -> bytes:
        """Stored blocks, which are zstd frames of lines."""
        return self._chunk(bytes(frames[len(ZSTD_MAGIC) :]) + ZSTD_MAGIC)

    def _wrap(self, data: bytes) -> bytes:
        return self.stored(_compressor.compress(data)) if self.coding and data else self._chunk(data)

    def _chunk(self, data: bytes) -> bytes:
        return chunk(data) if self.chunked else data


def lines(payloads: Sequence[Payload]) -> bytes:
    """Each payload as a line."""
    return b"\n".join([p.data for p in payloads] + [b""])
