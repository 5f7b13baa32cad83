"""``tick-gateway cat`` and ``tick-gateway publish``: the reader and the publisher, between pipes.

Ticks go to standard output and come from standard input byte for byte; everything said to people goes to standard
error, a line each. Exit codes: 0 done (a closed pipe is done too), 1 it did not work, 2 it was asked for wrongly, 130
Ctrl-C.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from itertools import groupby
from typing import Any, Final, NoReturn

import click

from ..client.connection import Status
from ..client.errors import BadUsage, Failure
from ..client.publisher import Publisher
from ..client.reader import Item, Notice, Tick, read_batches
from ..client.tls import TrustError, tls_options, trust
from ..model.tick import parse_position
from .standard_streams import Output, chunks

_PASSED_ON: Final = ("tail", "since", "run", "fields", "every", "lag", "backlog", "speed")


def _position(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """Checked here: the gateway calls it ``from_t``."""
    try:
        if text is not None:
            parse_position(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return text


@click.command(short_help="Every tick of a gateway to standard output.")
@click.argument("url")
@click.option(
    "--from", "start", metavar="POSITION", callback=_position, help="the position you have, RUN:T or T: ticks after it"
)
@click.option("--tail", metavar="N", help="the last N ticks, then live; 0: only new ones")
@click.option("--since", metavar="TIME", help="from the first tick received at or after an RFC 3339 time")
@click.option("--run", metavar="RUN", help="that run, to its end")
@click.option("--fields", metavar="PATHS", help="only these members, such as agents.id,agents.x")
@click.option("--every", metavar="N", help="only ticks with t divisible by N")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="end after N ticks")
@click.option("--stamp", is_flag=True, help='each tick as {"t", "run", "at", "data"}')
@click.option("--lag", type=click.Choice(["wait", "skip"]), help="where you are slow: every tick late, or the newest")
@click.option("--backlog", metavar="N", help="at most N ticks of the past")
@click.option("--speed", metavar="X", help="the past at X times its pace")
@click.option("--heartbeat", type=click.FloatRange(1, 3600), default=15.0, show_default=True, metavar="SECONDS",
              help="signs of life on a quiet stream; after three missing ones it reconnects")  # fmt: skip
@click.option("--token", metavar="TOKEN", help="sent as Authorization: Bearer")
@tls_options
@click.option("--retry", is_flag=True, help="wait for a gateway, and for the run, that is not there yet")
@click.option("-q", "--quiet", is_flag=True, help="say nothing about lost connections and notices")
def cat(url: str, start: str | None, limit: int | None, stamp: bool, heartbeat: float, token: str | None,
        cacert: str | None, insecure: bool, retry: bool, quiet: bool, **passed: str | None) -> None:  # fmt: skip
    """Write every tick of the gateway at URL (such as localhost:8000) to standard output, a line each.

    Without --from, --tail or --since it begins with the newest tick. Where the connection is lost it comes back by
    itself, for as long as it takes, and goes on after the last tick that it wrote. Only the first connection has to
    succeed, unless --retry is given. Notices of gaps and of new runs go to standard error as the gateway sent them.
    """
    params = {name: text for name in _PASSED_ON if (text := passed[name]) is not None}
    params |= {"stamp": "1"} if stamp else {}
    status = _say_nothing if quiet else _say

    def batches() -> AsyncGenerator[list[Item], None]:
        return read_batches(
            url, start=start, limit=limit, params=params, token=token, heartbeat=heartbeat, retry=retry,
            tls=_trust(cacert, insecure), status=status,
        )  # fmt: skip

    _run(_cat(batches, status), "cat")


async def _cat(batches: Callable[[], AsyncGenerator[list[Item], None]], status: Status) -> int:
    if sys.stdout is None:
        raise BadUsage("standard output is closed")
    output = Output(sys.stdout.fileno())

    async def write() -> None:
        async with aclosing(batches()) as reading:
            async for items in reading:
                try:
                    await _write(items, output, status)
                except BrokenPipeError:
                    return
                except OSError as error:
                    raise Failure(f"standard output: {error.strerror}") from None

    writing, closing = asyncio.create_task(write()), asyncio.create_task(output.closed.wait())
    try:
        await asyncio.wait((writing, closing), return_when=asyncio.FIRST_COMPLETED)
        if writing.done():
            writing.result()
    finally:
        writing.cancel()
        closing.cancel()
        await asyncio.gather(writing, closing, return_exceptions=True)
    return 0


async def _write(items: list[Item], output: Output, status: Status) -> None:
    """Write ticks and tell notices, each in its turn: where both go to one place, a gap stands where ticks are gone."""
    for told, group in groupby(items, _is_told):
        if told:
            for item in group:
                status(item.data.decode("utf-8", "replace"))
        else:
            await output.write(b"".join([item.data + b"\n" for item in group if isinstance(item, Tick)]))


def _is_told(item: Item) -> bool:
    """Whether it is for people; that a stream begins, or ends as it was asked to, is nothing to tell."""
    return isinstance(item, Notice) and item.name != "hello" and item.fields.get("reason") != "limit"


@click.command(short_help="Publish a file or standard input to a gateway.")
@click.argument("url")
@click.argument("file", required=False)
@click.option("--run", metavar="RUN", help="name of the run; where t falls, RUN-2, RUN-3 and so on follow")
@click.option("--token", metavar="TOKEN", envvar="TICK_GATEWAY_PUBLISH_TOKEN", show_envvar=True,
              help="the gateway's publish token")  # fmt: skip
@tls_options
@click.option("--retry", is_flag=True, help="wait for a gateway that is not there yet")
@click.option("--compress", is_flag=True, help="send compressed, each line at once, to a gateway on another machine")
@click.option("-q", "--quiet", is_flag=True, help="say nothing about lost connections, and no figures at the end")
def publish(url: str, file: str | None, run: str | None, token: str | None, cacert: str | None, insecure: bool,
            retry: bool, compress: bool, quiet: bool) -> None:  # fmt: skip
    """Publish FILE, or standard input, to the gateway at URL (such as localhost:8000).

    What is read is a JSON object with an integer "t" a line; or JSON that goes over several lines, objects or an array
    of them, each as soon as it is complete.

    Each line stays here until the gateway has acknowledged it, and goes out again after a lost connection; the gateway
    knows doubles, so that every tick arrives once. While the gateway is away or slow, a bounded number of lines waits
    and reading pauses. A falling t begins a new run. Lines that are refused are told on standard error, and the exit
    code is 1.
    """
    status = _say_nothing if quiet else _say

    def publisher() -> Publisher:
        return Publisher(
            url, run=run, token=token, retry=retry, tls=_trust(cacert, insecure), compress=compress, status=status,
            refused=_say,
        )  # fmt: skip

    _run(_publish(publisher, url, file, status), "publish")


async def _publish(make: Callable[[], Publisher], url: str, file: str | None, status: Status) -> int:
    _no_file(url)
    publisher = make()
    fd = _input(file)
    if os.isatty(fd):
        status("ticks are read from this terminal, a JSON object a line; Ctrl-D ends them")
    summary = publisher.summary
    try:
        async with aclosing(chunks(fd)) as input_chunks:
            await publisher.publish(input_chunks)
    except BaseException as error:
        if summary.published or summary.refused:
            status(str(summary))
        if isinstance(error, Failure) and error.status == 401:
            raise Failure(f"{error}: give it with --token, or in TICK_GATEWAY_PUBLISH_TOKEN", 401) from None
        raise
    status(str(summary))
    return 1 if summary.refused else 0


def _no_file(url: str) -> None:
    if os.path.exists(url):
        raise BadUsage(f"{url} is a file: the gateway's address comes first, as in publish localhost:8000 {url}")


def _input(file: str | None) -> int:
    """Where ticks are read from: a file's descriptor, or that of standard input."""
    if file is None or file == "-":
        if sys.stdin is None:
            raise BadUsage("standard input is closed")
        return sys.stdin.fileno()
    try:
        fd = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise BadUsage(f"{file} is a directory, and not a file with ticks")
    except OSError as error:
        raise BadUsage(f"{file} cannot be read: {error.strerror}") from None
    return fd


def _trust(cacert: str | None, insecure: bool) -> ssl.SSLContext | None:
    try:
        return trust(cacert, insecure) if insecure or cacert is not None else None
    except TrustError as error:
        raise BadUsage(str(error)) from None


def _run(command: Coroutine[Any, Any, int], name: str) -> NoReturn:
    """Run a command to its end, and turn what can go wrong into a line and an exit code."""
    try:
        raise SystemExit(asyncio.run(command))
    except Failure as failure:
        _say(f"tick-gateway {name}: {failure}")
        raise SystemExit(2 if isinstance(failure, BadUsage) else 1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _say(line: str) -> None:
    click.echo(line, err=True)


def _say_nothing(line: str) -> None:
    pass
