"""Standard input as a source: one JSON object a line, published as it arrives.

Reading blocks, so it has a thread of its own. A line that is no tick is told on standard error and passed over.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import TYPE_CHECKING

import click

from ..errors import GatewayError, TooBig
from .body import Lines

if TYPE_CHECKING:
    from ..gateway import Gateway

_READ_BYTES = 1 << 16


async def stdin_source(gateway: Gateway) -> None:
    """Publish standard input to its end; the gateway goes on serving after it."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def read() -> None:
        _publish_all(gateway, sys.stdin.fileno())
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish)

    threading.Thread(target=read, name="tick-gateway-stdin", daemon=True).start()
    await done


def _publish_all(gateway: Gateway, fd: int) -> None:
    bus = gateway.hub.bus
    lines = Lines(bus.max_tick + 2)
    while data := os.read(fd, _READ_BYTES):
        try:
            found = lines.feed(data)
        except TooBig as error:
            click.echo(f"standard input: {error}; reading stops", err=True)
            return
        for number, line in found:
            _publish(gateway, number, line)
    for number, line in lines.end():
        _publish(gateway, number, line)


def _publish(gateway: Gateway, number: int, line: bytes) -> None:
    try:
        gateway.hub.bus.publish(line, wait=True)
    except GatewayError as error:
        click.echo(f"standard input, line {number}: {error}", err=True)
