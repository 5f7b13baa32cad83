"""Rounds of writing: what is written together, what is tried again after a failure, and when."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support.faulty_disk import Disk
from tests.support.recorded import LIMITS, Clock, Writer, opened
from tick_gateway.history.local import commit_worker as module
from tick_gateway.history.local.commit_worker import RETRY_SECONDS, CommitRequest, CommitWorker, Item
from tick_gateway.history.local.events import BlockClosed


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


class Rounds:
    """A worker, and what it is handed."""

    def __init__(self, directory: Path) -> None:
        self.writer = Writer(directory, LIMITS)
        self.worker = CommitWorker(self.writer.recorder)
        self.number = 0

    def request(self, *items: Item) -> CommitRequest:
        self.number += 1
        return CommitRequest(self.number, list(items), 0.0)

    def batch(self, *ts: int) -> Item:
        return self.writer.batch(ts)


@pytest.fixture
def rounds(tmp_path: Path, time: Clock) -> Rounds:
    return Rounds(tmp_path)


def test_requests_are_answered_together(rounds: Rounds, tmp_path: Path) -> None:
    result = rounds.worker.round([rounds.request(rounds.batch(1)), rounds.request(rounds.batch(2, 3))])
    assert result is not None and (result.upto, result.error, result.events) == (2, None, [])
    assert rounds.worker.round([]) is None, "nothing is to be told"
    last = rounds.worker.round([], closing=True)
    assert last is not None and [type(event) for event in last.events[:1]] == [BlockClosed]
    assert list(opened(tmp_path).ticks["R"]) == [1, 2, 3]


def test_a_run_that_is_over(rounds: Rounds, tmp_path: Path) -> None:
    batch = rounds.batch(1)
    rounds.writer.run.ended = True
    rounds.worker.round([rounds.request(batch, rounds.writer.run)])
    assert opened(tmp_path).runs[0].ended


def test_what_fails_is_tried_again_after_a_while(
    rounds: Rounds, tmp_path: Path, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, tmp_path)
    rounds.worker.round([rounds.request(rounds.batch(1))])
    disk.break_(errno.ENOSPC)
    result = rounds.worker.round([rounds.request(rounds.batch(2))])
    assert result is not None and result.error is not None and result.error.errno == errno.ENOSPC
    assert result.vouched == ("R", 1), "what was vouched for before comes back"
    disk.mend()
    failed, calls = disk.failed, disk.calls
    again = rounds.worker.round([rounds.request(rounds.batch(3))])
    assert again is not None and again.error is result.error and (disk.failed, disk.calls) == (failed, calls)
    time.now += RETRY_SECONDS
    assert rounds.worker.round([]) is None, "it is tried when there is something to write"
    assert disk.calls == calls
    result = rounds.worker.round([rounds.request(rounds.batch(4))])
    assert result is not None and result.error is None
    rounds.worker.round([], closing=True)
    found = opened(tmp_path)
    assert set(found.ticks["R"]) >= {1, 4} and found.runs[0].entries[-1].ordinal == 3


def test_an_end_that_cannot_be_written_is_written_later(
    rounds: Rounds, tmp_path: Path, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, tmp_path)
    rounds.worker.round([rounds.request(rounds.batch(1))])
    disk.break_()
    rounds.writer.run.ended = True
    result = rounds.worker.round([rounds.request(rounds.writer.run)])
    assert result is not None and result.error is not None
    disk.mend()
    time.now += RETRY_SECONDS
    rounds.worker.round([])
    assert opened(tmp_path).runs[0].ended


def test_a_fault_of_our_own_is_told_as_one(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not end the thread."""

    def wrong(*_: object) -> None:
        raise ValueError("not thought of")

    monkeypatch.setattr(rounds.writer.recorder, "write", wrong)
    result = rounds.worker.round([rounds.request(rounds.batch(1))])
    assert result is not None and result.error is not None and "the log says how" in str(result.error)
    assert "history: the writer failed" in caplog.text and "not thought of" in caplog.text
    assert os.strerror(errno.EIO) not in caplog.text
