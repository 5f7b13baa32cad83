"""aiohttp's connections with two changes: clients that close their side and still read are served, and errors that
aiohttp answers by itself, before any route is called, have the form of all others.

It depends on internals of aiohttp's ``RequestHandler``; ``tests/unit/http/test_connection.py`` and
``tests/robustness/bad_input`` test it against each release.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.http import HttpProcessingError, WebSocketReader
from aiohttp.web_protocol import RequestHandler

from ..errors import ClientError, Expectation, GatewayError
from ..logs import ThrottledLog
from .responses import SERVER, error_reply

log = logging.getLogger("tick_gateway.http")

_MAX_PROBLEM: Final = 200  # characters of aiohttp's message


class Connection(RequestHandler):
    """One connection, until a session takes it over.

    A client may close its side after its last request (``shutdown(SHUT_WR)``, ``nc -N``): its requests are answered,
    then the connection is closed. A request body that it leaves incomplete is broken off.

    Attributes:
        half_closed: the client has closed its side.
        broken_off: the request body that it left incomplete, or None.
        faults: the log of the gateway's faults; one for all connections.
    """

    __slots__ = ("broken_off", "faults", "half_closed")

    half_closed: bool
    broken_off: StreamReader | None
    faults: ThrottledLog

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection if a request on it has yet to be answered."""
        self.half_closed = True
        if self._payload_parser is not None or not self._is_asked:  # a publisher's WebSocket ends with its client
            return False
        if self._messages:
            self.break_off(self._messages[-1][1])
        elif self._current_request is not None:
            self.break_off(self._current_request.content)
        self._close = not self._messages  # after the current answer; requests that wait are answered first
        return True

    def break_off(self, body: StreamReader) -> None:
        """End a request body early; what has arrived of it can still be read."""
        if not body.is_eof():
            self.broken_off = body
            body.feed_eof()

    def set_parser(self, parser: WebSocketReader, data_received_cb: Callable[[], None] | None = None) -> None:
        super().set_parser(parser, data_received_cb)
        if self.half_closed and self.transport is not None:
            self.transport.close()

    @property
    def _is_asked(self) -> bool:
        waits = self._waiter is not None and not self._waiter.done()
        return bool(self._messages) or (self._request_count > 0 and not waits)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if self.half_closed and not self._messages:
            self._close = True
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer in the form of all other errors, and log only faults of the gateway."""
        error: GatewayError
        if isinstance(exc, HttpProcessingError):
            problem = " ".join(exc.message.partition("\n")[0].split()).rstrip(":")
            error = ClientError(f"this is no HTTP request: {problem[:_MAX_PROBLEM]}")
        else:
            told = isinstance(exc, GatewayError)  # its message is complete
            sentence = f"an answer broke off: {exc}" if told else f"a request from {request.remote} failed"
            self.faults.tell(logging.ERROR, sentence, None if told else exc)
            error = GatewayError("the gateway failed on this request; its log says why")
        if request.writer.output_size > 0:
            raise ConnectionError("half sent: no second head may follow")
        return _last(error)


def _last(error: GatewayError) -> web.Response:
    """An error as the last answer on a connection."""
    response = error_reply(error)
    response.headers["Server"] = SERVER  # no application adds it here
    response.force_close()
    return response


def _unexpected(request: web.BaseRequest) -> web.Response | None:
    """The answer to an unsupported expectation (RFC 9110, section 10.1.1); None: there is none."""
    expected = request.headers.getall("Expect", ())
    if request.version < HttpVersion11 or all(value.strip().lower() == "100-continue" for value in expected):
        return None
    return _last(Expectation(", ".join(expected)))  # close the connection: a body may follow, or not


async def expect(request: web.Request) -> web.StreamResponse | None:
    """aiohttp's ``expect_handler`` of every route: sends ``100 Continue``, or refuses the expectation."""
    refused = _unexpected(request)
    if refused is None and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # of the answer, nothing was sent yet
    return refused


class _ConnectionFactory(web.Server):
    faults: ThrottledLog

    def __call__(self) -> RequestHandler:
        connection = Connection(self, loop=self._loop, **self._kwargs)
        connection.half_closed, connection.broken_off, connection.faults = False, None, self.faults
        return connection


class Runner(web.AppRunner):
    """Runs an application with ``Connection`` as its protocol."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            connection = request.protocol
            if isinstance(connection, Connection) and connection.half_closed and not connection._messages:
                connection.break_off(request.content)  # the client closed its side before the body was read
            return _unexpected(request) or await made.request_handler(request)

        server = _ConnectionFactory(answer, request_factory=made.request_factory, loop=made._loop, **made._kwargs)
        server.faults = ThrottledLog(log)
        return server
