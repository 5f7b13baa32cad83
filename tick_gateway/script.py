"""What a flush tells readers of batch messages: whole messages whose cuts are common to all, and notices between them.

Told to three kinds of readers: those who share a compressed stream, those who share nothing, and those who joined while
the first message was gathered and lack its end alone. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from .notices import Notice
from .view import Payload, join
from .wire import Framing, Shared


class Message(NamedTuple):
    """Payloads of a run that make one message."""

    run: str
    payloads: list[Payload]


class Script:
    """What a flush of messages that are gathered has to tell, in order; ``closing`` goes out behind it where it is the
    last."""

    def __init__(self, framing: Framing) -> None:
        self.parts: list[Message | Notice] = []
        self.closing: bytes | None = None
        self._framing = framing

    def told(self, framing: Framing | Shared, gathered: int = 0) -> bytes:
        """All parts, without what was ``gathered`` of the first message before a session joined."""
        told: list[bytes] = []
        for index, part in enumerate(self.parts):
            if not isinstance(part, Message):
                told.append(framing.notice(part))
                continue
            run, payloads = part
            if index == 0:
                payloads = payloads[gathered:]
            told.append(framing.messages(run, [join(payloads)]) if payloads else b"")
        return b"".join(told)

    def data(self, gathered: int = 0) -> bytes:
        """The same for those who share nothing, and what closes their streams."""
        return self.told(self._framing, gathered) + (self.closing or b"")

    def shared_data(self, shared: Shared) -> bytes:
        """The same for those who share a stream."""
        return self.told(shared) + (b"" if self.closing is None else shared.rest + self.closing)
