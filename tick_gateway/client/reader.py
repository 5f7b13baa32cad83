"""Read ticks over NDJSON, over as many connections as it takes, each tick once.

Its idea is one value, the position: whatever breaks, the next connection asks for what comes after it. ``Track`` keeps
it and is pure; ``read_batches`` is the network around it. What the gateway says (gap, reset, end) is passed on, not
interpreted: a reader that skipped in silence would be no reader of every tick.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from ..model.query import START_PARAMETERS
from ..wire.record_splitter import LineSplitter
from .connection import (
    CONNECT_SECONDS,
    HEAD_SECONDS,
    MAX_LINE,
    NETWORK_ERRORS,
    Reconnect,
    Status,
    below,
    connector,
    endpoint,
    where,
)
from .errors import BadUsage, Failure, Lost, message_of, retry_after

HEARTBEAT: Final = 15.0  # seconds between signs of life that the gateway is asked for
_DEAD_AFTER: Final = 3  # heartbeats without one after which a connection is given up
_REFUSAL_BYTES: Final = 1 << 16  # of a refusal's body are looked at


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick.

    Attributes:
        t: its number.
        run: its run; None where the gateway did not say.
        data: its line as it came, without the newline.
    """

    t: int
    run: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Notice:
    """What the gateway says beside its ticks: ``name`` is hello, gap, reset, end, or a later one's."""

    name: str
    fields: Mapping[str, Any]
    data: bytes


Item = Tick | Notice


class Track:
    """Where a reader stands, from what it was given. Pure.

    Attributes:
        run: the run that the ticks are of; None as long as nobody said.
        t: the last tick's number, -1 before a run's first; None before anything came.
        over: the gateway ended the stream for good.
        again: the gateway ended the stream, and one may come back.
    """

    def __init__(self, start: str | None = None) -> None:
        run, _, t = (start or "").rpartition(":")
        self.run: str | None = run or None
        self.t: int | None = int(t) if t.removeprefix("-").isdecimal() else None
        self.over = False
        self.again = False

    @property
    def position(self) -> str | None:
        """What to send as ``from_t``; None before anything came."""
        if self.t is None:
            return None
        return str(self.t) if self.run is None else f"{self.run}:{self.t}"

    def connected(self, run: str | None) -> None:
        """A connection stands;

        ``run`` is its header ``Tick-Run``. One's own run goes on until a reset says otherwise.
        """
        self.again = False
        if self.run is None:
            self.run = run

    def take(self, line: bytes, *, from_tip: bool = False) -> Item:
        """Read one line.

        Args:
            line: without its newline.
            from_tip: the stream was asked for new ticks alone, so that a hello's tip is where the reader stands.

        Raises:
            Failure: it is neither a tick nor a notice.
        """
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise Failure(f"the gateway sent a line that is no JSON: {error}") from None
        if not isinstance(value, dict):
            raise Failure("the gateway sent a line that is no JSON object")
        t = value.get("t")
        if type(t) is int:
            self.t = t
            return Tick(t, self.run, line)
        name = value.get("notice")
        if not isinstance(name, str):
            raise Failure('the gateway sent a line with neither "t" nor "notice"')
        self._heed(name, value, from_tip)
        return Notice(name, value, line)

    def _heed(self, name: str, fields: Mapping[str, Any], from_tip: bool) -> None:
        run, after = fields.get("run"), fields.get("next")
        if name == "reset" and isinstance(run, str):
            self.run, self.t = run, -1
        elif name == "gap" and isinstance(after, int):
            self.t = after - 1
        elif name == "end":
            self.again = fields.get("reason") in ("shutdown", "failed")
            self.over = not self.again
        elif name == "hello" and isinstance(run, str):
            self.run = self.run or run
            tip = fields.get("tip")
            if from_tip and self.t is None and isinstance(tip, int):
                self.t = tip


async def read(
    url: str,
    *,
    start: str | None = None,
    limit: int | None = None,
    params: Mapping[str, str] | None = None,
    token: str | None = None,
    heartbeat: float = HEARTBEAT,
    retry: bool = False,
    tls: ssl.SSLContext | None = None,
    status: Status = lambda line: None,
) -> AsyncGenerator[Item, None]:
    """Yield every tick and notice, reconnecting by itself; ends after ``limit`` ticks or a final ``end`` notice.

    Args:
        url: the gateway, as ``HOST:PORT`` or its address; ``/ndjson`` is added where it is missing.
        start: the position one has, ``RUN:T`` or ``T``; None: the newest tick, or what ``params`` say.
        limit: ticks after which to end, at least 1, counted over all connections; None: without end.
        params: further parameters of the contract, such as ``{"fields": "agents.x", "every": "10"}``. Not ``batch``.
        token: sent as ``Authorization: Bearer``.
        heartbeat: seconds between signs of life that the gateway is asked for; after three without one the connection
            counts as dead.
        retry: try again also where the first connection cannot be had, and wait for a ``run`` that is not known yet.
        tls: whom to trust, for https; None: the system's certificates.
        status: told in one line whenever a connection is lost.

    Raises:
        Failure: the gateway refuses (its own message), the first connection cannot be had (without ``retry``, or for
            its certificate), or what answers is no gateway.
    """
    batches = read_batches(
        url, start=start, limit=limit, params=params, token=token, heartbeat=heartbeat, retry=retry, tls=tls,
        status=status,
    )  # fmt: skip
    async for items in batches:
        for item in items:
            yield item


async def read_batches(
    url: str,
    *,
    start: str | None = None,
    limit: int | None = None,
    params: Mapping[str, str] | None = None,
    token: str | None = None,
    heartbeat: float = HEARTBEAT,
    retry: bool = False,
    tls: ssl.SSLContext | None = None,
    status: Status = lambda line: None,
) -> AsyncGenerator[list[Item], None]:
    """As ``read``, but yield together what came together: between two lists nothing more was there yet."""
    asked = dict(params or {})
    if "batch" in asked:
        raise BadUsage("batch is not read by this client; leave it out")
    for name in START_PARAMETERS:
        if start is not None and name in asked:
            raise BadUsage(f"{name} contradicts the position {start}; give one of them")
    address = endpoint(url, "/ndjson")
    track, reconnect = Track(start), Reconnect(address, retry, status)
    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {})
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=_DEAD_AFTER * heartbeat)
    async with aiohttp.ClientSession(timeout=timeout, headers=headers, connector=connector(tls)) as session:
        while True:
            query = _query(asked, track.position if track.t is not None else start, limit, heartbeat)
            try:
                async with asyncio.timeout(HEAD_SECONDS):
                    response = await session.get(address.update_query(query))
                async with response:
                    await _check(response, address, "run" in asked and (retry or reconnect.connected))
                    reconnect.connected = True
                    track.connected(response.headers.get("Tick-Run"))
                    async for items in _items(response, track, asked.get("tail") == "0"):
                        ticks = sum(isinstance(item, Tick) for item in items)
                        if ticks:
                            reconnect.works()
                        yield items
                        if limit is not None:
                            limit -= ticks
                        if track.over or limit == 0:
                            return
                raise Lost(f"{where(address)} ended the connection")
            except NETWORK_ERRORS as error:
                await reconnect.after(error)


def _query(asked: Mapping[str, str], position: str | None, limit: int | None, heartbeat: float) -> dict[str, str]:
    """The parameters of the next connection: once there is a position, it takes the place of any other start."""
    query = {name: text for name, text in asked.items() if position is None or name not in START_PARAMETERS}
    query |= {"hello": "1", "heartbeat": f"{heartbeat:g}"}
    if position is not None:
        query["from_t"] = position
    if limit is not None:
        query["limit"] = str(limit)
    return query


async def _check(response: aiohttp.ClientResponse, address: URL, run_may_come: bool) -> None:
    """Raise unless a stream begins: Failure where asking again is of no use, Lost where it may be.

    ``run_may_come``: a run was asked for, and a gateway that does not know it may learn of it: after a restart without
    history it knows no run before its publisher is back.
    """
    if response.status == 200:
        if response.content_type != "application/x-ndjson":
            raise Failure(f"{where(address)} is no tick-gateway: it answered with {response.content_type}")
        return
    message = message_of(await response.content.read(_REFUSAL_BYTES)) or response.reason or "no reason given"
    if response.status in (408, 425, 429) or response.status >= 500 or (response.status == 404 and run_may_come):
        raise Lost(f"{where(address)} answered {response.status}: {message}", retry_after(response.headers))
    refusal = BadUsage if response.status == 400 else Failure
    found_none = response.status == 404 and not message.startswith("no run")
    hint = below(address, "/ndjson") if found_none else ""
    raise refusal(f"{where(address)} answered {response.status}: {message}{hint}", response.status)


async def _items(response: aiohttp.ClientResponse, track: Track, from_tip: bool) -> AsyncGenerator[list[Item], None]:
    """What each piece of the answer's body brings. A line that is cut off is no line: it comes again."""
    lines = LineSplitter(MAX_LINE)
    async for data in response.content.iter_any():
        found = lines.feed(data)
        if any(len(line.data) > MAX_LINE for line in found):
            raise Failure(f"the gateway sent a line longer than {MAX_LINE} bytes")
        items = [track.take(line.data, from_tip=from_tip) for line in found]
        if items:
            yield items
        if track.over or track.again:
            return
