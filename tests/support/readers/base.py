"""What every reader of the conformance suite can do, whatever its transport."""

from __future__ import annotations

import abc
import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import ClassVar, Self
from urllib.parse import urlencode

from ..async_client import Closed, Response, elements
from ..events import End, Event, Gap, Hello, Reset, Tick

PATIENCE = 30.0  # seconds that a wait may last, so that a failure ends
_STARTS = ("from_t", "last_t", "tail", "since", "Last-Event-ID", "lastEventId")


class Reader(abc.ABC):
    """A client of one transport.

    Attributes:
        transport: the registry's name.
        kind: ``stream`` or ``pull``, as the registry has it.
        position: what it sends as ``from_t`` to go on, ``RUN:T``; None before anything came.
        ended: the stream came to its proper end, behind an ``end``.
    """

    transport: ClassVar[str]
    kind: ClassVar[str] = "stream"

    def __init__(self, port: int, path: str, parameters: Mapping[str, object], *, small: bool = False) -> None:
        self.port, self.path, self.small = port, path, small
        self.parameters = {name: str(value) for name, value in parameters.items()}
        start = self.parameters.get("from_t", "")
        self.position: str | None = start if ":" in start else None
        self.ended = False
        self.response: Response | None = None
        self._run: str | None = None
        self._messages = 0

    @property
    def target(self) -> str:
        return f"{self.path}?{urlencode(self.parameters)}" if self.parameters else self.path

    @abc.abstractmethod
    async def connect(self) -> Self:
        """Open the connection. Raises Refused."""

    @abc.abstractmethod
    async def _next(self) -> Event:
        """The next event. Raises Closed where there is none left."""

    async def next(self) -> Event:
        """The next event. Raises Closed where the stream is over, TimeoutError where nothing comes."""
        async with asyncio.timeout(PATIENCE):
            return await self._next()

    async def take(self, count: int) -> list[Event]:
        """Events until ``count`` ticks are among them."""
        events: list[Event] = []
        while sum(isinstance(event, Tick) for event in events) < count:
            events.append(await self.next())
        return events

    async def until(self, t: int, run: str | None = None) -> list[Event]:
        """Events up to the tick of that number (in that run)."""
        events = [await self.next()]
        while not (isinstance(last := events[-1], Tick) and last.t == t and run in (None, last.run)):
            events.append(await self.next())
        return events

    async def rest(self) -> list[Event]:
        """Events to the end of the stream."""
        events: list[Event] = []
        while True:
            try:
                events.append(await self.next())
            except Closed:
                return events

    async def again(self) -> Self:
        """Close, and connect anew where this reader stands."""
        self.close()
        if self.position is not None:
            kept = {name: value for name, value in self.parameters.items() if name not in _STARTS}
            self.parameters = {"from_t": self.position} | kept
        return await self.connect()

    def close(self) -> None:
        if self.response is not None:
            self.response.close()

    def _move(self, event: Event) -> Event:
        """Keep the position where the transport names it nowhere but in its messages."""
        match event:
            case Tick(t=t):
                self.position = f"{self._run}:{t}" if self._run else None
            case Gap(run=run, next=int(upto)):
                self._run, self.position = run, f"{run}:{upto - 1}"
            case Reset(run=run):
                self._run, self.position = run, f"{run}:-1"
            case End(position=position):
                self.position = position or self.position
            case Hello(run=str(run)) if self._run is None:
                self._run = run
        return event

    def _ticks(self, text: str) -> Iterator[Tick]:
        """A message's ticks, of which a batch has several."""
        self._messages += 1
        for data in elements(text) if text.startswith("[") else [text]:
            yield Tick(self._run, json.loads(data)["t"], data.encode(), self._messages)
