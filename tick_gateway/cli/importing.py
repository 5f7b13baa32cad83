"""``tick-gateway import``: another program's files into history."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from ..errors import SettingError
from ..history.external.directory import has_files, skipped_names
from ..history.external.importing import import_files
from ..history.local.directory import run_directories
from ..history.local.limits import Limits
from .flags import read_settings, setting_options, usage_errors
from .progress_bar import ProgressBar

_MISSING: Final = 1  # exit code


@click.command("import", short_help="Another program's files into the history in --data.")
@click.argument("directory", type=click.Path(path_type=Path))
@setting_options("data", "max_tick", "history_level")
def import_command(directory: Path, **flags: str | None) -> None:
    """Bring the *.jsonl.zst and *.jsonl of DIRECTORY into the history in --data.

    It can be interrupted and started again; what the history has already is passed over. The exit code is 1 where
    something of the files could not be read.
    """
    with usage_errors(flags):
        settings = read_settings(flags)
        if not settings.data:
            raise SettingError("data", "say which directory history is kept in")
        _check_source(directory)
        bar = ProgressBar("importing")
        try:
            data, limits = Path(settings.data), Limits.of(settings)
            opened, result = import_files(directory, data, limits, settings.max_tick, bar.to)
        finally:
            bar.end()
    opened.tell_unread()
    opened.close()
    if more := skipped_names(directory):
        click.echo(more, err=True)
    click.echo(f"{result}, in {settings.data}", err=True)
    if result.unread.files:
        raise SystemExit(_MISSING)


def _check_source(directory: Path) -> None:
    try:
        if not directory.is_dir():
            raise click.UsageError(f"{directory} is no directory")
        if not has_files(directory):
            if run_directories(directory):
                raise click.UsageError(f"{directory} is a history already: a gateway serves it with --data {directory}")
            more = skipped_names(directory)
            raise click.UsageError(f"{directory} has no *.jsonl.zst and no *.jsonl at its top{more and '; '}{more}")
    except OSError as error:
        raise click.UsageError(f"{directory} cannot be read: {error.strerror or error}") from None
