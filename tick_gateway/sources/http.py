"""Publishing over HTTP: ``POST /publish`` and ``POST /runs/{run}/end``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

from ..delivery.fanout import FanOut
from ..errors import (
    BodyError,
    Conflict,
    GatewayError,
    InboxFull,
    LinesRefused,
    Malformed,
    NotFound,
    NotServing,
    OutOfOrder,
    RunClosed,
    TickError,
    TooBig,
    UnknownParameter,
)
from ..http.connection_handover import body_is_broken, body_is_cut, body_is_decoded
from ..http.responses import json_reply
from ..http.route import Route
from ..model.tick import parse
from ..runtime import Runtime
from ..wire.codings import CODINGS
from ..wire.decoding import Decoder, DecodingError, IdentityDecoder
from ..wire.record_splitter import EMPTY, Line, Records
from .base import PUBLISHING, Source, admit, run_of

MAX_ERRORS: Final = 10  # errors reported per body
_SLICE_SECONDS: Final = 0.005  # time for one body between two turns of the loop
_SLICE_LINES: Final = 32  # between two checks of the clock
_GATHER_SECONDS: Final = 0.005  # between two reads of a streamed body, so that a read brings many ticks
_LONGEST_GATHER_SECONDS: Final = 0.05
_TAKE_SECONDS: Final = 0.002  # how long before the next collect it is read
_GATHER_BYTES: Final = 64 * 1024  # a read of this size needs no gathering
_WATCH_SECONDS: Final = 1.0  # between two checks of a body that waits
_BROKEN: Final = "the body broke off: its chunks are not as RFC 9112, section 7.1 has them"
_PARTS: Final = (
    "the body is a form in parts ({:.40}); send the file itself, as application/json or application/x-ndjson "
    "(curl: --data-binary @FILE in the place of -F)"
)
_SHUTDOWN: Final = "the gateway is shutting down; what is counted here was published"


@dataclass(slots=True)
class PublishResult:
    """The outcome of a body's records."""

    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    errors: list[dict[str, object]] = field(default_factory=list)  # the first MAX_ERRORS
    statuses: set[int] = field(default_factory=set)  # of everything that was refused
    mark: int = 0  # the start of the accepted ticks, in history's count
    again: tuple[int, int] | None = None  # the lowest and highest t of the duplicates

    @property
    def seen(self) -> int:
        return self.accepted + self.duplicates + self.refused

    def repeat(self, t: int) -> None:
        self.duplicates += 1
        low, high = self.again or (t, t)
        self.again = min(low, t), max(high, t)

    def refuse(self, number: int, error: GatewayError) -> None:
        self.refused += 1
        self.statuses.add(error.status)
        if len(self.errors) < MAX_ERRORS:
            self.errors.append({"line": number, "error": error.code, "reason": str(error)})

    async def answer(self, runtime: Runtime, run: str | None, fault: GatewayError | None) -> web.Response:
        """The answer, with the counts; ``fault`` ended the body early. Waits until the accepted ticks can be read and,
        with history, are stored."""
        stored = await runtime.history.settled(self.mark) and not self.refused == self.seen > 0
        current = runtime.bus.runs.get(run) if run else runtime.bus.current
        if stored and self.again is not None and current is not None:
            stored = runtime.feed.archive.holds(current, *self.again)
        body: dict[str, object] = {
            "run": current.id if current else None,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "tip": current.tip if current else None,
            "stored": stored,
        }
        status = 200
        if self.refused:
            # If all were refused for one reason, its status is the answer's: run_closed 409, too_big 413.
            status = min(self.statuses) if len(self.statuses) == 1 else 422
            first = self.errors[0]
            code = str(first["error"]) if status != 422 else LinesRefused.code
            body |= {"error": code, "message": f"{self.refused} refused; line {first['line']}: {first['reason']}"}
            body |= {"refused": self.refused, "errors": self.errors}
        if fault is not None:
            status = fault.status
            body |= fault.as_dict()
        response = json_reply(body, status=status)
        if fault is not None:
            response.force_close()
        return response


class Ingest:
    """Publishes the records of one publisher to the bus."""

    def __init__(self, runtime: Runtime, run: str | None) -> None:
        self.runtime = runtime
        self.run = run
        self.result = PublishResult(mark=runtime.history.mark())
        self._until = 0.0  # when others should have their turn

    def begin(self) -> None:
        """Others just had their turn."""
        self._until = time.monotonic() + _SLICE_SECONDS

    async def rest(self) -> None:
        """Give others a turn, if it is time."""
        if time.monotonic() > self._until:
            await asyncio.sleep(0)
            self.begin()

    async def take(self, lines: Iterable[Line]) -> None:
        """Publish records; gives others a turn in between."""
        bus, run, result, max_tick = self.runtime.bus, self.run, self.result, self.runtime.bus.max_tick
        for count, (number, line) in enumerate(lines, 1):
            try:
                t, data = parse(line, max_tick)
                if bus.offer(t, data, run, resends=True):
                    result.accepted += 1
                else:
                    await self.runtime.resent.check(run, t, data)
                    result.repeat(t)
            except (TickError, InboxFull, NotServing) as error:
                result.refuse(number, error)
            if not count % _SLICE_LINES or len(line) > _GATHER_BYTES:
                await self.rest()


class BodyReader:
    """A request's body, read as it arrives, and what can end it early.

    Attributes:
        fault: why it ended early, or None.
    """

    def __init__(self, request: web.Request, fanout: FanOut) -> None:
        self.fault: GatewayError | None = None
        self._request = request
        self._fanout = fanout
        self._content = request.content
        self._loop = asyncio.get_running_loop()
        self._done = self._loop.create_future()
        self._timer = self._loop.call_later(_WATCH_SECONDS, self._watch)
        self._hurried = False

    async def read(self) -> bytes:
        """What has arrived since the last read; empty at the end, or where it breaks off."""
        if self._hurried and not self._content.at_eof():
            await self._gather()
        began = self._loop.time()
        try:
            data = await self._content.readany()
        except (ConnectionError, HttpProcessingError, web.RequestPayloadError) as error:
            self.fault = self.fault or BodyError(f"the body broke off: {error}")
            return b""
        if not data and body_is_cut(self._request):
            self.fault = self.fault or BodyError("the body broke off: its publisher said nothing more")
        self._hurried = self._loop.time() - began < _GATHER_SECONDS and len(data) < _GATHER_BYTES
        return data

    async def leave(self) -> None:
        """End it for shutdown; returns when its publisher has been answered."""
        self._end(_Shutdown(_SHUTDOWN))
        await self._done

    def close(self) -> None:
        """Its publisher has been answered."""
        self._timer.cancel()
        if not self._done.done():
            self._done.set_result(None)

    def _end(self, fault: GatewayError) -> None:
        if not self._content.is_eof():
            self.fault = fault
            self._content.feed_eof()

    def _watch(self) -> None:
        """Notice a fault in the body's chunks, which aiohttp does not always report to the reader of the body."""
        if body_is_broken(self._request):
            self._end(BodyError(_BROKEN))
        else:
            self._timer = self._loop.call_later(_WATCH_SECONDS, self._watch)

    async def _gather(self) -> None:
        """Let bytes gather in the kernel, where they cost nothing until they are read."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            return
        transport.pause_reading()
        until = self._fanout.due - time.monotonic() - _TAKE_SECONDS  # nothing is shown to anybody before then
        await asyncio.sleep(min(max(until, _GATHER_SECONDS), _LONGEST_GATHER_SECONDS))
        if not transport.is_closing():
            transport.resume_reading()


class _Shutdown(GatewayError):
    status = 503
    code = "shutdown"


async def publish(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """``POST /publish``: NDJSON line by line as it arrives, or JSON as a whole; uncoded, or in a content coding."""
    admit(request, runtime)
    if request.content_type.startswith("multipart/"):
        raise BodyError(_PARTS.format(request.content_type), 415)
    ingest = Ingest(runtime, run_of(request))
    try:
        coding = CODINGS.decoder_of(request.headers.getall("Content-Encoding", ()))
    except BodyError as error:  # its headers list the accepted codings (RFC 7694)
        headers = {"Accept-Encoding": CODINGS.accepted, "Cache-Control": "no-store"}
        return json_reply(error.as_dict(), status=error.status, headers=headers)
    body = BodyReader(request, runtime.fanout)
    with contextlib.closing(body), runtime.publishing(body.leave):
        await _take_body(request, ingest, body, IdentityDecoder() if body_is_decoded(request) else coding)
        return await ingest.result.answer(runtime, ingest.run, body.fault)


async def _take_body(request: web.Request, ingest: Ingest, body: BodyReader, coding: Decoder) -> None:
    settings, result = ingest.runtime.settings, ingest.result
    records = Records(request.content_type, settings.max_tick + 2, settings.max_body)
    try:
        empty = await _take_pieces(ingest, body, coding, records)
        if body.fault is not None:
            return  # the rest was cut off
        if empty:
            raise BodyError(EMPTY)
        ingest.begin()
        await ingest.take(records.end())
    except BodyError as error:
        if not result.seen:
            raise
        result.refuse(result.seen + 1, TickError(str(error)))


async def _take_pieces(ingest: Ingest, body: BodyReader, coding: Decoder, records: Records) -> bool:
    """Publish what is complete as it arrives; returns whether the body was empty. Decoding may produce very much data,
    so others have their turn between its steps, whether these bring records or not."""
    empty = True
    try:
        while data := await body.read():
            ingest.begin()
            for piece in coding.feed(data):
                empty = empty and not piece
                await ingest.take(records.feed(piece))
                await ingest.rest()
        if body.fault is None:
            coding.end()
    except DecodingError as error:
        body.fault = error
    return empty


async def end_run(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """``POST /runs/{run}/end``: the publisher ends a run."""
    admit(request, runtime)
    for name in request.query:
        raise UnknownParameter(name[:80], "unknown; this route takes none")
    run = request.match_info["run"]
    runtime.bus.end_run(run)
    await runtime.history.settled()
    return json_reply({"run": run, "ended": True, "tip": runtime.bus.run(run).tip})


_TICK: Final = {"$ref": "#/components/schemas/Tick"}

SOURCE: Final = Source(
    "http",
    routes=(
        Route(
            "POST",
            "/publish",
            publish,
            "publish",
            "publish ticks: NDJSON, a JSON object or an array",
            schema="Published",
            refuses=(*PUBLISHING, BodyError, Malformed, Conflict, OutOfOrder, TooBig, RunClosed, InboxFull),
            takes=("Tick-Run", "Content-Encoding"),
            body={
                "application/x-ndjson": {
                    "type": "string",
                    "description": "a tick a line, published as it arrives, without end",
                },
                "application/json": {"anyOf": [_TICK, {"type": "array", "items": _TICK}]},
            },
            publishes=True,
        ),
        Route(
            "POST",
            "/runs/{run}/end",
            end_run,
            "end_run",
            "end a run",
            schema="Ended",
            refuses=(*PUBLISHING, NotFound),
            publishes=True,
        ),
    ),
)
