"""The registry of sources, where ticks come from: a source is one file and one line here.

Each publishes to the runtime's bus and knows nothing of who reads.
"""

from __future__ import annotations

from . import demo, http, stdin, tail, websocket
from .base import Source

SOURCES: tuple[Source, ...] = (
    http.SOURCE,
    websocket.SOURCE,
    stdin.SOURCE,
    tail.SOURCE,
    demo.SOURCE,
)

__all__ = ["SOURCES", "Source"]
