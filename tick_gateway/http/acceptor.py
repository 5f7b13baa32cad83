"""Accepting connections without using up the file descriptors that history and publishers need.

Event loops accept until no descriptor is left: asyncio takes a whole backlog at once, and uvloop then drops further
connections. Here, a few are accepted per turn of the loop, and none while the only free descriptors are those reserved
for files; further clients wait in the kernel's backlog. A *late* connection, one that got a reserved descriptor, is
closed after its answer, and sooner if it sends no request or does not read.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Final

from aiohttp import web

from ..access.file_descriptors import Descriptors
from .connection_handover import is_idle

log = logging.getLogger("tick_gateway.http")

_ACCEPTS_A_TURN: Final = 8  # so that these are served before the next ones
_PAUSE_SECONDS: Final = 0.05  # between two checks whether descriptors are free again
_LATE_SECONDS: Final = 5.0  # in which a late connection has to send a request
_LATE_SECONDS_IN_A_CROWD: Final = 3.0  # the same while others wait to be accepted; a busy client may need a second
_LATE_UNREAD_MS: Final = 10_000  # after which a late connection that reads nothing is dropped (see ``limit_unsent``)
_GONE: Final = {errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH}
"""Errors of accept() that concern one connection, which is gone already (Linux: accept(2))."""


class Acceptor(web.BaseSite):
    """An aiohttp site with an accept loop of its own."""

    __slots__ = ("_accepting", "_descriptors", "_late_connections", "_loop", "_resume", "_sock", "_tasks")

    def __init__(self, runner: web.BaseRunner, sock: socket.socket, descriptors: Descriptors, backlog: int) -> None:
        super().__init__(runner, backlog=backlog)
        self._sock = sock
        self._descriptors = descriptors
        self._accepting = False
        self._resume: asyncio.TimerHandle | None = None
        # Late connections, oldest first, each with aiohttp's protocol and when it came.
        self._late_connections: dict[asyncio.BaseTransport, tuple[asyncio.BaseProtocol, float]] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._loop = asyncio.get_running_loop()

    @property
    def name(self) -> str:
        host, port = self._sock.getsockname()[:2]
        return f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen."""
        await super().start()
        self._sock.setblocking(False)
        self._sock.listen(self._backlog)
        self._resume_accepting()

    async def stop(self) -> None:
        """Stop accepting, and close the socket."""
        self._pause()
        if self._resume is not None:
            self._resume.cancel()
        self._sock.close()
        await super().stop()

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._sock)

    def _resume_accepting(self) -> None:
        """Accept from now on if descriptors are free; else check again soon."""
        self._resume = None
        self._close_idle(_LATE_SECONDS_IN_A_CROWD)
        if self._may_accept():
            self._accepting = True
            self._loop.add_reader(self._sock, self._accept)
        else:
            self._resume = self._loop.call_later(_PAUSE_SECONDS, self._resume_accepting)

    def _may_accept(self) -> bool:
        try:
            return self._descriptors.free(self._sock.fileno())
        except OSError:
            return False

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                sock, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                self._pause_and_warn(f"connections wait to be accepted: {error.strerror}")
                return
            sock.setblocking(False)
            if sock.fileno() >= self._descriptors.readers:
                _drop_unread(sock)
            task = self._loop.create_task(self._connect(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if sock.fileno() >= self._descriptors.answers:
                self._pause_and_warn(
                    "connections wait to be accepted: what file descriptors are left is kept for history (ulimit -n)"
                )
                return

    def _pause_and_warn(self, why: str) -> None:
        self._descriptors.tell(why)
        self._pause()
        self._resume = self._loop.call_later(_PAUSE_SECONDS, self._resume_accepting)

    async def _connect(self, sock: socket.socket) -> None:
        server = self._runner.server
        assert server is not None, "the runner was set up"
        try:
            transport, protocol = await self._loop.connect_accepted_socket(server, sock)
        except OSError:  # already gone
            sock.close()
            return
        if self._descriptors.scarce(transport):
            self._late_connections[transport] = protocol, self._loop.time()
            self._loop.call_later(_LATE_SECONDS, self._close_idle, _LATE_SECONDS)

    def _close_idle(self, seconds: float) -> None:
        """Close late connections that have sent no request within this many seconds; forget those that have."""
        until = self._loop.time() - seconds
        for transport, (protocol, since) in list(self._late_connections.items()):
            if since > until + 0.01:  # the loop rounds its time
                break
            del self._late_connections[transport]
            if is_idle(transport, protocol):
                transport.close()


def _drop_unread(sock: socket.socket) -> None:
    """Let the kernel drop a late connection soon if it reads nothing: it holds one of the last descriptors."""
    timeout = getattr(socket, "TCP_USER_TIMEOUT", None)
    if timeout is not None:
        sock.setsockopt(socket.IPPROTO_TCP, timeout, _LATE_UNREAD_MS)
