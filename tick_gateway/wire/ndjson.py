"""NDJSON: a line a message, a blank line as heartbeat.

Ticks hold neither CR nor LF, so each is a line as it stands.
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
    """Lines; positions are the ticks' own ``t``, with the run in the header ``Tick-Run`` or a notice."""

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
    """Each payload as a line."""
    return b"\n".join([p.data for p in payloads] + [b""])
