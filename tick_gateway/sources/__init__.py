"""The registry of sources of ticks: each source is one file, and one line here.

A source publishes to the runtime's bus and knows nothing of readers.
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
