"""The WebSocket side of a session: messages from clients, and the commands in them.

Each command is answered at the place in the stream where it takes effect. An invalid one is answered with an error, and
the stream continues; ten of them end it.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

import orjson
from websockets.frames import CloseCode

from ..delivery.encoder import Variant
from ..delivery.heartbeat import Heartbeat
from ..delivery.pace import Pace
from ..delivery.session import Session
from ..delivery.session_state import State
from ..errors import GatewayError, Overloaded, ParameterError
from ..model.query import Query, parse_query
from ..model.suggestion import did_you_mean
from ..model.tick import Position
from ..model.view import View
from ..reading.cursor import Cursor
from ..wire.websocket import PING, PONG, TEXT, Reader, close_frame, frame, lone_control
from .history_query import HistoryQuery

MAX_BAD_COMMANDS: Final = 10
MAX_ID: Final = 256  # characters of JSON in a command's id
MAX_HISTORIES: Final = 4  # concurrent history commands on one connection


class BadCommand(GatewayError):
    """A command that cannot be carried out; the connection stays open."""

    code = "bad_command"


class CommandSession(Session):
    """A reader over WebSocket."""

    __slots__ = (
        "bad", "deflated", "histories", "peer_closed", "reader", "reads_soon", "refused",
        "unread",
    )  # fmt: skip

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.reader: Reader | None = None  # created when something other than a lone ping or pong arrives
        self.histories: deque[HistoryQuery] | None = None
        self.bad = 0
        self.deflated = False  # permessage-deflate was negotiated
        self.refused: Overloaded | None = None  # no room: close as soon as the handshake is done
        self.peer_closed = False
        self.reads_soon = False  # its next turn to parse ``unread`` is scheduled
        self.unread = b""  # received and not parsed yet; until then, nothing more is read from the peer

    # ---- called by the transport ----

    def connection_made(self, transport: Any) -> None:
        if self.refused is None:
            super().connection_made(transport)
            return
        self.transport = transport
        self.variant = Variant(self.variant.framing, View())
        self.fanout.registry.admit(self)
        self.write(close_frame(CloseCode.TRY_AGAIN_LATER, f"{self.refused.code}: come back later"))
        self._become(State.CLOSING)
        self._hang_up(failed=True)  # hold no connection for a peer that does not answer

    def eof_received(self) -> bool:
        return False  # a WebSocket ends with either side, with or without a close frame

    def data_received(self, data: bytes) -> None:
        if self.peer_closed:
            return
        self.heartbeat.heard()
        if self.reader is None:
            if control := lone_control(data):
                if control[0] == PING:
                    self.write(frame(PONG, control[1]))
                return
            self.reader = Reader(deflated=self.deflated)
        waits = bool(self.unread)
        self.unread += data
        if not waits:
            self._read_on()

    def _read_on(self) -> None:
        """Parse what arrived, a little at a time, so that others have their turn in between."""
        self.reads_soon = False
        if self.unread and not self.state.blocked and self.transport is not None:
            size = self.fanout.policy.command_bytes
            taken, self.unread = self.unread[:size], self.unread[size:]
            self._take(taken)
            if self.unread:
                self._read_soon()
        self._listen()

    def _read_soon(self) -> None:
        if not self.reads_soon:
            self.reads_soon = True
            self.fanout.loop.call_soon(self._read_on)

    def _listen(self) -> None:
        """Read from the peer, unless it sent more than was parsed yet, or does not read itself: each of its pings would
        be answered."""
        if self.transport is None or self.transport.is_closing():
            return
        if self.unread or self.state.blocked:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _take(self, data: bytes) -> None:
        assert self.reader is not None, "made when the first bytes came"
        received = self.reader.feed(data)
        for message in received.messages:
            if not self.state.ended:
                self._command(message)
        if received.replies and not self.state.ended:
            self.write(received.replies)
        if received.closing:
            self.unread = b""
            self.peer_closed = True
            self._become(State.CLOSING)
            self._leave()
            self._hang_up(received.failed)

    def _hang_up(self, failed: bool) -> None:
        """Close the connection; after a protocol error, send nothing more and wait until the peer hangs up.

        Closing a connection with unread data resets it, which may lose the close frame.
        """
        if self.transport is not None:
            if failed and self.transport.can_write_eof() and not self.transport.is_closing():
                self.transport.write_eof()
            else:
                self.transport.close()
            self._abort_later()

    def pause_writing(self) -> None:
        super().pause_writing()
        for history in self.histories or ():
            history.load = None  # hold no block for a reader that does not read
        self._listen()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.histories:
            self._enqueue()
        if self.unread:
            self._read_soon()
        else:
            self._listen()

    def _new_heartbeat(self) -> Heartbeat:
        return Heartbeat(self.query.heartbeat, self.fanout.patience, time.monotonic(), answered=True)

    def finish(self) -> None:
        """A close frame was written: wait for the peer's (RFC 6455, section 7.1.1), but not forever."""
        self._become(State.CLOSING)
        self._leave()
        if self.transport is not None:
            self._abort_later()

    def _close(self, code: int, reason: str) -> None:
        self.write(close_frame(code, reason))
        self.finish()

    def pump(self) -> None:
        """Write a message of a history command, whatever the stream's own state, and a portion of the stream."""
        if self.histories and not self.state.ended and not self.state.blocked:
            history = self.histories.popleft()
            message = history.next(self.variant.view)
            if message is not None:
                self.write(frame(TEXT, message))
            load = history.load
            if load is not None and not load.done:
                load.then(self._enqueue)
            if message is not None or load is not None:
                self.histories.append(history)
            else:
                self.reply(history.done)
        super().pump()
        if self.histories and not self.state.blocked and not all(history.waits for history in self.histories):
            self._enqueue()

    def _enqueue(self) -> None:
        """Ask for a turn for the history commands; the stream continues as before."""
        if not self.state.ended:
            self.fanout.enqueue(self)

    # ---- commands ----

    def reply(self, message: dict[str, object]) -> None:
        self.write(frame(TEXT, json.dumps(message, separators=(",", ":")).encode()))

    def _command(self, text: str) -> None:
        ident: object = None
        try:
            command = _parse(text)
            ident = command.get("id")
            COMMANDS[command["op"]].carry_out(self, command, ident)
        except GatewayError as error:
            self.bad += 1
            self.reply(error.as_dict() | ({"id": ident} if ident is not None else {}))
            if self.bad >= MAX_BAD_COMMANDS:
                self._close(CloseCode.POLICY_VIOLATION, f"{MAX_BAD_COMMANDS} bad commands")

    def _view(self, command: dict[str, Any], ident: object) -> None:
        view = _query(command).view
        variant = self.variant._replace(view=view)
        self.fanout.registry.revise(self, variant)
        self.fall_back()
        self.variant, self.partial_until = variant, 0.0
        self.query = replace(self.query, view=view)
        if self.cursor is not None:
            self.cursor = self.cursor.seen_as(view)
        self._done(ident)

    def _pause(self, command: dict[str, Any], ident: object) -> None:
        self._leave()
        self._become(State.PAUSED_BLOCKED if self.state.blocked else State.PAUSED)
        self.keep_pace()
        self._done(ident)

    def _resume(self, command: dict[str, Any], ident: object) -> None:
        if self.state is State.PAUSED_BLOCKED:
            self._become(State.BLOCKED)
        elif self.state is State.PAUSED:
            self.read_on()
        self.keep_pace()
        self._done(ident)

    def _seek(self, command: dict[str, Any], ident: object) -> None:
        if "from_t" not in command:
            raise BadCommand("seek: from_t is missing")
        asked = _query(command)
        if isinstance(asked.start, Position) and self.query.run not in (None, asked.start.run):
            raise BadCommand(f"seek: {asked.start} is not in run {self.query.run}, which alone this connection reads")
        self.fall_back()
        self.query = replace(self.query, start=asked.start, tail=None, since=None, backlog=None, speed=asked.speed)
        self.load = None
        self.cursor = self.fanout.feed.starts.find_at_once(Cursor.of(self.query), time.monotonic())
        self.caught_up = self.lagged = False
        self.partial_until = 0.0
        self.pace = Pace(asked.speed, time.monotonic()) if asked.speed else None
        self.skip = None
        self.keep_pace()
        self._done(ident, asked.start if isinstance(asked.start, Position) else None)

    def _history(self, command: dict[str, Any], ident: object) -> None:
        if ident is None:
            raise BadCommand("history: id is missing; its messages carry it")
        self.histories = self.histories if self.histories is not None else deque()
        if len(self.histories) >= MAX_HISTORIES:
            raise BadCommand(f"history: {MAX_HISTORIES} are at work already on this connection")
        asked = _query(command)
        run = self.fanout.bus.run(asked.run or self.query.run)
        high = run.shown if asked.t1 is None else asked.t1
        self.histories.append(HistoryQuery(ident, self.fanout, run, asked.t0, high))
        self._enqueue()

    def _ping(self, command: dict[str, Any], ident: object) -> None:
        tip = self.fanout.feed.offered
        self.reply({"pong": ident, "tip": tip.t if tip else None})

    def _done(self, ident: object, asked: Position | None = None) -> None:
        """Answer a command, with the position at which it takes effect: the reader's own, or ``asked``."""
        at = asked or self.position
        if ident is not None:
            self.reply({"ok": ident, "at": str(at) if at is not None else None})
        self.begin()


class Command(NamedTuple):
    """A command: its members, and the method that carries it out.

    Attributes:
        members: accepted besides ``op`` and ``id``: query parameters, in the order in which they are checked.
        carry_out: called with the session, the command and its id (None: no id).
    """

    members: tuple[str, ...]
    carry_out: Callable[[CommandSession, dict[str, Any], object], None]


COMMANDS: Final = {
    "view": Command(("fields", "every", "batch", "stamp"), CommandSession._view),
    "history": Command(("t0", "t1", "run"), CommandSession._history),
    "seek": Command(("from_t", "speed"), CommandSession._seek),
    "pause": Command((), CommandSession._pause),
    "resume": Command((), CommandSession._resume),
    "ping": Command((), CommandSession._ping),
}


def _parse(text: str) -> dict[str, Any]:
    try:
        command = orjson.loads(text)  # strict: an id that is NaN would be sent back as one
    except ValueError as error:
        raise BadCommand(f"not valid JSON: {error}") from None
    if not isinstance(command, dict):
        raise BadCommand('a command is a JSON object with "op"')
    if "op" not in command:
        raise BadCommand(f"the command has no member op; accepted: {', '.join(COMMANDS)}")
    op = command["op"]
    if not isinstance(op, str) or op not in COMMANDS:
        near = did_you_mean(op, COMMANDS) if isinstance(op, str) else ""
        raise BadCommand(f"op: {op!r:.40} is unknown; accepted: {', '.join(COMMANDS)}{near}")
    try:
        size = len(json.dumps(command.get("id")))
    except RecursionError:
        size = MAX_ID + 1
    if size > MAX_ID:
        raise BadCommand(f"id: at most {MAX_ID} characters of JSON are accepted")
    if unknown := set(command) - {*COMMANDS[op].members, "op", "id"}:
        accepted = sorted({*COMMANDS[op].members, "id"})
        near = did_you_mean(min(unknown), accepted)
        raise BadCommand(f"{op}: {min(unknown)!r:.40} is unknown; accepted: {', '.join(accepted)}{near}")
    return command


def _text(value: object) -> str:
    """The value of a command's member, as its query parameter would be in a URL."""
    match value:
        case bool():
            return "1" if value else "0"
        case str() | int() | float():
            return str(value)
        case list() if all(isinstance(element, str) for element in value):
            return ",".join(value)
    raise BadCommand(
        f"{value!r:.40} is no value of a member; accepted: strings, numbers, true, false, arrays of strings"
    )


def _query(command: dict[str, Any]) -> Query:
    """The members of a command as a query, with the same rules as query parameters."""
    members = COMMANDS[command["op"]].members
    try:
        return parse_query([(name, _text(command[name])) for name in members if name in command])
    except ParameterError as error:
        raise BadCommand(str(error)) from None
