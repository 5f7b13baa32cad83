"""WebSocket (RFC 6455): frames to clients, and a parser for frames from clients.

Frames to clients are unmasked, so one encoding serves all of them. Frames from clients go through the sans-IO protocol
of the ``websockets`` library. Single control frames, above all the pongs of idle connections, are read without it: a
protocol object takes more memory than the connection's whole session.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from websockets import utils
from websockets.exceptions import InvalidHeaderFormat, NegotiationError
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import CloseCode, Frame, Opcode
from websockets.headers import build_extension, parse_extension
from websockets.protocol import Protocol, Side, State

from ..errors import NotAWebSocket
from ..model.notices import End, Gap, Notice
from ..model.view import Payload
from ..settings import DEFAULTS
from .checksum import NOTHING, Checksum
from .compression import FLUSHED, DeflateCompressor
from .framing import Framed, notice_json

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
_RSV1: Final = 0x40  # in a frame's first byte: the message is compressed
GAP_CLOSE_CODE: Final = 4001
MAX_COMMAND_BYTES: Final = 64 * 1024
_MAX_OFFERS: Final = 8190  # characters in a handshake's extensions, over all its lines; one line may have as many
_END_CODES: Final = {"shutdown": CloseCode.GOING_AWAY, "failed": CloseCode.GOING_AWAY}
_BY_PROXY: Final = "; a proxy in between passes it on only where it is told to: docs/how-to/proxy.md"


def accept_key(fields: Callable[[str], Sequence[str]]) -> str:
    """Check an opening handshake's headers (RFC 6455, section 4.2.1) and return its ``Sec-WebSocket-Accept``.

    Args:
        fields: the values of a header, one per line, by its name.

    Raises:
        NotAWebSocket: the handshake is not valid.
    """
    if "websocket" not in _tokens(fields("Upgrade")):
        raise NotAWebSocket(f"this path speaks WebSocket: the header Upgrade must be websocket{_BY_PROXY}")
    if "upgrade" not in _tokens(fields("Connection")):
        raise NotAWebSocket(f"the header Connection must name Upgrade{_BY_PROXY}")
    if _tokens(fields("Sec-WebSocket-Version")) != ["13"]:
        raise NotAWebSocket("the header Sec-WebSocket-Version must be 13")
    keys = fields("Sec-WebSocket-Key")
    if len(keys) > 1:
        raise NotAWebSocket("the header Sec-WebSocket-Key must come once")
    key = keys[0].strip() if keys else ""
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise NotAWebSocket("the header Sec-WebSocket-Key must be 16 bytes in base64")
    return utils.accept_key(key)


def _tokens(lines: Sequence[str]) -> list[str]:
    return [token.strip().lower() for token in ",".join(lines).split(",")]


def frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked, unfragmented frame."""
    return head(0x80 | opcode, len(payload)) + payload


def head(first: int, size: int) -> bytes:
    """An unmasked frame's first byte, and its length."""
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; the reason is cut to the 123 bytes that fit."""
    return frame(CLOSE, struct.pack("!H", code) + reason.encode()[:123].decode(errors="ignore").encode())


@dataclass(frozen=True, slots=True)
class DeflateParameters:
    """The negotiated parameters of permessage-deflate (RFC 7692).

    Attributes:
        takeover: messages may refer to earlier ones (the client did not demand ``server_no_context_takeover``).
    """

    level: int = DEFAULTS.compression
    takeover: bool = True


@dataclass(frozen=True, slots=True)
class WebSocketFraming:
    """Text messages. Ticks are compressed if that was negotiated; other messages are small, and never are.

    Attributes:
        bare: a client that gave no parameters gets only ticks; a gap closes its connection.
        deflated: how ticks are compressed; None: they are not.
    """

    bare: bool = False
    deflated: DeflateParameters | None = None

    @property
    def opening(self) -> Framed:
        return Framed()

    @property
    def heartbeat(self) -> Framed:
        return Framed(b"\x89\x00")  # a ping without content

    def messages(self, run: str, payloads: Sequence[Payload]) -> Framed:
        if self.deflated is not None:
            return self._standalone(self.deflated, payloads)
        parts: list[bytes] = []
        for _, data in payloads:
            parts += (head(0x80 | TEXT, len(data)), data)
        return Framed(b"".join(parts))

    @staticmethod
    def _standalone(deflated: DeflateParameters, payloads: Sequence[Payload]) -> Framed:
        """Messages that refer to nothing before the first of them."""
        deflate = DeflateCompressor(deflated.level)
        parts: list[bytes] = []
        for payload in payloads:
            parts += _message(deflate, payload)
            if not deflated.takeover:
                deflate.cut()
        return Framed(b"".join(parts))

    def notice(self, notice: Notice) -> Framed:
        return Framed() if self.bare else Framed(frame(TEXT, notice_json(notice)))

    def ends(self, notice: Notice) -> bool:
        return isinstance(notice, End) or (self.bare and isinstance(notice, Gap))

    def closing(self, notice: Notice, content: Checksum) -> bytes:
        if isinstance(notice, Gap):
            return close_frame(GAP_CLOSE_CODE, f"gap after {notice.run}:{notice.after}")
        assert isinstance(notice, End), "no other notice ends a stream"
        code = _END_CODES.get(notice.reason, CloseCode.NORMAL_CLOSURE)
        return close_frame(code, f"{notice.reason} {notice.position or ''}".strip())

    def shared(self) -> SharedMessages | None:
        deflated = self.deflated
        return SharedMessages(self, deflated.level) if deflated is not None and deflated.takeover else None


class SharedMessages:
    """Compressed messages that refer to earlier ones (see ``framing.SharedStream``)."""

    rest = b""
    content = NOTHING
    beats_inside = False

    def __init__(self, framing: WebSocketFraming, level: int) -> None:
        self._framing = framing
        self._deflate = DeflateCompressor(level)

    def messages(self, run: str, payloads: Sequence[Payload]) -> bytes:
        return b"".join([part for payload in payloads for part in _message(self._deflate, payload)])

    def notice(self, notice: Notice) -> bytes:
        return self._framing.notice(notice).data

    def cut(self) -> None:
        self._deflate.cut()


def _message(deflate: DeflateCompressor, payload: Payload) -> tuple[bytes, bytes]:
    """A compressed text message (RFC 7692, section 7.2.1): frame header and payload."""
    data = deflate.add(payload.data)[: -len(FLUSHED)]
    return head(0x80 | _RSV1 | TEXT, len(data)), data


def negotiate(offers: str, level: int) -> tuple[DeflateParameters | None, str]:
    """Negotiate permessage-deflate from a handshake's ``Sec-WebSocket-Extensions``; returns the parameters and the
    answer's header (empty: none).

    The first offer with the full window is accepted, because one compressor serves all clients. Clients are asked to
    compress each message independently, so that the server keeps no context for them.

    Raises:
        NotAWebSocket: the header is malformed, which fails the handshake (RFC 6455, section 9.1).
    """
    if len(offers) > _MAX_OFFERS:
        raise NotAWebSocket(f"the header Sec-WebSocket-Extensions is longer than {_MAX_OFFERS} characters")
    try:
        extensions = parse_extension(offers) if offers.strip() else []
    except InvalidHeaderFormat as error:
        raise NotAWebSocket(f"the header Sec-WebSocket-Extensions is malformed: {str(error)[:100]}") from None
    factory = ServerPerMessageDeflateFactory(client_no_context_takeover=True)
    for name, parameters in extensions:
        if name != factory.name:
            continue
        try:
            answer, agreed = factory.process_request_params(parameters, [])
        except NegotiationError:
            continue  # decline this offer; another may follow
        if agreed.local_max_window_bits == 15:
            return DeflateParameters(level, not agreed.local_no_context_takeover), build_extension(
                [(factory.name, answer)]
            )
    return None, ""


def lone_control(data: bytes) -> tuple[int, bytes] | None:
    """Opcode and payload if the bytes are exactly one masked ping or pong, else None."""
    if len(data) >= 6 and data[0] in (0x80 | PING, 0x80 | PONG) and data[1] & 0x80 and data[1] - 0x80 == len(data) - 6:
        if data[1] > 0x80 + 125:
            return None
        return data[0] & 0x0F, utils.apply_mask(data[6:], data[2:6])
    return None


class Received(NamedTuple):
    """What one call of ``feed`` produced.

    Attributes:
        messages: the complete messages.
        replies: bytes to send immediately.
        closing: close the connection after sending them.
        failed: because of a protocol error, after which the client may still be sending.
    """

    messages: list[str]
    replies: bytes
    closing: bool
    failed: bool


class Reader:
    """Parses what a client sends: joins fragments, answers pings and closes, refuses what RFC 6455 forbids.

    Args:
        deflated: permessage-deflate was negotiated.
    """

    def __init__(self, *, deflated: bool = False) -> None:
        self._protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=MAX_COMMAND_BYTES)
        if deflated:  # each message independently, as negotiated; replies are never compressed
            self._protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
        self._parts: list[str] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> Received:
        """Parse bytes as they arrive, in pieces of any size. Invalid UTF-8 fails with the fragment that contains it
        (RFC 6455, section 8.1).
        """
        self._protocol.receive_data(data)
        messages: list[str] = []
        for event in self._protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            try:
                part = self._decoder.decode(bytes(event.data), event.fin)
            except UnicodeDecodeError:
                self._protocol.fail(CloseCode.INVALID_DATA, "a message is not UTF-8")
                break
            if part:  # the number of empty fragments is not bounded
                self._parts.append(part)
            if event.fin:
                messages.append("".join(self._parts))
                self._parts = []
        replies = b"".join(self._protocol.data_to_send())
        closing = self._protocol.state is not State.OPEN
        return Received(messages, replies, closing, closing and self._protocol.close_rcvd is None)
