"""WebSocket (RFC 6455): server frames for the fan-out, and a reader for what clients send.

Frames to clients are unmasked and made once for everybody. What clients send goes through the sans-IO protocol of the
``websockets`` library; only lone control frames, the pongs of idle connections above all, are read without one, because
a protocol object costs more memory than the connection's whole session.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from ..errors import NotAWebSocket
from ..notices import End, Gap, Notice
from ..view import Payload
from . import notice_json

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
GAP_CLOSE_CODE: Final = 4001
MAX_COMMAND_BYTES: Final = 64 * 1024
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_END_CODES: Final = {"shutdown": 1001}


def accept_key(headers: Mapping[str, str]) -> str:
    """Check an opening handshake's headers (RFC 6455, section 4.2.1) and return its ``Sec-WebSocket-Accept``.

    Raises:
        NotAWebSocket: it is no proper handshake.
    """
    if headers.get("Upgrade", "").strip().lower() != "websocket":
        raise NotAWebSocket("this path speaks WebSocket: the header Upgrade must be websocket")
    if "upgrade" not in [token.strip().lower() for token in headers.get("Connection", "").split(",")]:
        raise NotAWebSocket("the header Connection must name Upgrade")
    if headers.get("Sec-WebSocket-Version", "").strip() != "13":
        raise NotAWebSocket("the header Sec-WebSocket-Version must be 13")
    key = headers.get("Sec-WebSocket-Key", "").strip()
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise NotAWebSocket("the header Sec-WebSocket-Key must be 16 bytes in base64")
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked, unfragmented frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; the reason is cut to the 123 bytes that fit."""
    return frame(CLOSE, struct.pack("!H", code) + reason.encode()[:123].decode(errors="ignore").encode())


@dataclass(frozen=True, slots=True)
class WebSocketFraming:
    """Text messages. ``bare``: a client that gave no parameter gets ticks and nothing else; a gap closes its
    connection."""

    bare: bool = False

    @property
    def opening(self) -> bytes:
        return b""

    @property
    def heartbeat(self) -> bytes:
        return b"\x89\x00"  # a ping without content

    def messages(self, run: str, payloads: Sequence[Payload]) -> bytes:
        parts: list[bytes] = []
        for _, data in payloads:
            size = len(data)
            if size < 126:
                parts += (bytes((0x81, size)), data)
            elif size < 65536:
                parts += (struct.pack("!BBH", 0x81, 126, size), data)
            else:
                parts += (struct.pack("!BBQ", 0x81, 127, size), data)
        return b"".join(parts)

    def notice(self, notice: Notice) -> bytes:
        return b"" if self.bare else frame(TEXT, notice_json(notice))

    def closing(self, notice: Notice) -> bytes | None:
        if isinstance(notice, End):
            return close_frame(_END_CODES.get(notice.reason, 1000), f"{notice.reason} {notice.position or ''}".strip())
        if self.bare and isinstance(notice, Gap):
            return close_frame(GAP_CLOSE_CODE, f"gap after {notice.run}:{notice.after}")
        return None


def lone_control(data: bytes) -> tuple[int, bytes] | None:
    """Opcode and content where the bytes are exactly one masked ping or pong, else None."""
    if len(data) >= 6 and data[0] in (0x80 | PING, 0x80 | PONG) and data[1] & 0x80 and data[1] - 0x80 == len(data) - 6:
        if data[1] > 0x80 + 125:
            return None
        return data[0] & 0x0F, unmask(data[2:6], data[6:])
    return None


def unmask(mask: bytes, data: bytes) -> bytes:
    """Undo a frame's masking (RFC 6455, section 5.3)."""
    if not data:
        return b""
    pad = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(data), "big")


class Received(NamedTuple):
    """What arrived: whole messages, the bytes to answer at once, whether the connection is to be closed after them, and
    whether that is for a fault, so that more may be on its way."""

    messages: list[str]
    replies: bytes
    closing: bool
    failed: bool


class Reader:
    """Reads what a client sends: joins fragments, answers pings and closes, refuses what RFC 6455 forbids."""

    def __init__(self) -> None:
        self._protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=MAX_COMMAND_BYTES)
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> Received:
        """Take bytes in as they come, in pieces of any size."""
        self._protocol.receive_data(data)
        messages: list[str] = []
        for event in self._protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            if event.data:  # empty fragments may come without end
                self._parts.append(bytes(event.data))
            if event.fin:
                try:
                    messages.append(b"".join(self._parts).decode())
                except UnicodeDecodeError:
                    self._protocol.fail(1007, "a message is not UTF-8")
                    break
                self._parts = []
        replies = b"".join(self._protocol.data_to_send())
        closing = self._protocol.state is not State.OPEN
        return Received(messages, replies, closing, closing and self._protocol.close_rcvd is None)
