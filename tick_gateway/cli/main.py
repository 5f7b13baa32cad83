"""The command line: ``tick-gateway serve | demo | cat | publish | import | verify | bench``.

Usage errors are one line on standard error, with exit code 2.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click

from ..bench.command import bench
from ..version import __version__
from .clients import cat, publish
from .importing import import_command
from .serve import demo, serve
from .verify import verify_command

_INTERRUPTED: Final = 130  # what shells give for a command that Ctrl-C ended


class OneLine(click.Group):
    """A group of commands that reports usage errors in one line, without the usage around it."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        try:
            code = super().main(*args, **kwargs | {"standalone_mode": False})
        except click.ClickException as error:
            context = error.ctx if isinstance(error, click.UsageError) else None
            name = context.command_path if context is not None else self._asked(args[0] if args else kwargs.get("args"))
            line = " ".join(error.format_message().split())
            if isinstance(error, click.MissingParameter) and context is not None:
                line += f" {' '.join(context.command.collect_usage_pieces(context))}: {name} --help says more"
            click.echo(f"{name}: {line}", err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(_INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)

    def _asked(self, args: Sequence[str] | None) -> str:
        """The command that was asked for: of an option without its argument, click does not say whose it is."""
        words = (sys.argv[1:] if args is None else args)[:1]
        return " ".join(["tick-gateway", *(word for word in words if word in self.commands)])


@click.group(
    cls=OneLine,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, prog_name="tick-gateway")
@click.pass_context
def main(context: click.Context) -> None:
    """Every tick of a running simulation, to everyone, over whichever protocol their network allows."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (serve, demo, cat, publish, import_command, verify_command, bench):
    main.add_command(_command)


if __name__ == "__main__":
    main()
