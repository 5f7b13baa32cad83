"""``tick-gateway verify``: what it says, and with which exit code it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command
from tests.support.made_history import write
from tick_gateway.cli.verify import summary
from tick_gateway.history.local.verify import Report


@pytest.fixture
def history(tmp_path: Path) -> Path:
    write(tmp_path / "history", {"A": range(200)})
    return tmp_path / "history"


def test_nothing_is_wrong(command: Command, history: Path) -> None:
    ended = command("verify", history)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.splitlines()[-1].startswith("200 ticks in ") and ended.err.endswith("1 run: no damage\n")


def test_damage_is_told_mended_and_gone(command: Command, history: Path) -> None:
    file = sorted((history / "A").glob("*.jsonl.zst"))[0]
    data = bytearray(file.read_bytes())
    data[40] ^= 0x55
    file.write_bytes(data)
    found = command("verify", history)
    assert found.code == 1 and file.name in found.out and found.err.endswith("1 finding\n")
    mended = command("verify", history, "--repair")
    assert mended.code == command("verify", history).code
    assert "is left" in mended.err.splitlines()[-1] and list((history / "A").glob("*.damaged"))


def test_what_is_no_directory(command: Command, tmp_path: Path) -> None:
    ended = command("verify", tmp_path / "nowhere")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"tick-gateway verify: {tmp_path / 'nowhere'} is no directory\n"


def test_a_report_in_one_line() -> None:
    assert summary(Report()) == "0 ticks in 0 blocks of 0 segments, 0 runs: no damage"
    assert summary(Report(ticks=1, blocks=1, segments=1, runs=1)).startswith("1 tick in 1 block of 1 segment, 1 run:")
