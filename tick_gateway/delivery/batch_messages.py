"""What a flush tells readers of batch messages: whole messages whose cuts are common to all, and notices between them.

Told to three kinds of readers: those who share a compressed stream, those who share nothing, and those who joined while
the first message was gathered and lack its end alone. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from ..model.notices import Notice
from ..model.view import Payload, join
from ..wire.framing import Framed, Framing, SharedStream, joined


class Message(NamedTuple):
    """Payloads of a run that make one message."""

    run: str
    payloads: list[Payload]


class BatchMessages:
    """What a flush of messages that are gathered has to tell, in order; ``end``: the last of them, where it ends the
    stream."""

    def __init__(self, framing: Framing) -> None:
        self.parts: list[Message | Notice] = []
        self.end: Notice | None = None
        self._framing = framing

    def piece(self, gathered: int = 0) -> Framed:
        """All parts for those who share nothing, without what was ``gathered`` of the first message before a session
        joined."""
        pieces: list[Framed] = []
        for index, part in enumerate(self.parts):
            if not isinstance(part, Message):
                pieces.append(self._framing.notice(part))
            elif payloads := part.payloads[gathered:] if index == 0 else part.payloads:
                pieces.append(self._framing.messages(part.run, [join(payloads)]))
        return joined(pieces)

    def data(self) -> bytes:
        """All parts, as bytes alone."""
        return self.piece().data

    def shared_data(self, shared: SharedStream) -> bytes:
        """All parts for those who share a stream."""
        told = [
            shared.messages(part.run, [join(part.payloads)]) if isinstance(part, Message) else shared.notice(part)
            for part in self.parts
        ]
        return b"".join(told) + (b"" if self.end is None else shared.rest)
