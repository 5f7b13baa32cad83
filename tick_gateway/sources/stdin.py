"""Standard input as a source: one JSON object a line, published as it arrives.

Reading blocks, so it has a thread of its own. A line that is no tick is told on standard error and passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING

import click

from ..errors import GatewayError, NotServing
from .body import Lines

if TYPE_CHECKING:
    from ..gateway import Gateway

_READ_BYTES = 1 << 16


async def stdin_source(gateway: Gateway) -> None:
    """Publish standard input to its end; the gateway goes on serving after it."""
    if sys.stdin is None:
        click.echo("standard input is closed: nothing is read from it", err=True)
        return
    loop, fd, done = asyncio.get_running_loop(), sys.stdin.fileno(), asyncio.Event()

    def read() -> None:
        try:
            with contextlib.suppress(NotServing):  # the gateway has ended before its input
                _publish_all(gateway, fd)
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

    # A daemon: a read that never returns must not keep the process from ending.
    threading.Thread(target=read, name="tick-gateway-stdin", daemon=True).start()
    await done.wait()


def _publish_all(gateway: Gateway, fd: int) -> None:
    lines = Lines(gateway.hub.bus.max_tick + 2)
    while data := _read(fd):
        for number, line in lines.feed(data):
            _publish(gateway, number, line)
    for number, line in lines.end():
        _publish(gateway, number, line)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _READ_BYTES)
    except OSError as error:  # a terminal that hung up, a directory
        click.echo(f"standard input: {error.strerror}; reading stops", err=True)
        return b""


def _publish(gateway: Gateway, number: int, line: bytes) -> None:
    try:
        gateway.hub.bus.publish(line, wait=True)
    except NotServing:
        raise
    except GatewayError as error:
        click.echo(f"standard input, line {number}: {error}", err=True)
