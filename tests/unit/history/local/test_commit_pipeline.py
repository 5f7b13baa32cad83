"""The commit pipeline on a loop: ticks are shown when they are stored, and told of when they are not."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.faulty_disk import Disk
from tests.support.recorded import LIMITS, data_of, opened
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.history.archive import Archive
from tick_gateway.history.local import commit_pipeline as module
from tick_gateway.history.local.commit_pipeline import CommitPipeline
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.settings import Settings

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture(autouse=True)
def patient_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a busy machine takes."""
    monkeypatch.setattr(module, "VERDICT_SECONDS", 30.0)


@asynccontextmanager
async def running(directory: Path, queue_bytes: int = 1 << 20) -> AsyncIterator[CommitPipeline]:
    """A pipeline on a bus that takes ticks; closed afterwards."""
    bus = TickBus(Settings())
    pipeline = CommitPipeline(bus, Archive(lambda job, done: None), Recorder(directory, LIMITS), queue_bytes)
    bus.open()
    pipeline.start(lambda: None)
    yield pipeline
    await pipeline.close(10)


def publish(pipeline: CommitPipeline, *ts: int) -> None:
    for t in ts:
        pipeline.bus.offer(t, data_of(t), "R")


async def test_what_is_settled_is_stored_and_shown(tmp_path: Path) -> None:
    async with running(tmp_path) as pipeline:
        publish(pipeline, 0, 1, 2)
        assert await pipeline.settled(0)
        run = pipeline.bus.runs["R"]
        assert run.shown == 2 and pipeline.archive.holds(run, 0, 2) and pipeline.idle
        assert (pipeline.state, pipeline.unstored) == ("ok", 0)
        mark = pipeline.mark()
        publish(pipeline, 3)
        assert await pipeline.settled(mark)
    assert list(opened(tmp_path).ticks["R"]) == [0, 1, 2, 3], "the last block is closed at the end"


async def test_what_the_disk_does_not_take_is_shown_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(monkeypatch, tmp_path)
    async with running(tmp_path) as pipeline:
        publish(pipeline, 0)
        assert await pipeline.settled(0)
        disk.break_(errno.ENOSPC)
        mark = pipeline.mark()
        publish(pipeline, 1, 2)
        assert not await pipeline.settled(mark)
        assert (pipeline.state, pipeline.unstored, pipeline.bus.runs["R"].shown) == ("failing", 2, 2)
        assert "No space left" in pipeline.reason and "live goes on without it" in caplog.text
        disk.mend()
    assert set(opened(tmp_path).ticks["R"]) >= {0}


async def test_a_pipeline_that_fails_from_the_start_is_tried_all_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as pipeline:
        pipeline.fail_from_the_start("the directory cannot be written to")
        publish(pipeline, 0)
        assert await pipeline.settled(0) and pipeline.state == "ok"
    assert list(opened(tmp_path).ticks["R"]) == [0]
