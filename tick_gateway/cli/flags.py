"""Settings as flags of commands: the options, and errors that use the name that the user gave."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from ..errors import HistoryError, SettingError
from ..settings import TABLE, Settings, name_as_given, parse_settings

Flags = Mapping[str, str | None]
"""The texts of flags by the names of their settings; None: not given."""


def setting_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that gives a command a flag for each of these settings, or for all of them."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for row in reversed(TABLE):
            if not names or row.name in names:
                text = f"{row.help} ({row.unit}; default: {row.told})"
                command = click.option(row.flag, row.name, default=None, metavar=row.unit.upper(), help=text)(command)
        return command

    return decorate


def read_settings(flags: Flags) -> Settings:
    """The settings of a command; reports those without effect on standard error.

    Raises:
        SettingError: see ``parse_settings``.
    """
    settings = parse_settings(flags, os.environ)
    if idle := settings.idle:
        names = ", ".join(name_as_given(name, flags, os.environ) for name in idle)
        command = click.get_current_context().command_path
        click.echo(f"{command}: {names}: no effect without --data, since no history is written", err=True)
    return settings


@contextmanager
def usage_errors(flags: Flags) -> Iterator[None]:
    """Report contradictory settings, and a history that cannot be opened, as a usage error in one line.

    Raises:
        click.UsageError: in place of a ``SettingError`` or ``HistoryError``.
    """
    try:
        yield
    except SettingError as error:
        name = name_as_given(error.name, flags, os.environ)
        raise click.UsageError(f"{name}: {error.problem}") from None
    except HistoryError as error:
        raise click.UsageError(f"{name_as_given('data', flags, os.environ)}: {error}") from None
