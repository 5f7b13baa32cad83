"""Server-Sent Events (WHATWG HTML, section 9.2), chunked for HTTP/1.1, close-delimited for HTTP/1.0.

Comments and ``retry`` end in one LF and never in a blank line: several clients turn a blank line into an empty event.
Ticks hold neither CR nor LF, so one ``data:`` line carries any of them. The ``id:`` line comes last: some clients adopt
it when they read it, and would pass over a tick whose data was cut off behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..notices import End, Notice
from ..view import Payload
from . import LAST_CHUNK, chunk, notice_json

RETRY_MS: Final = 1000  # how soon EventSource comes back after a cut
_OVERLOADED_RETRY_MS: Final = 30_000


@dataclass(frozen=True, slots=True)
class SSEFraming:
    """Events named ``event`` (None: plain messages, which ``onmessage`` sees)."""

    event: str | None = None
    chunked: bool = True

    @property
    def opening(self) -> bytes:
        return self._wrap(b"retry: %d\n" % RETRY_MS)

    @property
    def heartbeat(self) -> bytes:
        return self._wrap(b":\n")

    def messages(self, run: str, payloads: Sequence[Payload]) -> bytes:
        head = (f"event: {self.event}\n" if self.event else "").encode() + b"data: "
        position = b"\nid: %s:" % run.encode()
        return self._wrap(b"".join([b"%s%s%s%d\n\n" % (head, p.data, position, p.t) for p in payloads]))

    def notice(self, notice: Notice) -> bytes:
        event_id = notice.event_id
        id_line = b"" if event_id is None else b"id: %s\n" % event_id.encode()
        return self._wrap(b"event: %s\ndata: %s\n%s\n" % (notice.name.encode(), notice_json(notice), id_line))

    def closing(self, notice: Notice) -> bytes | None:
        return (LAST_CHUNK if self.chunked else b"") if isinstance(notice, End) else None

    def _wrap(self, data: bytes) -> bytes:
        return chunk(data) if self.chunked else data


def overloaded() -> bytes:
    """The whole body for a reader that there is no room for: it comes back later."""
    return b'retry: %d\nevent: overloaded\ndata: {"notice":"overloaded"}\n\n' % _OVERLOADED_RETRY_MS
