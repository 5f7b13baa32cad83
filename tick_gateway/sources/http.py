"""Publishing over HTTP: ``POST /publish``, ``GET /ws/publish`` and ``POST /runs/{run}/end``."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from aiohttp import web

from ..errors import BodyError, GatewayError, InboxFull, NotAllowed, RunClosed, TickError, TooBig
from ..hub import Hub
from ..params import run_id
from ..tick import parse
from .body import Line, Lines, values

MAX_WAITING_ANSWERS: Final = 1000
MAX_ERRORS: Final = 10  # reported of one body
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
_GATHER_SECONDS: Final = 0.005  # between two reads of a body that streams: one read then brings many ticks
_LOOPBACK_NAMES: Final = {"localhost", "localhost.localdomain", "ip6-localhost"}


def authorize(request: web.Request, hub: Hub) -> None:
    """Let a publisher in: by the token, or where none is set, from this machine alone.

    A loopback peer is not enough for that: a local reverse proxy is one, and so is a browser that some web page
        directs.

    Raises:
        NotAllowed: 401 where a token would help, else 403.
    """
    token = hub.settings.publish_token
    if token:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), f"Bearer {token}".encode()):
            raise NotAllowed("publishing needs the header Authorization: Bearer TOKEN with the gateway's token", 401)
        return
    if not _is_loopback(request.remote or ""):
        raise NotAllowed("without a token only this machine may publish; start the gateway with --publish-token")
    host = _host_name(request.headers.get("Host", ""))
    if not _is_loopback(host) and host not in hub.settings.publish_hosts.split(","):
        raise NotAllowed(
            f"without a token the Host of a publisher must be localhost, not {host!r:.80}; use --publish-token"
        )
    for name in ("Origin", *_FORWARDED):
        if name in request.headers:
            raise NotAllowed(f"without a token a publisher's request may not carry {name}; use --publish-token")


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def run_of(request: web.Request) -> str | None:
    """The run that the publisher names, by the header ``Tick-Run`` or the parameter ``run``.

    Raises:
        BodyError: it is no run id, or another parameter was given.
    """
    for name in request.query:
        if name != "run":
            raise BodyError(f"parameter {name!r:.40} is unknown; accepted: run", code="unknown_parameter")
    named = request.headers.get("Tick-Run") or request.query.get("run")
    try:
        return run_id(named) if named else None
    except ValueError as error:
        raise BodyError(f"run: {error}", code="bad_parameter") from None


@dataclass(slots=True)
class Tally:
    """What became of a body's records."""

    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    errors: list[dict[str, object]] = field(default_factory=list)
    status: int = 200

    def refuse(self, number: int, error: GatewayError) -> None:
        self.refused += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append({"line": number, "error": error.code, "reason": str(error)})
        self.status = max(409, self.status) if isinstance(error, RunClosed) and self.status in (200, 409) else 422

    def answer(self, hub: Hub, run: str | None) -> web.Response:
        hub.bus.collect()
        current = hub.bus.runs.get(run) if run else hub.bus.current
        body: dict[str, object] = {
            "run": current.id if current else None,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "tip": current.tip if current else None,
            "stored": False,
        }
        if self.refused:
            first = self.errors[0]
            code = str(first["error"]) if self.status == 409 else "refused"
            body |= {"error": code, "message": f"{self.refused} refused; line {first['line']}: {first['reason']}"}
            body |= {"refused": self.refused, "errors": self.errors}
        return web.json_response(body, status=self.status)


class Publisher:
    """One publisher's records on their way to the bus."""

    def __init__(self, hub: Hub, run: str | None) -> None:
        self.hub = hub
        self.run = run
        self.tally = Tally()

    def take(self, lines: list[Line]) -> None:
        bus, tally = self.hub.bus, self.tally
        for number, line in lines:
            try:
                t, data = parse(line, bus.max_tick)
                if bus.offer(t, data, self.run, resends=True):
                    tally.accepted += 1
                else:
                    tally.duplicates += 1
            except (TickError, InboxFull) as error:
                tally.refuse(number, error)


async def publish(request: web.Request, hub: Hub) -> web.StreamResponse:
    """``POST /publish``: NDJSON line by line as it arrives, or a JSON object or array as a whole."""
    authorize(request, hub)
    publisher = Publisher(hub, run_of(request))
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", ""):
        raise BodyError(f"Content-Encoding {encoding!r:.40} is not accepted; accepted: identity", 415, "bad_encoding")
    try:
        await _take_body(request, hub, publisher)
    except TooBig as error:
        publisher.tally.refuse(0, error)
        publisher.tally.status = 413
    except BodyError as error:
        if not publisher.tally.accepted and not publisher.tally.duplicates:
            raise
        publisher.tally.refuse(
            publisher.tally.accepted + publisher.tally.duplicates + publisher.tally.refused + 1, error
        )
    except (aiohttp.ClientPayloadError, web.RequestPayloadError, ConnectionError) as error:
        # The lines that came whole stand; there is nobody left to tell.
        raise BodyError(f"the body broke off: {error}") from None
    return publisher.tally.answer(hub, publisher.run)


async def _take_body(request: web.Request, hub: Hub, publisher: Publisher) -> None:
    lines = Lines(hub.bus.max_tick + 2)
    whole: list[bytes] | None = [] if request.content_type == "application/json" else None
    size, last = 0, 0.0
    loop = asyncio.get_running_loop()
    while data := await request.content.readany():
        if whole is None and size == 0 and not request.content_type.endswith(("ndjson", "jsonl", "jsonlines")):
            whole = [] if data.lstrip()[:1] == b"[" else None
        size += len(data)
        if whole is None:
            publisher.take(lines.feed(data))
        else:
            if size > hub.settings.max_body:
                raise TooBig(size, hub.settings.max_body)
            whole.append(data)
        now = loop.time()
        if now - last < 2 * _GATHER_SECONDS and not request.content.at_eof():
            await _gather(request, _GATHER_SECONDS)
        last = loop.time()
    if whole is None:
        publisher.take(lines.end())
        if size == 0:
            raise BodyError("the body is empty; accepted: NDJSON, a JSON object or a JSON array")
    else:
        for line in values(b"".join(whole)):
            publisher.take([line])


async def _gather(request: web.Request, seconds: float) -> None:
    """Let bytes gather in the kernel, where they cost nothing until they are read."""
    transport = request.transport
    if transport is None or transport.is_closing():
        return
    transport.pause_reading()
    await asyncio.sleep(seconds)
    if not transport.is_closing():
        transport.resume_reading()


async def end_run(request: web.Request, hub: Hub) -> web.StreamResponse:
    """``POST /runs/{run}/end``: the publisher's word that a run is over."""
    authorize(request, hub)
    run = request.match_info["run"]
    hub.bus.end_run(run)
    return web.json_response({"run": run, "ended": True, "tip": hub.bus.run(run).tip})


async def publish_ws(request: web.Request, hub: Hub) -> web.StreamResponse:
    """``GET /ws/publish``: a tick a message; acks and errors come back group by group."""
    authorize(request, hub)
    publisher = Publisher(hub, run_of(request))
    ws = web.WebSocketResponse(max_msg_size=hub.bus.max_tick + 1024, compress=False, heartbeat=30)
    await ws.prepare(request)
    hub.publishers.add(ws)
    try:
        await _acknowledge(ws, publisher)
    finally:
        hub.publishers.discard(ws)
    return ws


class Answers:
    """Acks and errors on their way back. What gathers while a message burst is worked off goes out together."""

    def __init__(self, ws: web.WebSocketResponse) -> None:
        self._ws = ws
        self._texts: list[str] = []  # errors, in order
        self._ack: int | None = None  # the newest, which stands for all before it
        self._task: asyncio.Task[None] | None = None

    def ack(self, t: int) -> None:
        self._ack = t
        self._soon()

    def error(self, error: GatewayError, t: int | None, number: int) -> None:
        told = {"error": error.code, "message": str(error), "t": t, "number": number}
        self._texts.append(json.dumps(told, separators=(",", ":")))
        self._soon()

    @property
    def many(self) -> bool:
        """Whether so many answers wait that the publisher should wait for them to be sent."""
        return len(self._texts) >= MAX_WAITING_ANSWERS

    async def send(self) -> None:
        texts, self._texts = self._texts, []
        if self._ack is not None:
            texts.append(f'{{"ack":{self._ack}}}')
            self._ack = None
        for text in texts:
            await self._ws.send_str(text)

    def _soon(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send_quietly())

    async def _send_quietly(self) -> None:
        with contextlib.suppress(ConnectionError):  # the reading side sees it too, and ends the handler
            while self._texts or self._ack is not None:
                await self.send()


async def _acknowledge(ws: web.WebSocketResponse, publisher: Publisher) -> None:
    bus, answers, number = publisher.hub.bus, Answers(ws), 0
    async for message in ws:
        if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            break
        number += 1
        data = message.data if isinstance(message.data, bytes) else message.data.encode("utf-8", "surrogatepass")
        t: int | None = None
        try:
            t, data = parse(data, bus.max_tick)
            bus.offer(t, data, publisher.run, resends=True)
            answers.ack(t)
        except (TickError, InboxFull) as error:
            answers.error(error, t if error.t is None else error.t, number)
        if answers.many:
            await answers.send()
