"""Publish ticks over ``/ws/publish`` so that each arrives, over as many connections as necessary.

Ticks that were sent and not acknowledged stay in a window, and are sent again on the next connection; the gateway
recognises duplicates by their bytes, since the run has a name. The window is bounded: while it is full, no input is
read. The caller provides the input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import aiohttp

from ..errors import BodyError, TickError
from ..model.tick import RUN_ID, parse
from ..wire.pipe_records import Pipe
from ..wire.record_splitter import Line
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
from .window import PendingTick, PublishSummary, Window

ACK_SECONDS: Final = 60.0
_HEARTBEAT: Final = 20.0
_CLOSE_SECONDS: Final = 2.0
_POLICY, _TOO_BIG = 1008, 1009  # close codes
_CLOSED: Final = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED)


class Publisher:
    """Publishes one input, once.

    Args:
        url: the gateway, as ``HOST:PORT`` or its address; ``/ws/publish`` is added if it is missing.
        run: the id of the input's run; None: one is made up. Each time ``t`` falls, a run ``-2``, ``-3`` … follows.
        token: sent as ``Authorization: Bearer``.
        retry: try again even if the first connection fails.
        tls: the TLS context for https; None: the system's certificates.
        compress: compress each message if the gateway accepts that: it does from other machines.
        ack_seconds: how long to wait for an answer before the connection counts as dead.
        window: the ticks not settled yet; None: a new one of the default size.
        status: called with one line about each lost connection.
        refused: called with one line about each tick that was refused, by the gateway or before it was sent.

    Raises:
        BadUsage: ``url`` is not a valid address, or ``run`` not a run id.
    """

    def __init__(
        self,
        url: str,
        *,
        run: str | None = None,
        token: str | None = None,
        retry: bool = False,
        tls: ssl.SSLContext | None = None,
        compress: bool = False,
        ack_seconds: float = ACK_SECONDS,
        window: Window | None = None,
        status: Status = lambda line: None,
        refused: Callable[[str], None] = lambda line: None,
    ) -> None:
        if run is not None and not RUN_ID.fullmatch(run):
            raise BadUsage(f"{run!r:.80} is no run id; accepted: {RUN_ID.pattern}")
        self._address = endpoint(url, "/ws/publish")
        self._base = run or f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._reconnect = Reconnect(self._address, retry, status)
        self._tls = tls
        self._window_bits = 15 if compress else 0  # 0: do not offer compression
        self._ack_seconds = ack_seconds
        self._window = Window() if window is None else window
        self._refused = refused
        self._changed = asyncio.Event()
        self._tip: int | None = None  # the last t of the input
        self._ended = False  # the input was read to its end
        self._owed_since = 0.0  # when the oldest pending answer became due; 0: none is pending
        self.summary = PublishSummary(runs=[self._base])

    async def publish(self, chunks: AsyncIterator[bytes]) -> PublishSummary:
        """Publish the records in ``chunks`` (pieces of any size; see ``Pipe``), and return once the gateway has
        answered for each of them.

        Raises:
            Failure: the gateway refuses, or the first connection failed (without ``retry``, or because of its
                certificate).
        """
        begun = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        async with aiohttp.ClientSession(
            timeout=timeout, headers=self._headers, connector=connector(self._tls)
        ) as session:
            feeding = asyncio.create_task(self._feed(chunks))
            connecting = asyncio.create_task(self._connect(session))
            try:
                await asyncio.wait((feeding, connecting), return_when=asyncio.FIRST_EXCEPTION)
                if feeding.done():
                    feeding.result()  # an error in the input takes precedence
                await connecting
            finally:
                await _end(feeding, connecting)
                self.summary.resent = self._window.resent
                self.summary.seconds = time.monotonic() - begun
        return self.summary

    # ---- the input ----

    async def _feed(self, chunks: AsyncIterator[bytes]) -> None:
        """Fill the window from the input, as fast as it empties."""
        pipe = Pipe(MAX_LINE)
        try:
            async for chunk in chunks:
                for line in pipe.feed(chunk):
                    await self._take(line)
            for line in pipe.end():
                await self._take(line)
        except BodyError as error:
            self._refuse(None, f"the input cannot be read on: {error}")
        self._ended = True
        self._changed.set()

    async def _take(self, line: Line) -> None:
        try:
            t, data = parse(line.data, MAX_LINE)
        except TickError as error:
            self._refuse(line.number, str(error))
            return
        if self._tip is not None and t < self._tip:
            await self._turn()
        # answers name a t: wait until the one before is settled, so that this one's is unambiguous
        elif t == self._tip:
            await self._until(lambda: not len(self._window))
        self._tip = t
        await self._until(lambda: not self._window.full)
        self._window.add(PendingTick(t, data, line.number))
        self._changed.set()

    async def _turn(self) -> None:
        """The simulation started over:

        Settle its run, then begin another. ``_send`` sees the name and ends its connection.
        """
        await self._until(lambda: not len(self._window))
        suffix = f"-{len(self.summary.runs) + 1}"
        self.summary.runs.append(self._base[: 64 - len(suffix)] + suffix)

    def _refuse(self, line: int | None, reason: str) -> None:
        self.summary.refused += 1
        self._refused(reason if line is None else f"line {line}: {reason}")

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            self._changed.clear()
            await self._changed.wait()

    # ---- the network ----

    async def _connect(self, session: aiohttp.ClientSession) -> None:
        """One connection after another, until everything is settled."""
        while not (self._ended and not len(self._window)):
            published = self.summary.published
            try:
                await self._connection(session)
            except NETWORK_ERRORS as error:
                if self.summary.published > published:
                    self._reconnect.works()
                await self._reconnect.after(error)

    async def _connection(self, session: aiohttp.ClientSession) -> None:
        """One connection, until the end of the input or of the run, or until it is lost."""
        run = self.summary.runs[-1]
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                ws = await session.ws_connect(
                    self._address,
                    headers={"Tick-Run": run},
                    compress=self._window_bits,
                    heartbeat=_HEARTBEAT,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS),
                )
        except aiohttp.WSServerHandshakeError as error:
            raise await self._no_handshake(session, error) from None
        self._reconnect.connected = True
        self._window.connected()
        self._owed_since = 0.0
        sending = asyncio.create_task(self._send(ws, run))
        receiving = asyncio.create_task(self._receive(ws))
        try:
            done, _ = await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
            if receiving in done:
                receiving.result()  # explains the end of a connection better than a failed write
            sending.result()
        finally:
            await _end(sending, receiving)
            await ws.close()

    async def _no_handshake(
        self, session: aiohttp.ClientSession, error: aiohttp.WSServerHandshakeError
    ) -> Failure | Lost:
        """Why a handshake was refused. aiohttp drops the answer's body, so ask again without the upgrade."""
        reason, place = "", where(self._address)
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with session.get(self._address, timeout=aiohttp.ClientTimeout(total=CONNECT_SECONDS)) as response:
                reason = message_of(await response.content.read(1 << 16)) if response.status == error.status else ""
        answered = f"answered {error.status}: {reason}" if reason else f"answered {error.status}"
        told = f"{place} {answered}" + (below(self._address, "/ws/publish") if error.status == 404 else "")
        if error.status in (408, 425, 429) or error.status >= 500:
            return Lost(told, retry_after(error.headers or {}))
        return Failure(told if error.status >= 400 else f"{place} is no tick-gateway: it {answered}", error.status)

    async def _send(self, ws: aiohttp.ClientWebSocketResponse, run: str) -> None:
        """Send the ticks in the window, until the input or the run is settled."""
        while run == self.summary.runs[-1] and not (self._ended and not len(self._window)):
            entry = self._window.next()
            if entry is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            self._owed_since = self._owed_since or time.monotonic()
            await ws.send_frame(entry.data, aiohttp.WSMsgType.TEXT)

    async def _receive(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        """Handle answers until the connection ends, which raises."""
        while True:
            try:
                message = await ws.receive(self._ack_seconds)
            except TimeoutError:
                if self._window.waiting and time.monotonic() - self._owed_since >= self._ack_seconds:
                    told = f"{where(self._address)} acknowledged nothing for {self._ack_seconds:g} s"
                    raise Lost(told) from None
                continue
            if message.type is aiohttp.WSMsgType.TEXT:
                self._answer(message.data)
            elif message.type in _CLOSED or message.type is aiohttp.WSMsgType.ERROR:
                raise self._closed(ws.close_code, message.extra if message.type is aiohttp.WSMsgType.CLOSE else None)

    def _answer(self, text: str) -> None:
        try:
            answer: Any = json.loads(text)
            ack, error = answer.get("ack"), answer.get("error")
        except (ValueError, AttributeError):
            raise Failure(f"{where(self._address)} sent an answer that is none: {text!r:.80}") from None
        if isinstance(ack, int):
            self.summary.published += self._window.acknowledged(ack)
        elif error is not None:
            reason = str(answer.get("message") or error)
            entry = self._window.refused(answer.get("t"), answer.get("number"))
            if error == "run_closed":
                raise Failure(f"{reason}; what was not published begins at line {entry.line if entry else '?'}")
            self._refuse(entry.line if entry else None, reason)
        self._owed_since = time.monotonic() if self._window.waiting else 0.0
        self._changed.set()

    def _closed(self, code: int | None, reason: object) -> Failure | Lost:
        told = f"{where(self._address)} closed the connection" + (
            f" ({code} {reason or ''}".rstrip() + ")" if code else ""
        )
        if code == _POLICY:
            return Failure(told)
        if code == _TOO_BIG and (entry := self._window.largest_sent()) is not None:
            self._refuse(entry.line, f"its {len(entry.data)} bytes are more than the gateway accepts")
        return Lost(told)


async def _end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks whose results no longer matter."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
