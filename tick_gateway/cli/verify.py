"""``tick-gateway verify``: checks a history and says what is wrong; with ``--repair``, mends what can be mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from ..errors import HistoryError
from ..history.local.lock import DirectoryLock, in_use
from ..history.local.repair import repair
from ..history.local.verify import Report, verify
from .progress_bar import ProgressBar

T = TypeVar("T")

_FOUND = 1  # exit code


@click.command("verify")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--repair", "mend", is_flag=True, help="mend what can be mended; no gateway may be using the directory")
def verify_command(directory: Path, mend: bool) -> None:
    """Check the history in DIR: every block, every tick.

    A line for everything that is wrong goes to standard output, remarks and a summary to standard error. Exit codes:
    0 nothing is wrong, 1 something is, 2 it could not be checked. With --repair, damaged files are written anew without
    what is damaged in them, which is kept beside them as FILE.OFFSET.damaged; the exit code is that of another check.
    """
    if not directory.is_dir():
        raise click.UsageError(f"{directory} is no directory")
    mended = _with_bar("repairing", lambda bar: _repair(directory, bar)) if mend else 0
    report = _with_bar("verifying", lambda bar: verify(directory, live=not mend and in_use(directory), progress=bar.to))
    for finding in report.findings:
        click.echo(str(finding))
    for remark in report.remarks:
        click.echo(remark, err=True)
    click.echo(summary(report) + (f" is left ({mended} mended)" if mended else ""), err=True)
    raise SystemExit(_FOUND if report.findings else 0)


def _repair(directory: Path, bar: ProgressBar) -> int:
    """Mend, and tell of it; returns how much was told."""
    told = 0
    with DirectoryLock(directory):
        for line in repair(directory, bar.to):
            bar.end()
            click.echo(line, err=True)
            told += 1
    return told


def summary(report: Report) -> str:
    """A report in one line."""
    numbers = (report.ticks, "tick"), (report.blocks, "block"), (report.segments, "segment"), (report.runs, "run")
    ticks, blocks, segments, runs = (f"{count} {name}{'' if count == 1 else 's'}" for count, name in numbers)
    sound = f"{ticks} in {blocks} of {segments}, {runs}"
    wrong = len(report.findings)
    return f"{sound}: {'no damage' if not wrong else '1 finding' if wrong == 1 else f'{wrong} findings'}"


def _with_bar(label: str, work: Callable[[ProgressBar], T]) -> T:
    bar = ProgressBar(label)
    try:
        return work(bar)
    except HistoryError as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise click.UsageError(f"{name}{error.strerror or error}") from None
    finally:
        bar.end()
