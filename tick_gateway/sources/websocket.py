"""Publishing over WebSocket: ``GET /ws/publish``, one tick per message, acknowledged in groups."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from typing import Final

import aiohttp
from aiohttp import web
from websockets.frames import CloseCode

from ..access.publishers import is_near
from ..errors import GatewayError, InboxFull, NotAWebSocket, NotServing, TickError
from ..http.connection_handover import check_handshake, disable_compression, hang_up
from ..http.route import Route
from ..model.tick import parse
from ..runtime import Runtime
from ..wire.websocket import close_frame
from .base import PUBLISHING, Source, admit, run_of

MAX_WAITING_ANSWERS: Final = 1000
_HEARTBEAT: Final = 30.0  # seconds between pings
_CLOSE_SECONDS: Final = 2.0  # to wait for the publisher's close frame
_LAST_SECONDS: Final = 7.0  # for the last answers: 5 s until they are stored, the rest until they are sent
_FRAMING_BYTES: Final = 1024  # white space around the largest tick; the connection is closed with 1009 beyond it

_TAKEN: Final = "; the messages before it were taken"
_REASONS: Final[dict[int, str]] = {
    CloseCode.PROTOCOL_ERROR: f"what came is not as RFC 6455 has it{_TAKEN}",
    CloseCode.INVALID_DATA: f"a text is not UTF-8, or not compressed as RFC 7692 has it{_TAKEN}",
    CloseCode.MESSAGE_TOO_BIG: f"a message is larger than max_tick{_TAKEN}",
}  # with which aiohttp closes if a client breaks the protocol


class _Socket(web.WebSocketResponse):
    """aiohttp's WebSocket, which closes by itself if a client says goodbye or breaks the protocol; here, what was
    accepted is answered first. Messages are not inflated beyond their maximum size. Publishers on this machine are
    refused compression, which many clients offer by default: it would only cost time."""

    def __init__(self, request: web.Request, max_tick: int) -> None:
        super().__init__(
            max_msg_size=max_tick + _FRAMING_BYTES,
            compress=not is_near(request),
            heartbeat=_HEARTBEAT,
            timeout=_CLOSE_SECONDS,
        )
        self.answers: Acks | None = None
        self._from = request

    async def close(self, *, code: int = CloseCode.NORMAL_CLOSURE, message: bytes = b"", drain: bool = True) -> bool:
        if self.answers is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    await self.answers.send()
        if code == CloseCode.NORMAL_CLOSURE and isinstance(self.exception(), zlib.error):
            code = CloseCode.INVALID_DATA
        if code in _REASONS and not self.closed:
            await hang_up(self._from, close_frame(code, _REASONS[code]), _CLOSE_SECONDS)
        return await super().close(code=code, message=message, drain=drain)


async def publish_ws(request: web.Request, runtime: Runtime) -> web.StreamResponse:
    """``GET /ws/publish``: one tick per message; acknowledgements and errors are sent in groups."""
    admit(request, runtime)
    run = run_of(request)
    check_handshake(request)
    ws = _Socket(request, runtime.bus.max_tick)
    await ws.prepare(request)
    disable_compression(ws)
    ws.answers = answers = Acks(ws, runtime)

    async def leave() -> None:
        await ws.close(code=CloseCode.GOING_AWAY, message=b"shutdown")

    with runtime.publishing(leave):
        await _acknowledge(ws, answers, runtime, run)
    return ws


class Acks:
    """Collects acknowledgements and errors. What comes together while a burst of messages is handled is sent together,
    once the ticks are stored."""

    def __init__(self, ws: web.WebSocketResponse, runtime: Runtime) -> None:
        self._ws = ws
        self._runtime = runtime
        self._texts: list[str] = []  # errors, in order
        self._ack: int | None = None  # the newest, which covers all before it
        self._task: asyncio.Task[None] | None = None
        self._mark = runtime.history.mark()  # the start of what is not acknowledged yet, in history's count
        self._sending = asyncio.Lock()

    def ack(self, t: int) -> None:
        self._ack = t
        self._soon()

    def error(self, error: GatewayError, t: int | None, number: int) -> None:
        told = {"error": error.code, "message": str(error), "t": t, "number": number}
        self._texts.append(json.dumps(told, separators=(",", ":")))
        self._soon()

    @property
    def many(self) -> bool:
        """Whether so many answers are pending that the publisher should wait for them to be sent."""
        return len(self._texts) >= MAX_WAITING_ANSWERS

    async def send(self) -> None:
        """Send what is pending, unless the connection is gone."""
        # If the connection broke, the reading side ends the handler.
        with contextlib.suppress(ConnectionError):
            async with self._sending:  # one at a time: no acknowledgement may overtake an earlier error
                while self._texts or self._ack is not None:
                    texts, self._texts = self._texts, []
                    ack, self._ack = self._ack, None
                    since, self._mark = self._mark, self._runtime.history.mark()
                    stored = await self._runtime.history.settled(since)
                    if ack is not None:
                        lost = "" if stored or not self._runtime.history.writes else ',"stored":false'
                        texts.append(f'{{"ack":{ack}{lost}}}')
                    for text in texts:
                        await self._ws.send_str(text)

    def _soon(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self.send())


async def _acknowledge(ws: web.WebSocketResponse, answers: Acks, runtime: Runtime, run: str | None) -> None:
    bus, number = runtime.bus, 0
    async for message in ws:
        if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            break
        number += 1
        data = message.data if isinstance(message.data, bytes) else message.data.encode()
        try:
            t, data = parse(data, bus.max_tick)
            if not bus.offer(t, data, run, resends=True):
                await runtime.resent.check(run, t, data)
            answers.ack(t)
        except (TickError, InboxFull, NotServing) as error:
            answers.error(error, error.t, number)
        if answers.many:
            await answers.send()


SOURCE: Final = Source(
    "websocket",
    routes=(
        Route(
            "GET",
            "/ws/publish",
            publish_ws,
            "publish_websocket",
            "publish a tick a WebSocket message, acknowledged",
            statuses=(101,),
            refuses=(*PUBLISHING, NotAWebSocket),
            takes=("Tick-Run",),
            publishes=True,
            stream=True,
            websocket=True,
        ),
    ),
)
