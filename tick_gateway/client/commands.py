"""``tick-gateway cat`` and ``tick-gateway publish``: the reader and the publisher, between pipes.

Ticks go to standard output and come from standard input byte for byte; everything said to people goes to standard
error, a line each. Exit codes: 0 done (a closed pipe is done too), 1 it did not work, 2 it was asked for wrongly, 130
Ctrl-C.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any, Final, NoReturn

import click

from .common import BadUsage, Failure
from .pipes import Output, chunks
from .publisher import Publisher
from .reader import Item, Notice, Tick, read_batches

_PASSED_ON: Final = ("tail", "since", "run", "fields", "every", "lag", "backlog", "speed")


@click.command()
@click.argument("url")
@click.option("--from", "start", metavar="POSITION", help="the position you have, RUN:T or T: ticks after it")
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
@click.option("--retry", is_flag=True, help="wait for a gateway that is not there yet")
@click.option("-q", "--quiet", is_flag=True, help="say nothing about lost connections and notices")
def cat(url: str, start: str | None, limit: int | None, stamp: bool, heartbeat: float, token: str | None,
        retry: bool, quiet: bool, **passed: str | None) -> None:  # fmt: skip
    """Write every tick of the gateway at URL (such as localhost:8000) to standard output, a line each.

    Without --from, --tail or --since it begins with the newest tick. Where the connection is lost it comes back by
    itself, for as long as it takes, and goes on after the last tick that it wrote. Only the first connection has to
    succeed, unless --retry is given. Notices of gaps and of new runs go to standard error as the gateway sent them.
    """
    params = {name: text for name in _PASSED_ON if (text := passed[name]) is not None}
    params |= {"stamp": "1"} if stamp else {}
    _run(_cat(url, start, limit, params, token, heartbeat, retry, quiet), "cat")


async def _cat(url: str, start: str | None, limit: int | None, params: dict[str, str], token: str | None,
               heartbeat: float, retry: bool, quiet: bool) -> int:  # fmt: skip
    if sys.stdout is None:
        raise BadUsage("standard output is closed")
    output = Output(sys.stdout.fileno())

    async def write() -> None:
        status = _say_nothing if quiet else _say
        batches = read_batches(
            url, start=start, limit=limit, params=params, token=token, heartbeat=heartbeat, retry=retry, status=status
        )
        async with aclosing(batches):
            async for items in batches:
                try:
                    await output.write(b"".join([item.data + b"\n" for item in items if isinstance(item, Tick)]))
                except BrokenPipeError:
                    return
                except OSError as error:
                    raise Failure(f"standard output: {error.strerror}") from None
                if not quiet:
                    _tell(items)

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


def _tell(items: list[Item]) -> None:
    """The notices that a reader has to know of; that a stream begins, or ends as it was asked to, is none."""
    for item in items:
        if isinstance(item, Notice) and item.name != "hello" and item.fields.get("reason") != "limit":
            _say(item.data.decode("utf-8", "replace"))


@click.command()
@click.argument("url")
@click.option("--run", metavar="RUN", help="name of the run; where t falls, RUN-2, RUN-3 and so on follow")
@click.option("--token", metavar="TOKEN", envvar="TICK_GATEWAY_PUBLISH_TOKEN", show_envvar=True,
              help="the gateway's publish token")  # fmt: skip
@click.option("--retry", is_flag=True, help="wait for a gateway that is not there yet")
@click.option("--compress", is_flag=True, help="send compressed, each line at once, to a gateway on another machine")
@click.option("-q", "--quiet", is_flag=True, help="say nothing about lost connections, and no figures at the end")
def publish(url: str, run: str | None, token: str | None, retry: bool, compress: bool, quiet: bool) -> None:
    """Publish standard input, a JSON object with an integer "t" a line, to the gateway at URL (such as localhost:8000).

    Each line stays here until the gateway has acknowledged it, and goes out again after a lost connection; the gateway
    knows doubles, so that every tick arrives once. While the gateway is away or slow, a bounded number of lines waits
    and reading pauses. A falling t begins a new run. Lines that are refused are told on standard error, and the exit
    code is 1.
    """
    _run(_publish(url, run, token, retry, compress, quiet), "publish")


async def _publish(url: str, run: str | None, token: str | None, retry: bool, compress: bool, quiet: bool) -> int:
    if sys.stdin is None:
        raise BadUsage("standard input is closed")
    status = _say_nothing if quiet else _say
    publisher = Publisher(url, run=run, token=token, retry=retry, compress=compress, status=status, refused=_say)
    tally = publisher.tally
    try:
        async with aclosing(chunks(sys.stdin.fileno())) as input_chunks:
            await publisher.publish(input_chunks)
    except BaseException:
        if tally.published or tally.refused:
            status(str(tally))
        raise
    status(str(tally))
    return 1 if tally.refused else 0


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
