"""WebSocket frames as a client sends them (RFC 6455), proper or not."""

from __future__ import annotations

import json
import struct

TEXT, BINARY, CLOSE, PING, PONG, CONT = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = b"\x01\x02\x03\x04"
) -> bytes:
    """A frame. ``rsv``: its three reserved bits as a number; ``mask``: four bytes, None: it is not masked."""
    size, flag = len(payload), 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if size < 126:
        head += bytes([flag | size])
    elif size < 65536:
        head += struct.pack("!BH", flag | 126, size)
    else:
        head += struct.pack("!BQ", flag | 127, size)
    if mask is None:
        return head + payload
    pad = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big") if size else b""
    return head + mask + masked


def command(**members: object) -> bytes:
    """A text message that holds a JSON object."""
    return frame(TEXT, json.dumps(members).encode())
