"""The progress bar: on a terminal, for work that takes long."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace

import pytest

from tick_gateway.cli import progress_bar
from tick_gateway.cli.progress_bar import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(progress_bar, "sys", SimpleNamespace(stderr=terminal))
    return terminal


def test_it_shows_how_far_work_has_come_and_how_long_it_takes(clock: Clock, terminal: Terminal) -> None:
    bar = ProgressBar("reading")
    clock.now += 2
    bar.to(250_000_000, 1_000_000_000)
    assert "reading ████████░" in terminal.getvalue() and "25%  250 of 1,000 MB, 6 s left" in terminal.getvalue()
    bar.end()
    assert terminal.getvalue().endswith("\r\x1b[K"), "the line is taken away, and nothing else needs to be undone"
    assert "\x1b[?25l" not in terminal.getvalue(), "the cursor is not hidden"


def test_short_work_shows_none(clock: Clock, terminal: Terminal) -> None:
    bar = ProgressBar("reading")
    clock.now += 0.4
    bar.to(1, 2)
    bar.end()
    assert terminal.getvalue() == ""


def test_it_is_drawn_ten_times_a_second_at_most(clock: Clock, terminal: Terminal) -> None:
    bar = ProgressBar("reading")
    clock.now += 1
    for done in range(100):
        bar.to(done, 100)
    assert terminal.getvalue().count("\r") == 1
    clock.now += 0.11
    bar.to(100, 100)
    bar.to(0, 0)
    assert terminal.getvalue().count("\r") == 2


@pytest.mark.parametrize("stderr", [io.StringIO(), None], ids=["a file", "closed"])
def test_elsewhere_it_says_nothing(clock: Clock, stderr: io.StringIO | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_bar, "sys", SimpleNamespace(stderr=stderr))
    bar = ProgressBar("reading")
    clock.now += 9
    bar.to(1, 2)
    bar.end()
    assert stderr is None or stderr.getvalue() == ""
