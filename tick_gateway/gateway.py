"""The Gateway that Python programs embed: in a thread beside a simulation, or mounted on an application.

In a plain script:

    with Gateway(port=8000) as gateway:
        gateway.publish({"t": 1, "agents": [...]})

On an application of yours:

    gateway = Gateway()
    gateway.mount(app, "/ticks")  # aiohttp
    app.mount("/ticks", gateway.asgi())  # FastAPI, Starlette

A gateway has one life, in one process:

    new ──start, with──▶ serving ──close──▶ closed
     │                    ▲   │
     └──mount──▶ mounted ─┘   └──▶ failed

It accepts ticks while it serves. Mounted, it also accepts as many as the inbox holds before its application starts.
Otherwise nobody could read them, and ``publish`` raises. A process that is forked while it serves cannot use it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import logging
import os
import socket
import sys
import threading
import time
import weakref
from types import TracebackType
from typing import Final, Literal, NoReturn, Self, Unpack

from aiohttp import web

from .delivery.session import Session
from .errors import GatewayError, Locked, NotServing, SettingError, WrongProcess
from .history.engine import Progress
from .http.listen import Server, loop_factory, open_socket, url
from .model.notices import EndReason
from .runtime import AttachedSource, Runtime
from .server.app import make_app, redirect_to_slash
from .server.asgi import AsgiApp
from .settings import SettingKeywords, Settings, keyword_settings

log = logging.getLogger("tick_gateway")

State = Literal["new", "mounted", "serving", "closed", "failed", "elsewhere"]

_LOOK_SECONDS: Final = 0.5  # how long Ctrl-C may be delayed where the system does not interrupt waits
_REASONS: Final[tuple[EndReason, ...]] = ("finished", "failed", "shutdown")
_ONE_LIFE: Final = "a gateway has one life: make another"
_NEW: Final = (
    "nothing serves this gateway yet, so nobody could read this tick; write `with Gateway(...) as gateway:` or "
    "`gateway = Gateway.in_thread(...)`, or mount it on an application"
)


class Gateway:
    """One gateway: a bus to publish to, and an aiohttp application that serves it.

    Args:
        settings: keywords as in docs/reference/settings.md, such as ``ring=20_000``. Those not given come from their
            ``TICK_GATEWAY_*`` variables.

    Raises:
        SettingError: an unknown setting, or a value out of range.
        HistoryError: the history in ``data`` cannot be opened.
    """

    def __init__(self, **settings: Unpack[SettingKeywords]) -> None:
        parsed, idle = keyword_settings(settings, os.environ)
        if idle:
            log.warning("%s: no effect without data, since no history is written", ", ".join(idle))
        self._set_up(parsed)

    @classmethod
    def of(cls, settings: Settings, progress: Progress | None = None, source: AttachedSource | None = None) -> Self:
        """A gateway with settings that were already parsed; see ``Runtime``."""
        gateway = cls.__new__(cls)
        gateway._set_up(settings, progress, source)
        return gateway

    def _set_up(
        self, settings: Settings, progress: Progress | None = None, source: AttachedSource | None = None
    ) -> None:
        self.settings = settings
        try:
            self.runtime = Runtime(self.settings, progress, source)
        except Locked as error:
            raise self._holder_named(error) from None
        self._app = make_app(self.runtime)
        self.url: str | None = None  # where a gateway in a thread listens
        self._place: str | None = None  # where it is mounted
        self._asgi: AsgiApp | None = None
        self._thread: threading.Thread | None = None
        self._server: Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._elsewhere = False  # it serves in the process that forked this one
        self._advised: set[str] = set()  # runs for which the user was warned that they are already stored
        self._turn = threading.RLock()  # held while starting or closing
        self._over = threading.Event()  # its thread has ended
        self.runtime.refuse(NotServing(_NEW))
        _GATEWAYS.add(self)

    @property
    def state(self) -> State:
        """``new``; ``mounted`` (its application has not started); ``serving``; ``closed``; ``failed``; or ``elsewhere``
        (in the process that forked this one)."""
        if self._elsewhere:
            return "elsewhere"
        if self._failure is not None:
            return "failed"
        if self.runtime.draining or self.runtime.closed:
            return "closed"
        if not self.runtime.fanout.idle:
            return "serving"
        return "new" if self._place is None else "mounted"

    def __repr__(self) -> str:
        place = self.url or self._place
        told = {"new": "not started", "mounted": "waiting for its application", "elsewhere": "in another process"}
        state = told.get(self.state, self.state) + (f": {self._failure}" if self.state == "failed" else "")
        return f"<Gateway {place} {state}>" if place else f"<Gateway {state}>"

    # ---- publishing ----

    def publish(self, record: object, *, run: str | None = None) -> bool:
        """Publish one tick, from any thread: a mapping or dataclass with an integer ``t``, or its JSON. See
        ``TickBus.publish``.

        Returns at once. Errors say what is wrong with the record, or why nobody could read it.
        """
        try:
            taken = self.runtime.bus.publish(record, run=run)
        except NotServing:
            if self._asgi is None or self.state not in ("mounted", "serving"):  # serving: started by another thread
                raise
            taken = self.start().runtime.bus.publish(record, run=run)
        if not taken and run is not None:
            self._advise(run)
        return taken

    def _advise(self, run: str) -> None:
        """Warn, once per run, where a tick of a named run counts as resent and that may not be what the user means."""
        known = self.runtime.bus.runs.get(run)
        if known is not None and known.restored and run not in self._advised:
            self._advised.add(run)
            log.warning(
                "run %s is stored already, up to tick %d: ticks up to there count as sent again and are dropped; a "
                "simulation that starts over needs a new name, or none",
                run, known.tip,
            )  # fmt: skip

    def end_run(self, run: str | None = None) -> None:
        """End a run (None: the current one); the next tick begins another.

        Raises:
            NotFound: it is unknown, or nothing was published yet.
            NotServing: as for ``publish``.
        """
        self.runtime.bus.end_run(self.runtime.bus.run(run).id)

    # ---- mounted ----

    @property
    def app(self) -> web.Application:
        """The aiohttp application, for you to serve. From the first access on, ticks wait in the inbox for its start,
        as with ``mount``."""
        if self.state == "new":
            self.runtime.bus.open()
        return self._app

    def mount(self, app: web.Application, prefix: str = "/ticks") -> None:
        """Serve this gateway on your application, below ``prefix``. It starts and stops with the application.

        Raises:
            SettingError: the prefix is empty, or this is not an aiohttp application.
            NotServing: it is already mounted, or was started.
        """
        if not isinstance(app, web.Application):
            kind = f"{type(app).__module__}.{type(app).__qualname__}"
            raise SettingError(
                "app",
                f"{kind} is no aiohttp.web.Application; an ASGI one (FastAPI, Starlette) mounts gateway.asgi(), "
                "beside a WSGI one (Flask, Django) the gateway listens by itself: with Gateway(port=...)",
            )
        path = "/" + prefix.strip("/")
        if path == "/":
            raise SettingError("prefix", "is empty: serve gateway.app itself to have the gateway at the root")
        self._begin("be mounted")
        app.router.register_resource(redirect_to_slash(path))  # before the gateway's routes, which also match this path
        app.add_subapp(path, self._app)
        self._place = f"below {path}"
        self.runtime.bus.open()

    def asgi(self) -> AsgiApp:
        """This gateway as an ASGI application, to mount on another one or to serve directly (FastAPI, Starlette, Quart;
        uvicorn, hypercorn). It needs no port of its own, and starts with the first tick or request, or with ``async
        with`` in your lifespan.

        Raises:
            NotServing: it is already mounted, or was started.
        """
        if self._asgi is None:
            self._begin("be mounted")
            self._asgi = AsgiApp(self)
            self._place = "on an ASGI application"
            self._asgi.attach(self._app)
        return self._asgi

    @property
    def inner_port(self) -> int:
        """For a gateway in an ASGI application: the port on 127.0.0.1 where it listens, for that application only; 0:
        none yet."""
        return self._server.port if self._server is not None else 0

    # ---- in a thread ----

    @classmethod
    def in_thread(cls, **settings: Unpack[SettingKeywords]) -> Self:
        """A gateway that listens in a thread of its own; close it with ``close()`` or as a context manager.

        Raises:
            SettingError: the port is not available, or a setting is out of range.
        """
        return cls(**settings).start()

    def start(self) -> Self:
        """Listen in a thread of its own; no effect if it already does. ``with`` calls it, too.

        Raises:
            SettingError: the port is not available.
            NotServing: it is closed, or mounted on an application.
            GatewayError: the thread did not start.
        """
        with self._turn:
            if self._thread is not None and self.state == "serving":
                return self
            if self._asgi is None or self.state != "mounted":
                self._begin("listen")
            try:
                sock = open_socket(self.settings if self._asgi is None else _inner(self.settings))
            except SettingError as error:
                failure = self._with_hint(error)
                self._fail(failure)
                raise failure from None
            if self._asgi is None:
                self.url = url(self.settings, sock.getsockname()[1])
            self._serve_in_thread(sock)
            return self

    def close(self, reason: EndReason = "finished") -> None:
        """Tell every reader that the stream ends, and stop the thread. A mounted gateway ends with its application.

        Args:
            reason: what readers are told: ``finished`` or ``failed`` (the simulation), or ``shutdown`` (the gateway may
                come back).

        Raises:
            SettingError: no such reason.
        """
        if reason not in _REASONS:
            raise SettingError("reason", f"{reason!r:.40} is not accepted; accepted: {', '.join(_REASONS)}")
        if self._elsewhere:
            return
        with self._turn:
            if self._thread is None:
                if self.runtime.fanout.idle and self._failure is None:  # never started, and never will be
                    self.runtime.refuse(NotServing("the gateway is closed: nobody could read this tick"))
                    self.runtime.close()
                return
            self.runtime.set_end_reason(reason)
            if self._loop is not None and self._stop is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: its thread failed, and reported why
                    self._loop.call_soon_threadsafe(self._stop.set)
            if self._thread is not threading.current_thread():  # else a handler on its loop called this, and continues
                self._thread.join()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the gateway is closed by another thread or a signal handler; Ctrl-C ends the wait, too.

        Args:
            timeout: maximum time to wait, seconds; None: no limit.

        Returns:
            Whether it is closed.

        Raises:
            NotServing: it has no thread to wait for.
            GatewayError: its thread failed.
        """
        if self._thread is None or self._elsewhere:
            raise NotServing(f"there is nothing to wait for: {self!r}")
        stop = None if timeout is None else time.monotonic() + timeout
        try:
            while not self._over.is_set() and (stop is None or time.monotonic() < stop):
                self._over.wait(_LOOK_SECONDS if stop is None else min(_LOOK_SECONDS, max(stop - time.monotonic(), 0)))
        except KeyboardInterrupt:
            return self._over.is_set()
        if self._failure is not None:
            raise GatewayError(f"the gateway's thread failed: {self._failure}") from self._failure
        return self._over.is_set()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(_reason_of(kind))

    async def __aenter__(self) -> Self:
        """As ``with``, for coroutines: the gateway still has its own thread and loop."""
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.close, _reason_of(kind)))

    def _begin(self, verb: str) -> None:
        """Raise unless the gateway is new."""
        why = {
            "mounted": f"it is mounted {self._place} already, and starts and ends there",
            "serving": "it serves already",
            "closed": f"it is closed; {_ONE_LIFE}",
            "failed": f"it failed ({self._failure}); {_ONE_LIFE}",
        }.get(self.state)
        if self._elsewhere:
            raise WrongProcess(self._forked_sentence())
        if why is not None:
            raise NotServing(f"the gateway cannot {verb}: {why}")

    def _with_hint(self, error: SettingError) -> SettingError:
        """Add a hint if the port is taken by another gateway of this process, as when a notebook cell runs again."""
        for other in list(_GATEWAYS):
            taken = other._server.port if other._server is not None and other.state == "serving" else 0
            if error.name == "port" and taken == self.settings.port and other is not self:
                place = f"{self.settings.host or 'all addresses'}, port {taken}"
                return SettingError(
                    "port",
                    f"cannot listen on {place}: address already in use: {other!r} of this process has it; "
                    "close() that one first",
                )
        return error

    def _holder_named(self, error: Locked) -> Locked:
        """Name the holder of a locked history, if it is another gateway of this process."""
        for other in list(_GATEWAYS):
            if other.runtime.history.holds(error.directory):
                return Locked(
                    error.directory, error.holder, f"{other!r} of this process has it; close() that one first"
                )
        return error

    def _serve_in_thread(self, sock: socket.socket) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(sock, ready), name="tick-gateway", daemon=True)
        self._thread.start()
        ready.wait()
        if (failure := self._failure) is not None:
            raise GatewayError(f"the gateway's thread did not start: {failure}") from failure

    def _serve(self, sock: socket.socket, ready: threading.Event) -> None:
        served = False

        async def serve() -> None:
            nonlocal served
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            self._server = Server(self._app, self.settings, self.runtime.descriptors)
            await self._server.start(sock)
            ready.set()
            try:
                await self._stop.wait()
            except BaseException:
                self.runtime.set_end_reason("failed")
                raise
            finally:
                await self._server.stop()
            served = True

        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(serve())
        except BaseException as error:  # reported to whoever publishes, waits, or started it
            if served:  # at interpreter exit, when the loop can no longer start threads to shut down its own
                log.debug("the gateway's loop was not closed cleanly", exc_info=True)
                return
            if ready.is_set():
                log.exception("the gateway's thread failed")
            sock.close()
            self._fail(error)
        finally:
            self._over.set()
            ready.set()

    def _fail(self, error: BaseException) -> None:
        """The gateway failed, before or after it started."""
        self._failure = error
        self.runtime.refuse(NotServing(f"the gateway failed, and nobody could read this tick: {error}"))
        if self.runtime.fanout.idle:
            self.runtime.close()

    # ---- other processes ----

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise WrongProcess(f"a gateway cannot be handed to another process (or copied); {self._way()}")

    def _forked_sentence(self) -> str:
        return (
            f"the gateway serves from the process that this one ({os.getpid()}) was forked from, and nobody could read "
            f"a tick that is published here; {self._way()}"
        )

    def _way(self) -> str:
        """How another process can publish."""
        to = f"{self.url}publish" if self.url else "its address (POST .../publish)"
        return f"send ticks to {to} from there, or hand them to the process that the gateway is in"

    def _in_child(self) -> None:
        """In a forked child: it has none of the threads, and must release the parent's resources."""
        if self.runtime.fanout.idle and not self.runtime.history.writes:
            return  # not started: each process may serve its own
        self._elsewhere, self._turn = True, threading.RLock()
        self.runtime.bus.abandon(lambda: WrongProcess(self._forked_sentence()))
        if self._server is not None:
            sessions = [one for one in self.runtime.fanout.registry.sessions if isinstance(one, Session)]
            self._server.abandon(one.transport for one in sessions if one.transport is not None)
        self.runtime.history.release()


def _inner(settings: Settings) -> Settings:
    """The settings of the listener to which an ASGI application forwards requests."""
    return dataclasses.replace(settings, host="127.0.0.1", port=0)


_GATEWAYS: Final[weakref.WeakSet[Gateway]] = weakref.WeakSet()
"""Every gateway of this process."""


def _in_child() -> None:
    for gateway in list(_GATEWAYS):
        gateway._in_child()


def _reason_of(error: type[BaseException] | None) -> EndReason:
    """The reason that readers are given when the simulation ended with this error, or None."""
    if error is None:
        return "finished"
    return "failed" if issubclass(error, Exception) else "shutdown"  # Ctrl-C, sys.exit(), a cancelled task


def _at_exit() -> None:
    """A script ends without ``close()``: store what it published, and tell readers."""
    for gateway in list(_GATEWAYS):
        if gateway.state == "serving" and gateway._thread is not None:
            gateway.close(_reason_of(None if hasattr(sys, "ps1") else getattr(sys, "last_type", None)))


atexit.register(_at_exit)  # called after the script's other threads have ended
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_in_child)
