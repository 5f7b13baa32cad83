"""Standard input as a source: one JSON object per line, or anything else that ``Pipe`` accepts, as it arrives.

Reading blocks, so it has a thread of its own. A line that is not a tick is reported on standard error and skipped. The
end of the input ends its run: readers of that run reach its end, and the gateway continues to serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from typing import ClassVar, Final

import click

from ..errors import BodyError, GatewayError, NotServing
from ..runtime import Runtime
from ..settings import Settings
from ..wire.pipe_records import Pipe
from ..wire.record_splitter import Line
from .base import Source, SourceTask

_READ_BYTES: Final = 1 << 16


class Stdin(SourceTask):
    """Publishes standard input to its end, and ends its run."""

    alone: ClassVar[str] = (
        "reads its ticks from standard input (--stdin), and takes no others until that has ended: they would come to "
        "lie between these; write them there, or publish to a gateway without --stdin"
    )

    def __init__(self, settings: Settings, *, stdin: bool) -> None:
        super().__init__()

    async def publish(self, runtime: Runtime) -> None:
        """See ``SourceTask.publish``; the gateway continues to serve after it."""
        if sys.stdin is None:
            click.echo("standard input is closed: nothing is read from it", err=True)
            return
        loop, fd, done = asyncio.get_running_loop(), sys.stdin.fileno(), asyncio.Event()

        def read() -> None:
            try:
                with contextlib.suppress(NotServing):  # the gateway ended before its input
                    _publish_all(runtime, fd)
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting any more
                    loop.call_soon_threadsafe(done.set)

        # A daemon, because a read that never returns must not keep the process from ending.
        threading.Thread(target=read, name="tick-gateway-stdin", daemon=True).start()
        await done.wait()


def _publish_all(runtime: Runtime, fd: int) -> None:
    pipe, taken = Pipe(runtime.bus.max_tick + 2), False
    try:
        while data := _read(fd):
            for line in pipe.feed(data):
                taken = _publish(runtime, line) or taken
        for line in pipe.end():
            taken = _publish(runtime, line) or taken
    except BodyError as error:
        click.echo(f"standard input cannot be read on: {error}", err=True)
    run = runtime.bus.current
    if taken and run is not None:
        runtime.bus.end_run(run.id)
        click.echo(f"standard input has ended, and run {run.id} with it; the gateway goes on serving", err=True)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _READ_BYTES)
    except OSError as error:  # a terminal that hung up, a directory
        click.echo(f"standard input: {error.strerror}; reading stops", err=True)
        return b""


def _publish(runtime: Runtime, line: Line) -> bool:
    """Publish a line; returns whether it is a new tick."""
    try:
        return runtime.bus.publish(line.data, wait=True)
    except NotServing:
        raise
    except GatewayError as error:
        click.echo(f"standard input, line {line.number}: {error}", err=True)
        return False


SOURCE: Final = Source(
    "stdin",
    command="serve",
    options=(click.Option(["--stdin"], is_flag=True, help="read ticks from standard input, one JSON object a line"),),
    make=Stdin,
)
