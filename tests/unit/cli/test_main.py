"""The table of commands, and how what was asked for wrongly is told."""

from __future__ import annotations

from collections.abc import Callable

import click
import pytest

from tick_gateway.cli.main import OneLine, main
from tick_gateway.version import __version__

Told = Callable[..., tuple[int, str, str]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs a group of commands: its exit code, and what it says on both outputs."""

    def run(*arguments: str, group: click.Group = main) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            group.main([*arguments], prog_name="tick-gateway")
        assert isinstance(ended.value.code, int)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_every_command_is_listed_with_what_it_does(told: Told) -> None:
    code, out, _ = told()
    assert code == 0 and set(main.commands) == {"serve", "demo", "cat", "publish", "import", "verify", "bench"}
    for name, command in main.commands.items():
        assert f"\n  {name} " in out and command.get_short_help_str()


def test_the_version(told: Told) -> None:
    assert told("--version") == (0, f"tick-gateway, version {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["fly"], "tick-gateway: No such command 'fly'"),
        (["serve", "--fly"], "tick-gateway serve: No such option"),
        (
            ["publish"],
            "tick-gateway publish: Missing argument 'URL'. [OPTIONS] URL [FILE]: tick-gateway publish --help",
        ),
        (["serve", "--port"], "tick-gateway serve: Option '--port' requires an argument."),
    ],
)
def test_what_is_asked_for_wrongly_is_one_line_without_the_usage(told: Told, arguments: list[str], line: str) -> None:
    code, out, err = told(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(line)


def group_of(error: BaseException) -> OneLine:
    @click.group(cls=OneLine)
    def group() -> None: ...

    @group.command()
    def go() -> None:
        raise error

    return group


def test_an_error_over_several_lines_is_one(told: Told) -> None:
    assert told("go", group=group_of(click.ClickException("two\n  lines"))) == (1, "", "tick-gateway go: two lines\n")


def test_ctrl_c(told: Told) -> None:
    assert told("go", group=group_of(click.Abort())) == (130, "", "")
    code, _, err = told("go", group=group_of(KeyboardInterrupt()))
    assert code == 130 and "Traceback" not in err
