"""The Gateway as users have it in Python: in a thread beside a simulation, or mounted on an aiohttp application.

In a plain script:

    with Gateway.in_thread(port=8000) as gateway:
        gateway.publish({"t": 1, "agents": [...]})

On an aiohttp application of yours:

    gateway = Gateway()
    gateway.mount(app, "/ticks")
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from .errors import GatewayError, SettingError
from .history.catalog import Progress
from .hub import Hub
from .server.app import make_app
from .server.listen import Server, loop_factory, open_socket, url
from .settings import TABLE, Settings

log = logging.getLogger("tick_gateway")


class Gateway:
    """One gateway: a bus to publish to, and an aiohttp application that serves it.

    Args:
        settings: keywords as in docs/reference/settings.md, such as ``ring=20_000``.

    Raises:
        SettingError: no such setting, or its value is out of its range.
        HistoryError: the history in ``data`` cannot be opened.
    """

    def __init__(self, **settings: Any) -> None:
        for name in settings:
            if name not in {row.name for row in TABLE}:
                known = ", ".join(row.name for row in TABLE)
                raise SettingError(name, f"no such setting; accepted: {known}")
        parsed = Settings(**settings)
        if parsed.idle:
            log.warning("%s: no effect without data, since no history is written", ", ".join(parsed.idle))
        self._set_up(parsed)

    @classmethod
    def of(cls, settings: Settings, progress: Progress | None = None) -> Self:
        """A gateway with settings that were parsed already; ``progress`` is told how far its history was read."""
        gateway = cls.__new__(cls)
        gateway._set_up(settings, progress)
        return gateway

    def _set_up(self, settings: Settings, progress: Progress | None = None) -> None:
        self.settings = settings
        self.hub = Hub(self.settings, progress)
        self.app = make_app(self.hub)
        self.url: str | None = None  # where a gateway in a thread listens
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._closed = False

    def publish(self, record: object, *, run: str | None = None) -> bool:
        """Publish one tick, from any thread: a mapping or dataclass with an integer ``t``, or its JSON. See
        ``TickBus.publish``.

        Returns at once; what it raises says what was wrong with the record.
        """
        if self._closed:
            raise GatewayError("the gateway is closed: nobody could read this tick")
        return self.hub.bus.publish(record, run=run)

    def end_run(self, run: str | None = None) -> None:
        """End a run (None: the current one); the next tick begins another.

        Raises:
            NotFound: it is not known, or nothing was published yet.
        """
        self.hub.bus.end_run(self.hub.bus.run(run).id)

    def mount(self, app: web.Application, prefix: str = "/ticks") -> None:
        """Serve this gateway on an application of yours, below ``prefix``. It starts and stops with it."""
        app.add_subapp("/" + prefix.strip("/"), self.app)

    @classmethod
    def in_thread(cls, *, port: int = 8000, **settings: Any) -> Self:
        """A gateway that listens from a thread of its own; close it with ``close()`` or as a context manager.

        Raises:
            SettingError: the port cannot be had, or a setting is out of its range.
        """
        gateway = cls(port=port, **settings)
        try:
            sock = open_socket(gateway.settings)
        except SettingError:
            gateway.close()
            raise
        ready = threading.Event()
        failed: list[BaseException] = []
        gateway.url = url(gateway.settings, sock.getsockname()[1])
        gateway._thread = threading.Thread(
            target=gateway._serve, args=(sock, ready, failed), name="tick-gateway", daemon=True
        )
        gateway._thread.start()
        ready.wait()
        if failed:
            raise GatewayError(f"the gateway's thread did not start: {failed[0]}") from failed[0]
        return gateway

    def close(self) -> None:
        """Tell every reader that it ends, and stop the thread."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stop is None:
            if self.hub.store is not None and self.hub.fanout.idle:
                self.hub.store.release()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed already: its thread failed, and said why
            self._loop.call_soon_threadsafe(self._stop.set)
        thread.join()
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self, sock: socket.socket, ready: threading.Event, failed: list[BaseException]) -> None:
        async def serve() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            server = Server(self.app, self.settings)
            await server.start(sock)
            ready.set()
            await self._stop.wait()
            await server.stop()

        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(serve())
        except BaseException as error:
            if ready.is_set():
                log.exception("the gateway's thread failed")
            failed.append(error)  # handed to the thread that waits
            ready.set()
