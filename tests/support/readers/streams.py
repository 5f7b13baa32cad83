"""Readers of the transports whose connection stays: WebSocket, Server-Sent Events, NDJSON."""

from __future__ import annotations

import abc
import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import ClassVar, Self

from ..async_client import Closed, Refused, Response, WebSocket, request
from ..events import End, Event, Gap, Hello, Reset, notice
from .base import PATIENCE, Reader


class Streamed(Reader):
    """What the streams share: an iterator of events, made anew at each connection."""

    async def connect(self) -> Self:
        async with asyncio.timeout(PATIENCE):
            await self._open()
        self._events = self._read()
        return self

    @abc.abstractmethod
    async def _open(self) -> None: ...

    @abc.abstractmethod
    def _read(self) -> AsyncIterator[Event]: ...

    async def _next(self) -> Event:
        try:
            return await anext(self._events)
        except StopAsyncIteration:
            raise Closed(None, "") from None

    def _named(self, response: Response) -> None:
        """The head has come: it names the run of the first tick, where there is one."""
        self.response = response
        self._run = response.headers.get("Tick-Run", self._run)


class WebSocketReader(Streamed):
    """Reads the handshake's headers, as clients outside browsers can."""

    transport = "websocket"
    socket: WebSocket

    async def _open(self) -> None:
        self.socket = await WebSocket.connect(self.port, self.target, small=self.small)
        self._named(self.socket.response)

    async def _read(self) -> AsyncIterator[Event]:
        while True:
            try:
                text = await self.socket.message()
            except Closed as closed:
                self.ended = closed.code is not None
                raise
            value = json.loads(text)
            if isinstance(value, dict) and "t" not in value:
                yield self._move(notice(value))
            else:
                for tick in self._ticks(text):
                    yield self._move(tick)


class DeflatedReader(WebSocketReader):
    """Offers permessage-deflate, as browsers do."""

    offer: ClassVar[str] = "permessage-deflate; client_max_window_bits"

    async def _open(self) -> None:
        offer = {"Sec-WebSocket-Extensions": self.offer}
        self.socket = await WebSocket.connect(self.port, self.target, offer, small=self.small)
        agreed = self.socket.response.headers["Sec-WebSocket-Extensions"]
        assert agreed.startswith("permessage-deflate") and "client_no_context_takeover" in agreed
        assert ("server_no_context_takeover" in agreed) == ("server_no_context_takeover" in self.offer)
        self._named(self.socket.response)


class AloneReader(DeflatedReader):
    """Wants each message compressed by itself."""

    offer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


class BrowserReader(WebSocketReader):
    """Reads no header of the handshake, as browsers cannot: the run comes with the hello."""

    def __init__(self, port: int, path: str, parameters: Mapping[str, object], *, small: bool = False) -> None:
        super().__init__(port, path, {"hello": 1} | dict(parameters), small=small)

    def _named(self, response: Response) -> None:
        self.response = response


class NDJSONReader(Streamed):
    transport = "ndjson"
    version: ClassVar[str] = "1.1"
    coding: ClassVar[str] = ""

    async def _open(self) -> None:
        headers = {"Accept-Encoding": self.coding} if self.coding else {}
        response = await request(self.port, self.target, headers=headers, version=self.version, small=self.small)
        if response.status != 200:
            raise Refused(response)
        assert response.headers.get("Content-Encoding", "") == self.coding
        self._named(response)

    async def _read(self) -> AsyncIterator[Event]:
        assert self.response is not None
        async for line in self.response.lines():
            if not line:
                continue  # a heartbeat
            value = json.loads(line)
            if isinstance(value, dict) and "t" not in value:
                yield self._move(notice(value))
            else:
                for tick in self._ticks(line.decode()):
                    yield self._move(tick)
        self.ended = self.response.ended


class OldNDJSONReader(NDJSONReader):
    """Speaks HTTP/1.0, where the body ends with the connection."""

    version = "1.0"


class ZstdNDJSONReader(NDJSONReader):
    """Takes zstd, so that it gets stored blocks as they lie on disk."""

    coding = "zstd"


class GzipNDJSONReader(NDJSONReader):
    coding = "gzip"


class SSEReader(Streamed):
    """Server-Sent Events, as WHATWG HTML section 9.2 has them, but strict: what EventSource would pass over fails."""

    transport = "sse"
    coding: ClassVar[str] = ""

    async def _open(self) -> None:
        headers = {"Accept": "text/event-stream"} | ({"Accept-Encoding": self.coding} if self.coding else {})
        response = await request(self.port, self.target, headers=headers, small=self.small)
        if response.status != 200:
            raise Refused(response)
        assert response.headers.get("Content-Encoding", "") == self.coding
        self._named(response)

    async def _read(self) -> AsyncIterator[Event]:
        assert self.response is not None
        fields: dict[str, str] = {}
        async for line in self.response.lines():
            if line:
                name, _, value = line.decode().partition(":")
                if name in ("event", "data", "id"):
                    assert name not in fields, f"two {name} lines in one event"
                    assert "id" not in fields, "the id has to come last: some clients heed it at once"
                    fields[name] = value.removeprefix(" ")
                else:
                    assert name == "retry" or not name, f"a line of no known kind: {line!r:.80}"
                    assert not fields, "a comment or retry line inside an event"
                continue
            assert "data" in fields, "a blank line that ends no event: several clients make an empty one of it"
            for event in self._event(fields):
                yield event
            fields = {}
        assert not fields, f"the body ends inside an event: {fields}"
        self.ended = self.response.ended

    def _event(self, fields: Mapping[str, str]) -> Iterator[Event]:
        name = fields.get("event")
        value = json.loads(fields["data"])
        if name == self.parameters.get("event") and not (isinstance(value, dict) and "notice" in value):
            run, _, t = fields["id"].rpartition(":")
            self._run, self.position = run, fields["id"]
            batch = list(self._ticks(fields["data"]))
            assert batch[-1].t == int(t), "the id is not that of the event's last tick"
            yield from batch
            return
        event = notice(value)
        assert name == value["notice"], f"a notice in an event named {name}"
        match event:
            case Gap(run=run, after=after, next=upto):
                assert fields["id"] == f"{run}:{after if upto is None else upto - 1}"
            case Reset(run=run):
                assert fields["id"] == f"{run}:-1"
            case End(reason=reason, position=position):
                assert fields.get("id") == (position if reason == "shutdown" else "end")
            case Hello():
                assert "id" not in fields
        yield self._move(event)


class GzipSSEReader(SSEReader):
    """Takes gzip, as every browser does."""

    coding = "gzip"


class ZstdSSEReader(SSEReader):
    coding = "zstd"
