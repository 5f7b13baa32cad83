"""A client that may do anything: bytes on a blocking socket, well-formed or not.

What the gateway answers is read strictly; what is sent is the test's own affair. Every wait ends at PATIENCE at the
latest, with an error.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.support.frames import CLOSE
from tests.support.gateway_process import PATIENCE, Lines
from tick_gateway import Gateway
from tick_gateway.bench.decoders import WebSocketDecoder

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def request(
    method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None, version: str = "1.1"
) -> bytes:
    """A request as it stands on the wire. `Host` is given unless `headers` has one; `body` brings Content-Length."""
    lines = {"Host": "localhost"} | dict(headers or {})
    if body is not None:
        lines.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/{version}\r\n{head}\r\n".encode("utf-8", "surrogateescape") + (body or b"")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def port_of(gateway: Gateway) -> int:
    """The port of a gateway that listens in this process."""
    return int((gateway.url or "").rstrip("/").rpartition(":")[2])


class Response(NamedTuple):
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Frame(NamedTuple):
    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        """The code of a close frame."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big")

    def json(self) -> Any:
        return json.loads(self.payload)


class Peer:
    """One connection to a gateway on loopback."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", receive_buffer: int | None = None) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((host, port))
        self._buffer = b""
        self._decoder = WebSocketDecoder(strict=True)
        self._frames: list[Frame] = []

    def send(self, *pieces: bytes) -> Self:
        for piece in pieces:
            self.socket.sendall(piece)
        return self

    def open(self, path: str = "/ws/stream", headers: Mapping[str, str] | None = None) -> Self:
        """Open a WebSocket."""
        self.send(request("GET", path, UPGRADE | dict(headers or {})))
        head = self.head()
        assert head.status == 101, head
        return self

    def half_close(self) -> Self:
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Vanish: the other side gets an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    # ---- reading ----

    def until(self, end: bytes) -> bytes:
        """What comes up to `end`, with it."""
        while end not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(end)
        return found + end

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def rest(self) -> bytes:
        """Everything to the end of the connection; an RST is an end."""
        try:
            while data := self.socket.recv(1 << 16):
                self._buffer += data
        except ConnectionError:
            pass
        found, self._buffer = self._buffer, b""
        return found

    def head(self) -> Response:
        """A response's head, with an empty body."""
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version.startswith("HTTP/")
        pairs = (line.partition(":") for line in lines)
        return Response(int(status), {name.lower(): value.strip() for name, _, value in pairs}, b"")

    def response(self) -> Response:
        """A whole response with a Content-Length; interim ones (100 Continue) are passed over."""
        while (head := self.head()).status == 100:
            continue
        return head._replace(body=self.exactly(int(head.headers["content-length"])))

    def line(self) -> bytes:
        """The next line of a chunked NDJSON stream. Framing between chunks is passed over, as are heartbeats."""
        while True:
            text = self.until(b"\n")
            if text.startswith(b"{"):
                return text[:-1]

    def frame(self) -> Frame:
        """The next WebSocket frame: a whole one without extensions, as the gateway sends them."""
        while not self._frames:
            if not self._buffer:
                self._more()
            self._frames += [Frame(*one) for one in self._decoder.feed(self._buffer)]
            self._buffer = b""
        return self._frames.pop(0)

    def close_frame(self) -> Frame:
        """The close frame; what comes before it is passed over."""
        while (found := self.frame()).opcode != CLOSE:
            continue
        return found

    def _more(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError(f"the gateway closed the connection; unread: {self._buffer[:500]!r}")
        self._buffer += data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def ask(port: int, data: bytes) -> Response:
    """One request and its response, on a connection of its own."""
    with Peer(port) as peer:
        return peer.send(data).response()


class Follower:
    """A reader that is connected all along, in a thread: every line of the stream, in order."""

    def __init__(self, port: int, path: str = "/ndjson?hello=1") -> None:
        self.lines = Lines()
        self._peer = Peer(port)
        self._peer.send(request("GET", path))
        assert self._peer.head().status == 200
        self._peer.line()  # the hello: it is subscribed
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while True:
                self.lines.add(self._peer.line().decode())
        except (OSError, EOFError):
            self.lines.close()

    def wait_for(self, ticks: Iterable[bytes | str]) -> None:
        """Waits until these came, each once and in this order, with notices between them at most."""
        wanted = [tick if isinstance(tick, str) else tick.decode() for tick in ticks]

        def ticks_of(lines: Iterable[str]) -> list[str]:
            return [line for line in lines if not line.startswith('{"notice"')]

        came = self.lines.wait(lambda lines: len(lines) >= len(wanted) and len(ticks_of(lines)) >= len(wanted))
        found = ticks_of(self.lines.lines)
        assert came and found == wanted, f"{len(found)} of {len(wanted)} came; last {found[-3:]}"

    def close(self) -> None:
        self._peer.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._peer.close()
