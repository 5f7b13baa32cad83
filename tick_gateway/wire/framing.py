"""Framings: how payloads and notices lie on the wire of each streaming transport. Pure: bytes in, bytes out.

A framing is a value. Everything that two connections may share is made from equal framings, so that it is made once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..model.notices import Notice, Refusal
from ..model.view import Payload
from .checksum import NOTHING, Checksum


class Framed(NamedTuple):
    """What a framing makes: bytes for the wire.

    Attributes:
        content: the checksum of the content in them, where the stream's trailer needs it (gzip); else that of nothing.
    """

    data: bytes = b""
    content: Checksum = NOTHING


def joined(pieces: Sequence[Framed]) -> Framed:
    """Several of them, concatenated."""
    if len(pieces) == 1:
        return pieces[0]
    content = NOTHING
    for piece in pieces:
        content += piece.content
    return Framed(b"".join([piece.data for piece in pieces]), content)


class Framing(Protocol):
    """What the fan-out asks of a streaming transport's wire format.

    Implementations are frozen dataclasses: hashable values that are equal only within one class (tuples would be equal
    across transports, and share their bytes).

    Attributes:
        opening: what goes out at once behind the handshake.
        heartbeat: a sign of life that no reader takes for a message.
    """

    @property
    def opening(self) -> Framed: ...

    @property
    def heartbeat(self) -> Framed: ...

    def messages(self, run: str, payloads: Sequence[Payload]) -> Framed:
        """Each payload as a message, with its position where the format has a place for it."""
        ...

    def notice(self, notice: Notice) -> Framed:
        """A notice as a message; empty where this reader gets none."""
        ...

    def ends(self, notice: Notice) -> bool:
        """Whether this notice ends the stream."""
        ...

    def closing(self, notice: Notice, content: Checksum) -> bytes:
        """What goes out last, behind the notice that ends the stream; ``content``: of all that the stream said."""
        ...

    def shared(self) -> SharedStream | None:
        """A new shared stream for readers at the tip; None where they get what all others get."""
        ...


class SharedStream(Protocol):
    """A framing's messages, compressed with what went before them since the last cut (see ``compression``), for readers
    who have had all of that.

    Attributes:
        rest: what a reader needs first who leaves between two cuts.
        content: of all that was said since the stream began, where a stream's end needs it; else of nothing.
        beats_inside: a heartbeat is part of what was compressed, so that whoever is given one leaves.
    """

    rest: bytes
    content: Checksum
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


def notice_json(notice: Notice | Refusal) -> bytes:
    """A notice's JSON object in UTF-8."""
    return json.dumps(notice.as_dict(), separators=(",", ":")).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of an HTTP/1.1 body (RFC 9112, section 7.1); no data, no chunk, since an empty one would end the
    body."""
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"
