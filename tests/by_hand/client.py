"""A client: a real session on a wire that is read by hand, with decoders of its own and a witness."""

from __future__ import annotations

import json
from typing import Any

from tick_gateway.commands import MAX_HISTORIES, CommandSession
from tick_gateway.params import Query, parse_query
from tick_gateway.session import Session
from tick_gateway.tick import Position
from tick_gateway.variant import Variant
from tick_gateway.wire import Framing
from tick_gateway.wire.ndjson import NDJSONFraming
from tick_gateway.wire.sse import SSEFraming
from tick_gateway.wire.websocket import PONG, WebSocketFraming

from ..decoders import Chunked, EventStream, Frames, Lines, Message, command, masked
from .room import Room
from .talk import Asked, Past
from .wire import Wire
from .witness import Witness

Pairs = list[tuple[str, str]]


class Client:
    """One reader, over as many connections as it makes.

    Args:
        kind: sse, ndjson, ws, or bare: a WebSocket without any parameter.
        pairs: its parameters.
        lazy: see ``Wire``.

    Attributes:
        messages, raw: what came on this connection; ``raw`` without its chunking.
        commands: how many it sent; also the id of the last one.
    """

    def __init__(self, room: Room, kind: str, pairs: Pairs, *, lazy: bool = False) -> None:
        self.room = room
        self.kind = kind
        self.lazy = lazy
        self.commands = 0
        room.clients.append(self)
        query = parse_query(pairs)
        self.witness = Witness(room.truth, query.view, query, kind)
        self._open(query)

    def _open(self, query: Query) -> None:
        self.query = query
        framings: dict[str, Framing] = {
            "sse": SSEFraming(query.event, True),
            "ndjson": NDJSONFraming(True),
            "ws": WebSocketFraming(False),
            "bare": WebSocketFraming(True),
        }
        variant = Variant(framings[self.kind], query.view, query.run, query.heartbeat)
        make = CommandSession if self.kind in ("ws", "bare") else Session
        self.session: Session = make(self.room.fanout, variant, query)
        assert self.session.cursor is not None
        self.room.feed.place(self.session.cursor, self.room.clock.monotonic())
        run = self.room.feed.run_of(self.session.cursor)  # the head's Tick-Run
        self.witness.connect(query, run.id if run else None)
        if self.session.position is not None and not self.session.cursor.notices:
            self.witness.placed(self.session.position)
        self.chunked = Chunked()
        self.raw = bytearray()
        self.decoder: EventStream | Lines | Frames = (
            EventStream() if self.kind == "sse" else Lines() if self.kind == "ndjson" else Frames()
        )
        self.messages: list[Message] = []
        self.wire = Wire(self.room.loop, self.session, lazy=self.lazy)
        self.session.connection_made(self.wire)

    @property
    def connected(self) -> bool:
        return not self.wire.is_closing()

    @property
    def numbers(self) -> list[int]:
        """The ``t`` of every tick that came, one by one or in arrays."""
        return [one["t"] for body in self._bodies for one in (body if isinstance(body, list) else [body]) if "t" in one]

    @property
    def notices(self) -> list[str]:
        return [body["notice"] for body in self._bodies if "notice" in body]

    @property
    def _bodies(self) -> list[Any]:
        return [json.loads(one.data) for one in self.messages if one.name not in ("close", "ping", "pong")]

    def look(self) -> None:
        """Read what reached it, as a client would: pings are answered, a close frame too."""
        data = bytes(self.wire.sent)
        self.wire.sent.clear()
        if self.kind in ("sse", "ndjson"):
            data = self.chunked.feed(data)
        self.raw += data
        for message in self.decoder.feed(data):
            self.messages.append(message)
            self.witness.see(message)
            if message.name == "ping":
                self.wire.deliver(masked(PONG, message.data))
            elif message.name == "close":
                self.wire.lose()

    # ---- commands ----

    @property
    def commanding(self) -> bool:
        """Whether it can send commands now."""
        return self.kind == "ws" and self.connected

    def command(self, op: str) -> None:
        """pause, resume or ping."""
        self._send(Asked(op), op=op)

    def see_as(self, pairs: Pairs) -> None:
        """Ask for another view."""
        members = {name: text.split(",") if name == "fields" else int(text) for name, text in pairs}
        self._send(Asked("view", view=parse_query(pairs).view), op="view", **members)

    def seek(self, position: Position) -> None:
        beyond = self.room.truth.beyond(position)
        self._send(Asked("seek", start=position, beyond=beyond), op="seek", from_t=str(position))

    def ask_history(self, run: str, low: int, high: int) -> None:
        """The ticks of a range; where four such commands are at work already, nothing is sent."""
        if len(self.witness.talk.pasts) == MAX_HISTORIES:
            return
        held = {(batch.run.id, tick.t) for batch in self.room.bus.ring for tick in batch.ticks}
        told = self.room.truth.by_u.values()
        want = [one for one in told if one.run == run and low <= one.t <= high and (run, one.t) in held]
        self._send(Past(want), op="history", run=run, t0=low, t1=high)

    def _send(self, asked: Asked | Past, **members: object) -> None:
        self.commands += 1
        if isinstance(asked, Past):
            self.witness.talk.pasts[self.commands] = asked
        else:
            self.witness.talk.asked[self.commands] = asked
        self.wire.deliver(command(id=self.commands, **members))

    # ---- coming and going ----

    def leave(self) -> None:
        """Hang up. What was sent and not read is lost with the connection."""
        self.look()
        self.wire.lose()

    def come_back(self, pairs: Pairs) -> None:
        """Connect again with the position that it knows, and parameters beside it."""
        if not self.wire.lost:
            self.leave()
        position = self.witness.position
        if position is not None:
            pairs = [("Last-Event-ID" if self.kind == "sse" else "from_t", str(position)), *pairs]
        query = parse_query(pairs)
        self.witness.view = query.view
        self.kind = self.witness.kind = "ws" if self.kind == "bare" else self.kind
        self._open(query)
