"""What the streamed HTTP bodies share: chunks for HTTP/1.1 (close-delimited for HTTP/1.0), and content codings.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..notices import End, Notice
from ..view import Payload
from . import LAST_CHUNK, chunk
from .compression import Coding


@dataclass(frozen=True)
class BodyFraming:
    """A framing whose messages are the content of one HTTP body.

    Attributes:
        chunked: the body is sent in chunks (HTTP/1.1).
        coding: its content coding; None: none.
    """

    chunked: bool = True
    coding: Coding | None = None
    head = b""  # content that goes out at once
    sign_of_life = b""  # content that no reader takes for a message

    def content(self, run: str, payloads: Sequence[Payload]) -> bytes:
        """Payloads as content."""
        raise NotImplementedError

    def content_of(self, notice: Notice) -> bytes:
        """A notice as content."""
        raise NotImplementedError

    @property
    def opening(self) -> bytes:
        return self.chunk(self.coding.opening if self.coding else b"") + self.wrap(self.head)

    @property
    def heartbeat(self) -> bytes:
        return self.wrap(self.sign_of_life)

    def messages(self, run: str, payloads: Sequence[Payload]) -> bytes:
        return self.wrap(self.content(run, payloads))

    def notice(self, notice: Notice) -> bytes:
        return self.wrap(self.content_of(notice))

    def closing(self, notice: Notice) -> bytes | None:
        if not isinstance(notice, End):
            return None
        return self.chunk(self.coding.closing if self.coding else b"") + (LAST_CHUNK if self.chunked else b"")

    def shared(self) -> SharedBody | None:
        return SharedBody(self, self.coding) if self.coding else None

    def wrap(self, content: bytes) -> bytes:
        """Content as it lies in the body, whatever came before it."""
        return self.chunk(self.coding.alone(content) if self.coding and content else content)

    def chunk(self, data: bytes) -> bytes:
        return chunk(data) if self.chunked else data


class SharedBody:
    """The messages of coded bodies, compressed with what went before them (see ``wire.Shared``)."""

    beats_inside = True

    def __init__(self, framing: BodyFraming, coding: Coding) -> None:
        self._framing = framing
        self._compressor = coding.compressor()
        self.rest = framing.chunk(coding.rest)

    def messages(self, run: str, payloads: Sequence[Payload]) -> bytes:
        return self._add(self._framing.content(run, payloads))

    def notice(self, notice: Notice) -> bytes:
        return self._add(self._framing.content_of(notice))

    def cut(self) -> None:
        self._compressor.cut()

    def _add(self, content: bytes) -> bytes:
        return self._framing.chunk(self._compressor.add(content)) if content else b""
