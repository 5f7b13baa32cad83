"""What is logged again and again: once a minute, and not without bounds."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from tick_gateway import logs as throttled
from tick_gateway.logs import LOG_SECONDS, ThrottledLog


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(throttled, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_each_sentence_once_a_minute(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    log = ThrottledLog(logging.getLogger("tick_gateway"))
    for _ in range(3):
        log.tell(logging.WARNING, "one")
        log.tell(logging.WARNING, "two")
        clock.now += LOG_SECONDS / 2 - 1
    clock.now += 2
    log.tell(logging.WARNING, "one")
    assert [record.message for record in caplog.records] == ["one", "two", "one"]


def test_a_fault_of_every_tick_does_not_fill_the_disk(clock: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    log = ThrottledLog(logging.getLogger("tick_gateway"))
    for t in range(10_000):  # in ten seconds
        clock.now += 0.001
        log.tell(logging.ERROR, f"tick {t} cannot be shown", ValueError())
    first = len(caplog.records)
    assert 1 <= first <= 20
    clock.now += LOG_SECONDS
    for t in range(10_000, 20_000):
        log.tell(logging.ERROR, f"tick {t} cannot be shown", ValueError())
    assert len(caplog.records) == 2 * first, "and it is told for as long as it lasts"
