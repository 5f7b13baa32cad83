"""Framings: how payloads and notices lie on the wire of each streaming transport. Pure: bytes in, bytes out.

A framing is a value. Everything that two connections may share is made from equal framings, so that it is made once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from ..notices import Notice
from ..view import Payload


class Framing(Protocol):
    """What the fan-out asks of a streaming transport's wire format.

    Implementations are frozen dataclasses: hashable values that are equal only within one class (tuples would be equal
    across transports, and share their bytes).

    Attributes:
        opening: what goes out at once behind the handshake.
        heartbeat: a sign of life that no reader takes for a message.
    """

    @property
    def opening(self) -> bytes: ...

    @property
    def heartbeat(self) -> bytes: ...

    def messages(self, run: str, payloads: Sequence[Payload]) -> bytes:
        """Each payload as a message, with its position where the format has a place for it."""
        ...

    def notice(self, notice: Notice) -> bytes:
        """A notice as a message; empty where this reader gets none."""
        ...

    def closing(self, notice: Notice) -> bytes | None:
        """What goes out last where this notice ends the stream, else None."""
        ...

    def shared(self) -> Shared | None:
        """A new shared stream for readers at the tip; None where they get what all others get."""
        ...


class Shared(Protocol):
    """A framing's messages, compressed with what went before them since the last cut (see ``compression``), for readers
    who have had all of that.

    Attributes:
        rest: what a reader needs first who leaves between two cuts.
        beats_inside: a heartbeat is part of what was compressed, so that whoever is given one leaves.
    """

    rest: bytes
    beats_inside: bool

    def messages(self, run: str, payloads: Sequence[Payload]) -> bytes:
        """As a framing's."""
        ...

    def notice(self, notice: Notice) -> bytes:
        """As a framing's."""
        ...

    def cut(self) -> None:
        """What follows refers to nothing before it."""
        ...


def notice_json(notice: Notice) -> bytes:
    """A notice's JSON object in UTF-8."""
    return json.dumps(notice.as_dict(), separators=(",", ":")).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of an HTTP/1.1 body (RFC 9112, section 7.1); no data, no chunk, since an empty one would end the
    body."""
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"
