"""Framings: how each streaming transport encodes payloads and notices as bytes. Pure: bytes in, bytes out.

A framing is a value: connections with equal framings share the bytes made for one of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..model.notices import Notice, Refusal
from ..model.view import Payload
from .checksum import NOTHING, Checksum


class Framed(NamedTuple):
    """Bytes that a framing made for the wire.

    Attributes:
        content: the checksum of their content, if the stream's trailer needs it (gzip); else ``NOTHING``.
    """

    data: bytes = b""
    content: Checksum = NOTHING


def joined(pieces: Sequence[Framed]) -> Framed:
    """Concatenate several."""
    if len(pieces) == 1:
        return pieces[0]
    content = NOTHING
    for piece in pieces:
        content += piece.content
    return Framed(b"".join([piece.data for piece in pieces]), content)


class Framing(Protocol):
    """The wire format of a streaming transport, as the fan-out uses it.

    Implementations are frozen dataclasses: hashable values that are equal only within one class (tuples would be equal
    across transports, which would then share bytes).

    Attributes:
        opening: sent immediately after the handshake.
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
        """A notice as a message; empty if this reader gets no notices."""
        ...

    def ends(self, notice: Notice) -> bool:
        """Whether this notice ends the stream."""
        ...

    def closing(self, notice: Notice, content: Checksum) -> bytes:
        """The last bytes, after the notice that ends the stream; ``content``: checksum of all content of the stream."""
        ...

    def shared(self) -> SharedStream | None:
        """A new shared stream for live readers; None: their bytes do not depend on what was sent before."""
        ...


class SharedStream(Protocol):
    """A framing's messages, compressed with references to those since the last cut (see ``compression``), for readers
    that received all of these.

    Attributes:
        rest: bytes for a reader that leaves between two cuts, before anything else.
        content: the checksum of everything since the stream began, if the stream's end needs it; else ``NOTHING``.
        beats_inside: heartbeats are part of the compressed data, so a reader that is sent one leaves the stream.
    """

    rest: bytes
    content: Checksum
    beats_inside: bool

    def messages(self, run: str, payloads: Sequence[Payload]) -> bytes:
        """As for a framing."""
        ...

    def notice(self, notice: Notice) -> bytes:
        """As for a framing."""
        ...

    def cut(self) -> None:
        """Start a new section: what follows refers to nothing before."""
        ...


def notice_json(notice: Notice | Refusal) -> bytes:
    """The JSON object of a notice, in UTF-8."""
    return json.dumps(notice.as_dict(), separators=(",", ":")).encode()


def chunk(data: bytes) -> bytes:
    """One chunk of an HTTP/1.1 body (RFC 9112, section 7.1); nothing for empty data, since an empty chunk would end the
    body."""
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"
