"""Read ticks over NDJSON, each once, over as many connections as necessary.

The idea is one value, the position: after a disconnection, the next connection asks for what comes after it. ``Track``
keeps it and is pure; ``read_batches`` does the networking. Notices (gap, reset, end) are passed on to the caller, so
that nothing is skipped silently.
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

HEARTBEAT: Final = 15.0  # seconds between heartbeats that the gateway is asked for
_DEAD_AFTER: Final = 3  # heartbeats missing before a connection is given up
_REFUSAL_BYTES: Final = 1 << 16  # of a refusal's body, read for its message


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick.

    Attributes:
        t: its number.
        run: its run; None if the gateway did not say.
        data: its line as received, without the newline.
    """

    t: int
    run: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Notice:
    """A message of the gateway that is not a tick: ``name`` is hello, gap, reset, end, or one from a later version."""

    name: str
    fields: Mapping[str, Any]
    data: bytes


Item = Tick | Notice


class Track:
    """A reader's position, from what it received. Pure.

    Attributes:
        run: the run of the ticks; None until it is known.
        t: the last tick's number, -1 before a run's first; None before anything came.
        over: the gateway ended the stream for good.
        again: the gateway ended the stream, and the client may reconnect.
    """

    def __init__(self, start: str | None = None) -> None:
        run, _, t = (start or "").rpartition(":")
        self.run: str | None = run or None
        self.t: int | None = int(t) if t.removeprefix("-").isdecimal() else None
        self.over = False
        self.again = False

    @property
    def position(self) -> str | None:
        """The value to send as ``from_t``; None before anything came."""
        if self.t is None:
            return None
        return str(self.t) if self.run is None else f"{self.run}:{self.t}"

    def connected(self, run: str | None) -> None:
        """There is a connection, with ``run`` in its header ``Tick-Run``; a known run continues until a reset."""
        self.again = False
        if self.run is None:
            self.run = run

    def take(self, line: bytes, *, from_tip: bool = False) -> Item:
        """Parse one line.

        Args:
            line: without its newline.
            from_tip: the request was for new ticks only, so a hello's tip is the reader's position.

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
        url: the gateway, as ``HOST:PORT`` or its address; ``/ndjson`` is added if it is missing.
        start: the reader's position, ``RUN:T`` or ``T``; None: the newest tick, or as ``params`` say.
        limit: maximum number of ticks, at least 1, over all connections; None: no limit.
        params: other query parameters, such as ``{"fields": "agents.x", "every": "10"}``; not ``batch``.
        token: sent as ``Authorization: Bearer``.
        heartbeat: seconds between heartbeats that the gateway is asked for; after three missing ones the connection
            counts as dead.
        retry: try again even if the first connection fails, and wait for a ``run`` that is not known yet.
        tls: the TLS context for https; None: the system's certificates.
        status: called with one line whenever a connection is lost.

    Raises:
        Failure: the gateway refuses (with its message), the first connection failed (without ``retry``, or because of
            its certificate), or the server is not a gateway.
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
    """As ``read``, but yields lists of items that arrived together."""
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
    """The parameters of the next connection: a position, once there is one, replaces any other start."""
    query = {name: text for name, text in asked.items() if position is None or name not in START_PARAMETERS}
    query |= {"hello": "1", "heartbeat": f"{heartbeat:g}"}
    if position is not None:
        query["from_t"] = position
    if limit is not None:
        query["limit"] = str(limit)
    return query


async def _check(response: aiohttp.ClientResponse, address: URL, run_may_come: bool) -> None:
    """Raise unless a stream begins: Failure if asking again is useless, Lost if it may help.

    ``run_may_come``: a run was requested that the gateway may yet learn of: after a restart without history it knows no
    run before its publisher reconnects.
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
    """The items in each piece of the answer's body. An incomplete last line is dropped: it will be sent again."""
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
