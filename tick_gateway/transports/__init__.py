"""The registry of transports: each transport is one file, and one line here."""

from __future__ import annotations

from . import incremental, longpoll, ndjson, sse, websocket
from .base import Transport

TRANSPORTS: tuple[Transport, ...] = (
    websocket.TRANSPORT,
    sse.TRANSPORT,
    ndjson.TRANSPORT,
    longpoll.TRANSPORT,
    incremental.TRANSPORT,
)

__all__ = ["TRANSPORTS", "Transport"]
