"""The registry of content codings (RFC 9110, section 8.4.1): a coding is one row of ``TABLE``.

The table drives content negotiation (``http.negotiation``, ``transports.base``), the codings that publishers may use
(``decoder_of``), and what /openapi.json and error messages list. ``compression`` has the compressors, ``decoding`` the
decoders.

Pure: no I/O, no asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ..errors import BadEncoding
from .compression import Coding, GzipCoding, ZstdCoding
from .decoding import Decoder, GzipDecoder, IdentityDecoder, ZstdDecoder


@dataclass(frozen=True, slots=True)
class CodingRow:
    """A content coding.

    Attributes:
        name: its name in ``Accept-Encoding`` and ``Content-Encoding``.
        coding: makes the coding, for a compression level.
        decoder: makes a decoder for one body.
        aliases: other names that publishers may use.
        many_frames: a body is a sequence of frames, of which some clients read only the first.
        stream_rank, pull_rank: the lowest rank wins where a client's preferences are equal, for streams and for answers
            that end.
    """

    name: str
    coding: Callable[[int], Coding]
    decoder: Callable[[], Decoder]
    stream_rank: int
    pull_rank: int
    aliases: tuple[str, ...] = ()
    many_frames: bool = False


TABLE: Final = (
    # x-gzip is gzip (RFC 9110, section 8.4.1.3).
    CodingRow("gzip", GzipCoding, GzipDecoder, stream_rank=1, pull_rank=2, aliases=("x-gzip",)),
    CodingRow("zstd", ZstdCoding, ZstdDecoder, stream_rank=2, pull_rank=1, many_frames=True),
)


class Codings:
    """A table of codings, with look-ups."""

    def __init__(self, table: Iterable[CodingRow] = TABLE) -> None:
        self._rows = {row.name: row for row in table}
        self._by_any_name = {name: row for row in self._rows.values() for name in (row.name, *row.aliases)}

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._rows)

    def for_streams(self, *, one_frame: bool) -> list[str]:
        """The names of the codings for streams, best first.

        Args:
            one_frame: the client reads only the first frame of a body.
        """
        rows = [row for row in self._rows.values() if not (one_frame and row.many_frames)]
        return [row.name for row in sorted(rows, key=lambda row: row.stream_rank)]

    def for_pulls(self) -> list[str]:
        """The names of the codings for answers that end, best first."""
        return [row.name for row in sorted(self._rows.values(), key=lambda row: row.pull_rank)]

    def make(self, name: str, level: int) -> Coding:
        """The coding of a name, with a compression level."""
        return self._rows[name].coding(level)

    def decoder_of(self, fields: Iterable[str]) -> Decoder:
        """The decoder for a request's ``Content-Encoding`` header lines.

        Raises:
            BadEncoding: a coding that is not accepted, or more than one.
        """
        names = [name.strip().lower() for field in fields for name in field.split(",")]
        named = [name for name in names if name not in ("", "identity")]
        if not named:
            return IdentityDecoder()
        if len(named) > 1 or named[0] not in self._by_any_name:
            raise BadEncoding(", ".join(named), list(self._rows))
        return self._by_any_name[named[0]].decoder()

    @property
    def accepted(self) -> str:
        """The codings that publishers may use, as a value of ``Accept-Encoding``."""
        return ", ".join(self._rows)


CODINGS: Final = Codings()
