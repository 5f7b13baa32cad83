"""The common part of streamed HTTP bodies: chunks for HTTP/1.1 (close-delimited for HTTP/1.0) and content codings.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..model.notices import End, Notice
from ..model.view import Payload
from .checksum import NOTHING, Checksum
from .compression import Coding
from .framing import LAST_CHUNK, Framed, chunk


@dataclass(frozen=True)
class BodyFraming:
    """A framing whose messages are the content of one HTTP body.

    Attributes:
        chunked: the body is sent in chunks (HTTP/1.1).
        coding: its content coding; None: none.
    """

    chunked: bool = True
    coding: Coding | None = None
    head = b""  # content sent immediately
    sign_of_life = b""  # content that no reader takes for a message

    def content(self, run: str, payloads: Sequence[Payload]) -> bytes:
        """Payloads, encoded as content."""
        raise NotImplementedError

    def content_of(self, notice: Notice) -> bytes:
        """A notice, encoded as content."""
        raise NotImplementedError

    @property
    def opening(self) -> Framed:
        begun = self.chunk(self.coding.opening if self.coding else b"")
        data, content = self.wrap(self.head)
        return Framed(begun + data, content)

    @property
    def heartbeat(self) -> Framed:
        return self.wrap(self.sign_of_life)

    def messages(self, run: str, payloads: Sequence[Payload]) -> Framed:
        return self.wrap(self.content(run, payloads))

    def notice(self, notice: Notice) -> Framed:
        return self.wrap(self.content_of(notice))

    def ends(self, notice: Notice) -> bool:
        return isinstance(notice, End)

    def closing(self, notice: Notice, content: Checksum) -> bytes:
        ended = self.chunk(self.coding.closing(content) if self.coding else b"")
        return ended + (LAST_CHUNK if self.chunked else b"")

    def shared(self) -> SharedBody | None:
        return SharedBody(self, self.coding) if self.coding else None

    def wrap(self, content: bytes) -> Framed:
        """Content as body bytes that do not depend on what was sent before."""
        if self.coding is None or not content:
            return Framed(self.chunk(content))
        return Framed(self.chunk(self.coding.alone(content)), self.coding.count(NOTHING, content))

    def chunk(self, data: bytes) -> bytes:
        return chunk(data) if self.chunked else data


class SharedBody:
    """Messages of coded bodies, compressed with references to earlier ones (see ``framing.SharedStream``)."""

    beats_inside = True

    def __init__(self, framing: BodyFraming, coding: Coding) -> None:
        self._framing = framing
        self._coding = coding
        self._compressor = coding.compressor()
        self.rest = framing.chunk(coding.rest)
        self.content = NOTHING

    def messages(self, run: str, payloads: Sequence[Payload]) -> bytes:
        return self._add(self._framing.content(run, payloads))

    def notice(self, notice: Notice) -> bytes:
        return self._add(self._framing.content_of(notice))

    def cut(self) -> None:
        self._compressor.cut()

    def _add(self, content: bytes) -> bytes:
        if not content:
            return b""
        self.content = self._coding.count(self.content, content)
        return self._framing.chunk(self._compressor.add(content))
