"""NDJSON: a line a message, a blank line as heartbeat; chunked for HTTP/1.1, close-delimited for HTTP/1.0.

Ticks hold neither CR nor LF, so each is a line as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..notices import End, Notice
from ..view import Payload
from . import LAST_CHUNK, chunk, notice_json


@dataclass(frozen=True, slots=True)
class NDJSONFraming:
    """Lines; positions are the ticks' own ``t``, with the run in the header ``Tick-Run`` or a notice."""

    chunked: bool = True

    @property
    def opening(self) -> bytes:
        return b""

    @property
    def heartbeat(self) -> bytes:
        return self._wrap(b"\n")

    def messages(self, run: str, payloads: Sequence[Payload]) -> bytes:
        return self._wrap(lines(payloads))

    def notice(self, notice: Notice) -> bytes:
        return self._wrap(notice_json(notice) + b"\n")

    def closing(self, notice: Notice) -> bytes | None:
        return (LAST_CHUNK if self.chunked else b"") if isinstance(notice, End) else None

    def _wrap(self, data: bytes) -> bytes:
        return chunk(data) if self.chunked else data


def lines(payloads: Sequence[Payload]) -> bytes:
    """Each payload as a line."""
    return b"\n".join([p.data for p in payloads] + [b""])
