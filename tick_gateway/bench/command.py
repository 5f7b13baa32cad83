"""``tick-gateway bench``: the command line of the bench."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from ..client.tls import tls_options
from .cases import ENCODINGS, LOOPBACK, NETWORKS, PROFILES

if TYPE_CHECKING:
    from .scenario import Outcome, Scenario

_MOST_PROCESSES: Final = 64


def _list(text: str, known: Sequence[str], flag: str) -> tuple[str, ...]:
    """Names from a comma-separated list, each once, in the order given.

    Raises:
        click.UsageError: one that is not known.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in known:
            raise click.UsageError(f"{flag}: {name!r:.60} is not known; known: {', '.join(known)}")
    if not names:
        raise click.UsageError(f"{flag}: name one or more of {', '.join(known)}")
    return names


@click.command("bench", short_help="Measure the transports against each other.")
@click.option("--url", default="", metavar="URL", help="measure this gateway instead of one of the bench's own")
@click.option("--pid", type=click.IntRange(1), metavar="PID", help="the process of that gateway, for CPU and memory")
@click.option("--token", default="", metavar="TOKEN", help="its publish token")
@tls_options
@click.option("--transports", default="", metavar="NAMES", help="which of them, comma-separated (default: all)")
@click.option("--clients", type=click.IntRange(1, 20_000), default=50, show_default=True, metavar="N",
              help="connections of each transport")  # fmt: skip
@click.option("--checked", type=click.IntRange(1), default=200, show_default=True, metavar="N",
              help="so many of them are read tick by tick, the others only drain (streams)")  # fmt: skip
@click.option("--processes", type=click.IntRange(1, _MOST_PROCESSES), default=1, show_default=True, metavar="N",
              help="reading processes that they are spread over")  # fmt: skip
@click.option("--rate", type=click.FloatRange(0.1, 10_000), default=100.0, show_default=True, metavar="X",
              help="ticks per second")  # fmt: skip
@click.option("--bytes", "size", type=click.IntRange(100, 1 << 20), default=1000, show_default=True, metavar="N",
              help="of a tick")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0.1, 3600), default=5.0, show_default=True, metavar="X",
              help="how long ticks are published for each case")  # fmt: skip
@click.option("--fields", default="", metavar="PATHS", help="only these members, such as agents.x,agents.y")
@click.option("--every", type=click.IntRange(1, 1_000_000), default=1, metavar="N", help="only ticks with t divisible by N")  # noqa: E501 # fmt: skip
@click.option("--batch", type=click.IntRange(0, 1000), default=0, metavar="N", help="up to N ticks a message")
@click.option("--encoding", default="identity", show_default=True, metavar="NAMES",
              help=f"codings to ask for: {', '.join(ENCODINGS)} (WebSocket: permessage-deflate)")  # fmt: skip
@click.option("--network", default=LOOPBACK, show_default=True, metavar="NAMES",
              help=f"loopback, or networks in between: {', '.join(PROFILES)}")  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, metavar="N",
              help="ticks that an answer of a pull holds at most")  # fmt: skip
@click.option("--pause", type=click.FloatRange(0, 60), default=0.05, show_default=True, metavar="SECONDS",
              help="after which a pull that was answered with nothing asks again")  # fmt: skip
@click.option("--catch-up", type=click.IntRange(0, 1_000_000), default=10_000, show_default=True, metavar="N",
              help="ticks that a late reader has to read; 0: leave that out")  # fmt: skip
@click.option("--patience", type=click.FloatRange(1, 600), default=15.0, show_default=True, metavar="SECONDS",
              help="the longest that anything is waited for")  # fmt: skip
@click.option("--json", "json_file", metavar="FILE", help="write the figures to FILE as JSON; -: to standard output")
@click.option("--html", "html_file", metavar="FILE", help="write a report with plots to FILE")
def bench(json_file: str | None, html_file: str | None, **given: Any) -> None:
    """Measure the transports against each other, on this machine or on a gateway at --url.

    Each transport gets readers in processes of their own and the same ticks, in turn. What the figures mean stands in
    docs/how-to/bench.md. Everything is bounded in time; Ctrl-C ends it.
    """
    from .measurement import measure
    from .processes import stop_on_signals
    from .scenario import BenchError
    from .table import Table, remarks
    from .verdict import verdict

    scenario = _scenario(**given)
    stop_on_signals()
    out = sys.stderr if json_file == "-" else sys.stdout
    writers = [
        _writer(json_file, "--json", lambda outcomes: json.dumps(_as_json(scenario, outcomes), indent=1) + "\n"),
        _writer(html_file, "--html", lambda outcomes: _as_html(scenario, outcomes)),
    ]
    table = Table(scenario, out)
    try:
        outcomes = measure(scenario, table.show)
    except BenchError as problem:
        raise click.UsageError(str(problem)) from None
    finally:
        table.end()
    for line in [*remarks(outcomes), "", *verdict(scenario, outcomes)]:
        click.echo(line, file=out)
    for write in writers:
        write(outcomes)
    if all(outcome.not_run for outcome in outcomes):
        raise click.UsageError("nothing was measured")


def _scenario(transports: str, encoding: str, network: str, clients: int, checked: int, pid: int | None,
          **given: Any) -> Scenario:  # fmt: skip
    """The scenario that the flags ask for.

    Raises:
        click.UsageError: they contradict each other, or name what is not there.
    """
    from ..model.query import paths
    from ..transports import TRANSPORTS
    from .scenario import Scenario

    if not hasattr(os, "fork") and network != LOOPBACK:
        raise click.UsageError("--network: other networks than loopback need Linux")
    try:
        paths(given["fields"])
    except ValueError as error:
        raise click.UsageError(f"--fields: {error}") from None
    names = [transport.name for transport in TRANSPORTS]
    chosen = _list(transports or ",".join(names), names, "--transports")
    networks = _list(network, NETWORKS, "--network")
    if given["url"] and networks != (LOOPBACK,):
        raise click.UsageError("--network: only a gateway of the bench's own can be put on another network (no --url)")
    if not given["url"] and (given["cacert"] is not None or given["insecure"]):
        raise click.UsageError("--cacert, --insecure: they are for an https:// address at --url")
    if pid is not None and not given["url"]:
        raise click.UsageError("--pid: it is of the gateway at --url")
    return Scenario(
        transports=chosen,
        encodings=_list(encoding, list(ENCODINGS), "--encoding"),
        networks=networks,
        clients=clients,
        checked=min(checked, clients),
        pid=pid,
        **given,
    )


def _writer(name: str | None, flag: str, made: Callable[[list[Outcome]], str]) -> Callable[[list[Outcome]], None]:
    """What writes a file when all is done; one that cannot be written is told before."""
    if name is None:
        return lambda outcomes: None
    if name == "-":
        return lambda outcomes: click.echo(made(outcomes), nl=False)
    there = os.path.exists(name)
    try:
        with open(name, "a", encoding="utf-8"):
            pass
        if not there:
            os.unlink(name)
    except OSError as error:
        raise click.UsageError(f"{flag}: {name}: {error.strerror}") from None
    return lambda outcomes: _write(name, made(outcomes))


def _write(name: str, text: str) -> None:
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)


def _as_json(scenario: Scenario, outcomes: list[Outcome]) -> dict[str, Any]:
    from ..version import __version__
    from .report import machine
    from .verdict import verdict

    return {
        "version": __version__,
        "machine": machine(),
        "plan": scenario.as_dict(),
        "outcomes": [outcome.as_dict() for outcome in outcomes],
        "verdict": verdict(scenario, outcomes),
    }


def _as_html(scenario: Scenario, outcomes: list[Outcome]) -> str:
    from .report import report

    return report(scenario, outcomes)
