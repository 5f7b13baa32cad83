"""``tick-gateway serve`` and ``tick-gateway demo``: a gateway in this process, until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import click

from ..access.file_descriptors import MIN_DESCRIPTORS, open_standard_streams, raise_limit
from ..errors import GatewayError, SettingError
from ..gateway import Gateway
from ..http.listen import WILDCARD_HOSTS, Server, loop_factory, open_socket, url
from ..settings import Settings
from ..sources import SOURCES, Source
from ..sources.base import SourceTask
from ..version import __version__
from .flags import read_settings, setting_options, usage_errors
from .process_tuning import tune_memory, tune_process
from .progress_bar import ProgressBar


@click.command()
@setting_options()
def serve(**flags: Any) -> None:
    """Start a gateway. Ticks come by POST /publish, /ws/publish, --stdin or --tail.

    Bytes may be written as 64k, 64M or 64G, seconds as 20ms, 90s, 15m, 12h or 7d.
    """
    known = _sources_of("serve")
    values = _take_options(known, flags)
    asked = [source for source in known if values[str(source.options[0].name)]]
    if len(asked) > 1:
        raise click.UsageError(f"{' and '.join(source.flag for source in asked)}: one source at a time")
    with usage_errors(flags):
        settings = read_settings(flags)
        if not settings.publish_network and not asked:
            others = " or ".join(source.flag for source in known)
            raise SettingError("publish_network", f"is off, and nobody else publishes here; give {others}")
        tune_memory()
        run(settings, asked[0].begin(settings, values) if asked else None)


@click.command()
@setting_options()
def demo(**flags: Any) -> None:
    """Start a gateway with a built-in flocking simulation.

    Bytes may be written as 64k, 64M or 64G, seconds as 20ms, 90s, 15m, 12h or 7d.
    """
    (source,) = _sources_of("demo")
    values = _take_options([source], flags)
    with usage_errors(flags):
        settings = read_settings(flags)
        run(settings, source.begin(settings, values))


def _sources_of(command: str) -> list[Source]:
    """The sources that a command can start."""
    return [source for source in SOURCES if source.command == command]


def _take_options(sources: Sequence[Source], flags: dict[str, Any]) -> dict[str, object]:
    """Remove the values of sources' options from the flags of a command, and return them; the rest are settings."""
    names = [str(option.name) for source in sources for option in source.options]
    return {name: flags.pop(name) for name in names}


for _command in (serve, demo):
    _command.params += [option for source in _sources_of(str(_command.name)) for option in source.options]


def run(settings: Settings, source: SourceTask | None) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return; existing ticks are read before the port opens.

    Args:
        source: publishes in this process; None: others publish.

    Raises:
        SettingError: the address is not available, or the source cannot start as requested.
        HistoryError: the history cannot be opened.
        click.ClickException: the source gave up; or this process may have too few file descriptors.
    """
    open_standard_streams()
    if (limit := raise_limit()) < MIN_DESCRIPTORS:
        raise click.UsageError(
            f"{limit} file descriptors (ulimit -n) are too few for a gateway; it needs {MIN_DESCRIPTORS}"
        )
    _outlive_terminal()
    bar = ProgressBar("reading history")
    try:
        gateway = Gateway.of(settings, bar.to, source)
    finally:
        bar.end()
    sock = open_socket(settings)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run(gateway, sock, source))


async def _run(gateway: Gateway, sock: socket.socket, source: SourceTask | None) -> None:
    stop = asyncio.Event()
    _stop_on_signals(stop, gateway.settings.drain_timeout)
    server = Server(gateway.app, gateway.settings, gateway.runtime.descriptors)
    await server.start(sock)
    tune_process()
    publish = source is None and gateway.settings.publish_network and not gateway.settings.publish_token
    banner(gateway.settings, server.port, gateway, publish=publish)

    def over(task: asyncio.Future[None]) -> None:
        if not task.cancelled() and task.exception():
            stop.set()

    feeding = asyncio.ensure_future(source.run(gateway.runtime)) if source is not None else None
    if feeding is not None:
        feeding.add_done_callback(over)
    await stop.wait()
    if feeding is not None:
        feeding.cancel()
        await asyncio.wait((feeding,))
    error = feeding.exception() if feeding is not None and not feeding.cancelled() else None
    gateway.runtime.set_end_reason("failed" if error is not None else "shutdown")
    await server.stop()
    if error is not None:
        raise click.ClickException(str(error)) if isinstance(error, GatewayError) else error


def _stop_on_signals(stop: asyncio.Event, seconds: float) -> None:
    """SIGTERM and SIGINT stop the gateway. Another SIGINT is the system's to deal with, and ends the process at once,
    whatever it does; history is as sound as after any other crash. Another SIGTERM changes nothing, to the process's
    very end: the loop is not asked to handle it, since it would give the signal back to the system, which ends the
    process, when it lets go of it."""
    loop = asyncio.get_running_loop()

    def drain() -> None:
        stop.set()
        if sys.platform != "win32" and loop.remove_signal_handler(signal.SIGINT):  # it is the first one
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            _say(f"stopping: readers get their last ticks, for {seconds:g} s at the most; Ctrl-C again ends it at once")

    def terminate(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        loop.call_soon_threadsafe(drain)

    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt
        loop.add_signal_handler(signal.SIGINT, drain)  # and lets Python's own handlers wake the loop
    signal.signal(signal.SIGTERM, terminate)


def _outlive_terminal() -> None:
    """Keep running when the terminal is closed (SIGHUP): SIGTERM ends the gateway."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        with contextlib.suppress(ValueError):  # not in the main thread: the process is somebody else's
            signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _say(text: str) -> None:
    """Write to the terminal, if it is still there."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def banner(settings: Settings, port: int, gateway: Gateway, *, publish: bool) -> None:
    """Say on the terminal what to open and what to curl; how to ``publish`` where no source of its own does."""
    everywhere = settings.host in WILDCARD_HOSTS
    address = f"http://localhost:{port}/" if everywhere else url(settings, port)
    lines = [
        f"tick-gateway {__version__} listens on {address}"
        + (f" and on every other address of this machine, port {port}" if everywhere else ""),
        f"  open    {address}",
        f"  every tick as lines    curl -N {address}",
        f"  as server-sent events  curl -N {address}sse",
        f"  the newest one         curl {address}latest",
        *([f"  publish                echo '{{\"t\":1}}' | curl --data-binary @- {address}publish"] if publish else []),
        f"  {gateway.runtime.history.describe()}",
    ]
    _say("\n".join(lines))
