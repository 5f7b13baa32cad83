"""A WebSocket client that sends commands: every message that comes is an event, a reply, or part of a history."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from .async_client import WebSocket, elements
from .events import Event, Position, Tick, notice
from .harness import Harness
from .readers.base import PATIENCE

Message = Event | dict[str, Any]


class CommandClient:
    """Attributes: ``messages``, all that came so far, ticks and notices as events, all else as it came."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.messages: list[Message] = []
        self.run = socket.response.headers.get("Tick-Run")

    @classmethod
    async def open(cls, harness: Harness, query: str = "", **kw: Any) -> CommandClient:
        return cls(await WebSocket.connect(harness.port, f"/ws/stream?{query}" if query else "/ws/stream", **kw))

    def say(self, **command: Any) -> None:
        self.socket.command(**command)

    async def next(self) -> list[Message]:
        """What the next message holds: several ticks where it is a batch. Raises Closed."""
        async with asyncio.timeout(PATIENCE):
            text = await self.socket.message()
        value = json.loads(text)
        came: list[Message] = []
        if isinstance(value, list):
            came += [self._tick(data) for data in elements(text)]
        elif "notice" in value:
            event = notice(value)
            self.run = getattr(event, "run", self.run)
            came.append(event)
        else:
            came.append(self._tick(text) if "t" in value and "error" not in value else value)
        self.messages += came
        return came

    def _tick(self, data: str) -> Tick:
        return Tick(self.run, json.loads(data)["t"], data.encode())

    async def until(self, done: Callable[[Message], bool]) -> Message:
        """Read until a message of which ``done`` holds, and return it."""
        while True:
            for message in await self.next():
                if done(message):
                    return message

    async def reply(self, **members: Any) -> dict[str, Any]:
        """Read until a reply with these members."""
        found = await self.until(lambda m: isinstance(m, dict) and members.items() <= m.items())
        assert isinstance(found, dict)
        return found

    async def error(self) -> dict[str, Any]:
        """Read until a reply that tells an error."""
        found = await self.until(lambda m: isinstance(m, dict) and "error" in m)
        assert isinstance(found, dict)
        return found

    async def tick(self, t: int, run: str | None = None) -> None:
        """Read until that tick."""
        await self.until(lambda m: isinstance(m, Tick) and m.t == t and run in (None, m.run))

    @property
    def events(self) -> list[Event]:
        """Ticks and notices, in order."""
        return [message for message in self.messages if not isinstance(message, dict)]

    def before(self, reply: dict[str, Any]) -> list[Event]:
        """The events that came before a reply."""
        at = self.messages.index(reply)
        return [message for message in self.messages[:at] if not isinstance(message, dict)]

    def behind(self, reply: dict[str, Any]) -> list[Event]:
        """The events that came after a reply."""
        at = self.messages.index(reply)
        return [message for message in self.messages[at:] if not isinstance(message, dict)]


def position(text: str) -> Position:
    """``RUN:T`` as a ledger has it."""
    run, _, t = text.rpartition(":")
    return run, int(t)
