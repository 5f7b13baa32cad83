"""Settings as flags, and errors by the name under which a setting was given."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from tick_gateway.cli.flags import read_settings, setting_options, usage_errors
from tick_gateway.errors import HistoryError, SettingError
from tick_gateway.settings import TABLE


def test_a_command_has_a_flag_for_every_setting_or_for_some() -> None:
    @click.command()
    @setting_options()
    def every(**flags: str | None) -> None: ...

    @click.command()
    @setting_options("data", "ring")
    def some(**flags: str | None) -> None: ...

    assert [option.opts for option in every.params] == [[row.flag] for row in TABLE]
    assert {option.name for option in some.params} == {"data", "ring"}


@pytest.mark.parametrize(("given", "name"), [({"ring": "0"}, "--ring"), ({"ring": None}, "TICK_GATEWAY_RING")])
def test_an_error_names_the_flag_or_the_variable(
    given: dict[str, str | None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICK_GATEWAY_RING", "0")
    with pytest.raises(click.UsageError, match=f"^{name}: 0 is out of range"), usage_errors(given):
        read_settings(given)


def test_a_history_that_cannot_be_opened_is_told_by_its_flag() -> None:
    with pytest.raises(click.UsageError, match=r"^--data: it is locked$"), usage_errors({"data": "x"}):
        raise HistoryError("it is locked")
    with pytest.raises(click.UsageError, match=r"^--host: no$"), usage_errors({"host": "x"}):
        raise SettingError("host", "no")


def test_what_has_no_effect_is_told_and_no_error() -> None:
    @click.command("serve")
    @setting_options()
    def serve(**flags: str | None) -> None:
        click.echo(str(read_settings(flags).fsync))

    ended = CliRunner().invoke(serve, ["--fsync", "never"])
    assert ended.exit_code == 0
    assert "serve: --fsync: no effect without --data, since no history is written" in ended.output
