"""Readers of the transports with an answer a request: long-poll and incremental."""

from __future__ import annotations

import abc
import asyncio
import json
import re
from collections.abc import Mapping
from typing import ClassVar, Self
from urllib.parse import urljoin

from ..async_client import Closed, Refused, Response, elements, members, request
from ..events import End, Event, Gap, Reset, Tick
from .base import PATIENCE, Reader


class Pulled(Reader):
    """What the pulls share: requests that follow the ``Link`` of the answer before, and headers for the notices."""

    kind = "pull"

    def __init__(self, port: int, path: str, parameters: Mapping[str, object], *, small: bool = False) -> None:
        super().__init__(port, path, parameters, small=small)
        self._waiting: list[Event] = []  # of the last answer, whose end is the position
        self._lost_end: Gap | None = None  # the gap without an end that was told last

    async def connect(self) -> Self:
        # Its first request may have to wait for a tick that the test has not published yet: `next` sends it.
        self._link = self.target
        return self

    async def _next(self) -> Event:
        while not self._waiting:
            if self.ended:
                raise Closed(None, "")
            await self._ask()
        return self._waiting.pop(0)

    async def _ask(self) -> None:
        async with asyncio.timeout(PATIENCE):
            response = self.response = await request(self.port, self._link)
            if response.status != 200:
                raise Refused(response)
            body = (await response.read()).decode()
        self._run = response.headers.get("Tick-Run", self._run)
        found = [tick for text in self._payloads(body) for tick in self._ticks(text)]
        told = self._order(found, response)
        if told and told[0] == self._lost_end:
            del told[0]  # each answer stands for itself: at a run's lost end it is said again
        self._waiting += told
        if told and isinstance(told[-1], Gap) and told[-1].next is None:
            self._lost_end = told[-1]
        self._follow(response)
        if not found and await self._is_over(body):
            self.ended = True
            self._waiting.append(End("run", self.position))

    def _follow(self, response: Response) -> None:
        self.position = response.headers.get("Tick-Next", self.position)
        if link := response.headers.get("Link"):
            assert link.startswith("<") and link.endswith('>; rel="next"'), link
            self._link = urljoin(self._link, link[1:-13])

    def _order(self, found: list[Tick], response: Response) -> list[Event]:
        """The answer's ticks with its notices where they belong: ticks and gaps are of one run, and a change of run
        stands before them or behind them."""
        run = response.headers.get("Tick-Run", "")
        told = _weave(run, _gaps(response), found)
        if (new := response.headers.get("Tick-Reset")) is None:
            return told
        reset = Reset(new, None, None)
        if new == run:
            return [reset, *told]
        assert response.headers["Tick-Next"] == f"{new}:-1", "a run that follows is the next one to be read"
        return [*told, reset]

    @abc.abstractmethod
    def _payloads(self, body: str) -> list[str]:
        """The messages in a body."""

    @abc.abstractmethod
    async def _is_over(self, body: str) -> bool:
        """Whether an empty answer means that the run that was asked for is over."""


def _gaps(response: Response) -> list[tuple[int, int | None]]:
    """The header ``Tick-Gap``: ``after=5;next=9``, several by comma; ``next`` is empty where nothing more comes."""
    pattern = re.compile(r"after=(-?\d+);next=(\d*)")
    parts = [part.strip() for part in response.headers.get("Tick-Gap", "").split(",") if part.strip()]
    matches = [match for part in parts if (match := pattern.fullmatch(part))]
    assert len(matches) == len(parts), f"Tick-Gap: {parts}"
    return [(int(match[1]), int(match[2]) if match[2] else None) for match in matches]


def _weave(run: str, gaps: list[tuple[int, int | None]], found: list[Tick]) -> list[Event]:
    events: list[Event] = [Gap(run, after, upto) for after, upto in gaps if upto is not None]
    for tick in found:
        at = sum(1 for event in events if isinstance(event, Tick) or (isinstance(event, Gap) and event.after < tick.t))
        events.insert(at, tick)
    return events + [Gap(run, after, None) for after, upto in gaps if upto is None]


class LongPollReader(Pulled):
    """Asks for many ticks at once."""

    transport = "longpoll"
    limit: ClassVar[int | None] = 64

    def __init__(self, port: int, path: str, parameters: Mapping[str, object], *, small: bool = False) -> None:
        own = {"timeout": 5} | ({"limit": self.limit} if self.limit else {})
        super().__init__(port, path, own | dict(parameters), small=small)

    def _payloads(self, body: str) -> list[str]:
        found = members(body)
        assert self.response is not None
        assert json.loads(found["position"]) == self.response.headers.get("Tick-Next")
        gaps = [(gap["after"], gap["next"]) for gap in json.loads(found.get("gap", "[]"))]
        assert gaps == _gaps(self.response), "the member gap and the header Tick-Gap differ"
        assert json.loads(found.get("reset", "null")) == self.response.headers.get("Tick-Reset")
        if "status" in found:
            return []
        payloads = elements(found["ticks"]) if "ticks" in found else [found["data"]]
        last = json.loads(payloads[-1])
        t = (last[-1] if isinstance(last, list) else last)["t"]
        assert (json.loads(found["t"]), json.loads(found["next_t"])) == (t, t + 1)
        return payloads

    async def _is_over(self, body: str) -> bool:
        return bool(json.loads(body)["status"] == "end")


class SinglePollReader(LongPollReader):
    """A tick an answer, as the original design has it."""

    limit = None


class IncrementalReader(Pulled):
    transport = "incremental"

    async def _ask(self) -> None:
        await super()._ask()
        if not self._waiting:
            await asyncio.sleep(0.01)  # it comes back when it likes

    def _payloads(self, body: str) -> list[str]:
        return elements(body)

    async def _is_over(self, body: str) -> bool:
        """This transport has no word for the end of a run; /runs has."""
        asked = self.parameters.get("run")
        if asked is None:
            return False
        runs = (await (await request(self.port, "/runs")).json())["runs"]
        return any(f"{r['run']}:{r['last']}" == self.position for r in runs if r["run"] == asked and r["ended"])
