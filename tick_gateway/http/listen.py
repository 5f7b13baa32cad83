"""Listening: a socket, an aiohttp runner on it, and the kernel's limits for connections."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

from ..access.file_descriptors import Descriptors, open_standard_streams
from ..errors import SettingError
from ..settings import Settings
from .acceptor import Acceptor
from .connection import Runner

log = logging.getLogger("tick_gateway.http")  # also aiohttp's log for connections

WILDCARD_HOSTS: Final = ("", "0.0.0.0", "::")  # hosts that stand for all addresses of the machine
_UNSENT_BYTES: Final = 256 * 1024
UNREAD_MS: Final = 120_000  # after which a client that reads nothing of its answer is dropped
_HOSTS: Final = "; accepted: a name or an address of this machine, without a scheme and a port"
_LISTENS: Final = "0A"  # a socket's state in /proc/net/tcp
# for the head of a request, and between two requests: longer than proxies keep idle connections
_IDLE_SECONDS: Final = 75.0
_SHUTDOWN_SECONDS: Final = 1.0  # for answers in progress, once readers and publishers have left


def open_socket(settings: Settings) -> socket.socket:
    """A listening TCP socket: on all addresses, IPv4 and IPv6, where no host is set.

    Raises:
        SettingError: the address is not available; the message says why.
    """
    host, port, backlog = settings.host, settings.port, settings.backlog
    try:
        if not host and socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        if not host and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # a machine without IPv6
            return open_socket(Settings(host="0.0.0.0", port=port, backlog=backlog))
        name = "port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "host"
        number = error.errno or 0  # negative from the resolver, whose message is followed by the address
        reason = os.strerror(number) if number > 0 else str(error.strerror or error).partition(" (while")[0]
        reason = reason[:1].lower() + reason[1:] + (_cure(error.errno, port) if name == "port" else _HOSTS)
        raise SettingError(name, f"cannot listen on {host or 'all addresses'}, port {port}: {reason}") from None
    except (TypeError, UnicodeError):  # the codec for host names allows at most 63 characters per part
        raise SettingError("host", f"{host!r:.80} is no host name") from None


def _cure(number: int | None, port: int) -> str:
    """What to do about a port that is not available."""
    if number == errno.EADDRINUSE:
        return f"{_holder(port)}; take another, such as {port % 65535 + 1}, or 0 for any that is free"
    return "; ports from 1024 on need no right, such as 8000" if number == errno.EACCES else ""


def _holder(port: int) -> str:
    """The process that listens on a port, if it can be found: one of this user's (Linux)."""
    sockets: set[str] = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/net/{table}") as rows:
            for row in map(str.split, list(rows)[1:]):
                if row[3] == _LISTENS and int(row[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{row[9]}]")
    for process in filter(str.isdecimal, os.listdir("/proc") if sockets else ()):
        folder = f"/proc/{process}/fd"
        with contextlib.suppress(OSError):  # another user's, or ended meanwhile
            if any(os.readlink(f"{folder}/{name}") in sockets for name in os.listdir(folder)):
                with open(f"/proc/{process}/comm") as comm:
                    return f" by process {process} ({comm.read().strip()})"
    return ""


def url(settings: Settings, port: int) -> str:
    """The URL of a gateway on this machine; IPv6 addresses are in brackets."""
    host = "127.0.0.1" if settings.host in WILDCARD_HOSTS else settings.host
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's if it is installed (not on Windows), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    open_standard_streams()  # also if the gateway is embedded in another program
    return uvloop.new_event_loop


def limit_unsent(sock: socket.socket) -> None:
    """Limit the unsent data that the kernel buffers for a connection, and for how long; accepted sockets inherit it.

    Otherwise the socket buffer of a reader that does not read would hold megabytes of stale ticks. A client that reads
    nothing of its answer is dropped (Linux: tcp(7)); sessions of streams handle that themselves.
    """
    lowat = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if lowat is not None:
        sock.setsockopt(socket.IPPROTO_TCP, lowat, _UNSENT_BYTES)
    timeout = getattr(socket, "TCP_USER_TIMEOUT", None)
    if timeout is not None:
        sock.setsockopt(socket.IPPROTO_TCP, timeout, UNREAD_MS)


class _ClientFaults(logging.Filter):
    """Keeps client errors out of the log: requests that are not HTTP are answered with 400."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError)


class _Subprotocols(logging.Filter):
    """Keeps aiohttp's warnings about unknown WebSocket subprotocols out of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (isinstance(record.msg, str) and record.msg.startswith("%s: Client protocols"))


log.addFilter(_ClientFaults())
_SUBPROTOCOLS: Final = _Subprotocols()


class Server:
    """An application on a socket. ``start`` and ``stop`` belong to one running loop."""

    def __init__(self, app: web.Application, settings: Settings, descriptors: Descriptors) -> None:
        self._settings = settings
        self._descriptors = descriptors
        self._runner = Runner(
            app,
            access_log=None,
            auto_decompress=False,  # the routes decode request bodies
            handle_signals=False,
            keepalive_timeout=_IDLE_SECONDS,
            logger=log,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        self._sock: socket.socket | None = None
        self.port = 0

    async def start(self, sock: socket.socket) -> None:
        """Serve on a listening socket."""
        self._sock = sock
        logging.getLogger("aiohttp.websocket").addFilter(_SUBPROTOCOLS)
        await self._runner.setup()
        limit_unsent(sock)
        self.port = sock.getsockname()[1]
        backlog = self._settings.backlog
        site: web.BaseSite
        if sys.platform == "win32":  # its loop has no add_reader, and it has no such limit on descriptors
            site = web.SockSite(self._runner, sock, backlog=backlog)
        else:
            site = Acceptor(self._runner, sock, self._descriptors, backlog)
        await site.start()

    async def stop(self) -> None:
        """Drain the gateway and close."""
        await self._runner.cleanup()

    def abandon(self, transports: Iterable[asyncio.BaseTransport]) -> None:
        """In a forked child: close the parent's sockets, including those of these connections. Otherwise the port stays
        in use and readers wait for the end of their streams until the child ends.

        The descriptors are redirected to /dev/null, so that objects which still hold one cannot close anything else.
        """
        server = self._runner.server
        handlers = server.connections if server is not None else []
        mine = [handler.transport for handler in handlers if handler.transport is not None]
        sockets = [self._sock, *(transport.get_extra_info("socket") for transport in (*mine, *transports))]
        null = os.open(os.devnull, os.O_RDWR)
        for one in sockets:
            if one is not None and (number := one.fileno()) >= 0:
                os.dup2(null, number, inheritable=False)
        os.close(null)
