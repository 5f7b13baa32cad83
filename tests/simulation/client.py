"""A client: a real session on a wire that is read by hand, with decoders of its own and a witness."""

from __future__ import annotations

import json
from typing import Any

from tick_gateway.bench.decoders import ChunkedDecoder, content_decoder
from tick_gateway.delivery.encoder import Variant
from tick_gateway.delivery.session import Session
from tick_gateway.delivery.session_state import State
from tick_gateway.model.query import Query, parse_query
from tick_gateway.model.tick import Position
from tick_gateway.reading.cursor import Cursor
from tick_gateway.settings import DEFAULTS
from tick_gateway.transports.commands import MAX_HISTORIES, CommandSession
from tick_gateway.wire.codings import CODINGS
from tick_gateway.wire.framing import Framing
from tick_gateway.wire.ndjson import NDJSONFraming
from tick_gateway.wire.sse import SSEFraming
from tick_gateway.wire.websocket import PONG, DeflateParameters, WebSocketFraming

from ..support.decoders import EventStream, Lines, Message, WebSocketMessages
from ..support.frames import command, frame
from .room import Room
from .talk import Asked, Past
from .wire import Wire
from .witness import Witness

Pairs = list[tuple[str, str]]


class Client:
    """One reader, over as many connections as it makes.

    Args:
        kind: sse, ndjson, ws, or bare: a WebSocket without any parameter; and how it is compressed: +gzip, +zstd,
            +deflate, or +alone: each message by itself.
        pairs: its parameters.
        lazy: see ``Wire``.

    Attributes:
        messages, raw: what came on this connection; ``raw`` without its chunking and coding.
        commands: how many it sent; also the id of the last one.
    """

    def __init__(self, room: Room, kind: str, pairs: Pairs, *, lazy: bool = False) -> None:
        self.room = room
        self.kind, _, self.coding = kind.partition("+")
        self.lazy = lazy
        self.commands = 0
        room.clients.append(self)
        query = parse_query(pairs)
        self.witness = Witness(room.truth, query.view, query, self.kind)
        self._open(query)

    def _open(self, query: Query) -> None:
        self.query = query
        coding = CODINGS.make(self.coding, DEFAULTS.compression) if self.coding in CODINGS else None
        deflated = DeflateParameters(takeover=self.coding == "deflate") if self.coding in ("deflate", "alone") else None
        framings: dict[str, Framing] = {
            "sse": SSEFraming(True, coding, query.event),
            "ndjson": NDJSONFraming(True, coding),
            "ws": WebSocketFraming(False, deflated),
            "bare": WebSocketFraming(True, deflated),
        }
        variant = Variant(framings[self.kind], query.view, query.run)
        make = CommandSession if self.kind in ("ws", "bare") else Session
        self.session: Session = make(self.room.fanout, variant, query, Cursor.of(query))
        self.witness.connect(query)
        self.chunked = ChunkedDecoder(strict=True)
        self.decompress = content_decoder(self.coding if self.coding in CODINGS else "", strict=True)
        self.raw = bytearray()
        self.decoder: EventStream | Lines | WebSocketMessages = WebSocketMessages(self.coding)
        if self.kind in ("sse", "ndjson"):
            self.decoder = EventStream() if self.kind == "sse" else Lines()
        self.messages: list[Message] = []
        self.wire = Wire(self.room.loop, self.session, lazy=self.lazy)
        self.opening = True  # the head of the answer waits until it is known where to begin
        self.room.loop.run_at_once(self._begin(self.session, Cursor.of(query)))

    async def _begin(self, session: Session, cursor: Cursor) -> None:
        """Find where to begin, however often the disk has to be asked; then the session takes the connection over."""
        cursor = session.cursor = await self.room.feed.starts.find(cursor, self.room.clock.monotonic())
        if session is not self.session or not self.opening:
            return  # it hung up meanwhile
        self.opening = False
        run = self.room.feed.run_of(cursor)
        self.witness.named(run.id if run else None)  # by the head's Tick-Run
        if session.position is not None and not cursor.notices:
            self.room.broken = True
            self.witness.started(session.position, cursor.not_before)
            self.room.broken = False
        session.connection_made(self.wire)

    def give_up(self) -> None:
        """Hang up where there was no answer yet."""
        if self.opening:
            self.opening = False
            self.wire.cut()

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
            data = self.decompress.feed(b"".join(self.chunked.feed(data)))
            assert self.decompress.whole or not self.chunked.ended, "a body that ends in the middle of its coding"
        self.raw += data
        for message in self.decoder.feed(data):
            self.messages.append(message)
            self.witness.see(message)
            if message.name == "ping":
                self.wire.deliver(frame(PONG, message.data))
            elif message.name == "close":
                self.wire.lose()

    def check_state(self) -> None:
        """Its session is what its state says."""
        session, state, fanout = self.session, self.session.state, self.room.fanout
        if self.opening or session.fanout is not fanout:  # not begun, or of a process that was killed
            return
        live = session.group is not None and session in session.group.live
        assert state.live == live == (session.cursor is None), state
        assert (state is State.STARTING) == (session.starting is not None), state
        if state is State.CATCHING_UP:
            assert session in fanout._ready
        elif state is State.LOADING:
            assert session.load is not None
        elif state is State.WAITING:
            assert session.group is not None and session in session.group.waiting
        if not state.ended:
            assert state.blocked == self.wire.paused, state
        assert (session in fanout.registry.sessions) == (state not in (State.NEW, State.CLOSED)), state

    # ---- commands ----

    @property
    def commanding(self) -> bool:
        """Whether it can send commands now."""
        return self.kind == "ws" and self.connected and not self.opening

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
        truth = self.room.truth
        told = [one for one in truth.by_u.values() if one.run == run and low <= one.t <= high]
        want = [one for one in told if truth.readable(run, one.t)]
        self._send(Past(told, want), op="history", run=run, t0=low, t1=high)

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
        self.give_up()
        self.wire.lose()

    def come_back(self, pairs: Pairs) -> None:
        """Connect again with the position that it knows, and parameters beside it."""
        if self.opening or not self.wire.lost:
            self.leave()
        position = self.witness.position
        if position is not None:
            pairs = [("Last-Event-ID" if self.kind == "sse" else "from_t", str(position)), *pairs]
        query = parse_query(pairs)
        self.witness.view = query.view
        self.kind = self.witness.kind = "ws" if self.kind == "bare" else self.kind
        self._open(query)
