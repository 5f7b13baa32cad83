"""NDJSON: one line per message, a blank line as heartbeat.

Ticks contain neither CR nor LF, so each is a line without any change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..model.notices import Notice
from ..model.view import Payload
from .body import BodyFraming
from .compression import ZstdCoding
from .framing import Framed, notice_json


@dataclass(frozen=True)
class NDJSONFraming(BodyFraming):
    """Lines. A position is the tick's own ``t``, with the run from the header ``Tick-Run`` or a notice."""

    sign_of_life = b"\n"

    def content(self, run: str, payloads: Sequence[Payload]) -> bytes:
        return lines(payloads)

    def content_of(self, notice: Notice) -> bytes:
        return notice_json(notice) + b"\n"

    @property
    def takes_frames(self) -> bool:
        """Whether ``stored`` may be used."""
        return isinstance(self.coding, ZstdCoding)

    def stored(self, frames: bytes | bytearray) -> Framed:
        """Stored blocks, which are zstd frames of lines."""
        assert isinstance(self.coding, ZstdCoding), "asked for by takes_frames alone"
        return Framed(self.chunk(self.coding.stored(frames)))


def lines(payloads: Sequence[Payload]) -> bytes:
    """One line per payload."""
    return b"\n".join([p.data for p in payloads] + [b""])
