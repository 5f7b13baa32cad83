"""Server-Sent Events (WHATWG HTML, section 9.2).

Comments and ``retry`` end in one LF and never in a blank line: several clients turn a blank line into an empty event.
Ticks contain neither CR nor LF, so one ``data:`` line carries any of them. The ``id:`` line comes last: some clients
adopt it when they read it, and would skip a tick whose data was cut off after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import Overloaded
from ..model.notices import Notice, Refusal
from ..model.view import Payload
from .body import BodyFraming
from .framing import notice_json

RETRY_MS: Final = 1000  # how soon EventSource reconnects
_OVERLOADED_RETRY_MS: Final = 30_000


@dataclass(frozen=True)
class SSEFraming(BodyFraming):
    """Events named ``event`` (None: plain messages, which ``onmessage`` sees)."""

    event: str | None = None
    head = b"retry: %d\n" % RETRY_MS
    sign_of_life = b":\n"

    def content(self, run: str, payloads: Sequence[Payload]) -> bytes:
        head = (f"event: {self.event}\n" if self.event else "").encode() + b"data: "
        position = b"\nid: %s:" % run.encode()
        return b"".join([b"%s%s%s%d\n\n" % (head, p.data, position, p.t) for p in payloads])

    def content_of(self, notice: Notice) -> bytes:
        return _event(notice)


def _event(notice: Notice | Refusal) -> bytes:
    event_id = notice.event_id
    id_line = b"" if event_id is None else b"id: %s\n" % event_id.encode()
    return b"event: %s\ndata: %s\n%s\n" % (notice.name.encode(), notice_json(notice), id_line)


def refusal(error: Overloaded) -> bytes:
    """The whole body for a reader that there is no room for; EventSource reconnects later."""
    return b"retry: %d\n%s" % (_OVERLOADED_RETRY_MS, _event(Refusal(error)))
