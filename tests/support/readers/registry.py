"""The readers by name: a transport that is registered needs one here, or the whole suite fails and says so.

A transport may have several flavours, ways of reading it that differ in what they rely on.
"""

from __future__ import annotations

from ..events import Reset
from .base import Reader
from .pulls import IncrementalReader, LongPollReader, SinglePollReader
from .streams import (
    AloneReader,
    BrowserReader,
    DeflatedReader,
    GzipNDJSONReader,
    GzipSSEReader,
    NDJSONReader,
    OldNDJSONReader,
    SSEReader,
    WebSocketReader,
    ZstdNDJSONReader,
    ZstdSSEReader,
)

FLAVOURS: dict[str, type[Reader]] = {
    "websocket": WebSocketReader,
    "websocket-browser": BrowserReader,
    "websocket-deflate": DeflatedReader,
    "websocket-alone": AloneReader,
    "sse": SSEReader,
    "sse-gzip": GzipSSEReader,
    "sse-zstd": ZstdSSEReader,
    "ndjson": NDJSONReader,
    "ndjson-http1.0": OldNDJSONReader,
    "ndjson-zstd": ZstdNDJSONReader,
    "ndjson-gzip": GzipNDJSONReader,
    "longpoll": LongPollReader,
    "longpoll-single": SinglePollReader,
    "incremental": IncrementalReader,
}


def flavours_of(transport: str) -> list[str]:
    """The flavours of a registered transport.

    Raises:
        LookupError: nobody has written a reader for it.
    """
    found = [name for name, reader in FLAVOURS.items() if reader.transport == transport]
    if not found:
        raise LookupError(
            f"the transport {transport!r} is registered, but tests/support/readers/registry.py has no reader for it: "
            "write one and name it in FLAVOURS, so that every promise of the protocol is tried on it"
        )
    return found


def as_told(flavour: str, reset: Reset) -> Reset:
    """A reset as this flavour's transport can tell it: pulls name the new run alone."""
    return reset if FLAVOURS[flavour].kind == "stream" else Reset(reset.run, None, None)
