"""What a flush sends to readers of batch messages: full messages, the same for all, and notices between them.

There are three kinds of readers: those that share a compressed stream, those that share nothing, and those that joined
while the first message was gathered and get only the rest of it. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from ..model.notices import Notice
from ..model.view import Payload, join
from ..wire.framing import Framed, Framing, SharedStream, joined


class Message(NamedTuple):
    """Payloads of a run that form one message."""

    run: str
    payloads: list[Payload]


class BatchMessages:
    """The messages and notices of a flush, in order; ``end``: the last one, if it ends the stream."""

    def __init__(self, framing: Framing) -> None:
        self.parts: list[Message | Notice] = []
        self.end: Notice | None = None
        self._framing = framing

    def piece(self, gathered: int = 0) -> Framed:
        """All parts for readers that share nothing, without the payloads of the first message that were ``gathered``
        before a session joined."""
        pieces: list[Framed] = []
        for index, part in enumerate(self.parts):
            if not isinstance(part, Message):
                pieces.append(self._framing.notice(part))
            elif payloads := part.payloads[gathered:] if index == 0 else part.payloads:
                pieces.append(self._framing.messages(part.run, [join(payloads)]))
        return joined(pieces)

    def data(self) -> bytes:
        """All parts, as bytes only."""
        return self.piece().data

    def shared_data(self, shared: SharedStream) -> bytes:
        """All parts for readers of a shared stream."""
        told = [
            shared.messages(part.run, [join(part.payloads)]) if isinstance(part, Message) else shared.notice(part)
            for part in self.parts
        ]
        return b"".join(told) + (b"" if self.end is None else shared.rest)
