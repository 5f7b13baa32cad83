"""What every pull does: where its answers end, and what the next request is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.faulty_disk import Disk
from tests.support.harness import OpenHarness
from tick_gateway.history.local import commit_pipeline as pipeline

from ..support.events import Gap, Tick, ticks
from ..support.harness import Harness


async def test_a_pull_tells_of_one_change_of_run(harness: Harness, pull: str) -> None:
    """From an old run's end, where the run after it is over too: it is named before the next one is."""
    for run in ("A", "B", "C"):
        await harness.publish_all(range(2), run)
    reader = harness.reader(pull, from_t="A:1")
    harness.ledger.check(await (await reader.connect()).until(1, "C"), after=("A", 1))


async def test_runs_that_pass_while_the_disk_stands_still(
    open_harness: OpenHarness, pull: str, tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers get them from memory, which holds few, and later from history."""
    monkeypatch.setattr(pipeline, "LAG_SECONDS", 0.01)
    harness = await open_harness(data=str(tmp_path), ring=2, block_bytes=1024)
    await harness.publish_all(range(3), "A")
    reader = await harness.read(pull, from_t="A:1")
    events = await reader.until(2)
    disk.gate.clear()
    for run, count in (("A", 6), ("B", 3), ("C", 1), ("D", 3)):
        harness.publish(range(3 if run == "A" else 0, count), run)
    try:
        events += await reader.until(2, "D")
    finally:
        disk.mend()
    harness.ledger.check(events, after=("A", 1))
    assert sum(isinstance(event, Gap) for event in events) == 4
    await harness.settle()
    events = await (await harness.read(pull, from_t="A:1")).until(2, "D")
    harness.ledger.check(events, after=("A", 1))
    assert not any(isinstance(event, Gap) for event in events)


async def test_a_pull_ends_at_8_mib(open_harness: OpenHarness, pull: str) -> None:
    harness = await open_harness()
    await harness.publish_all(range(24), size=500_000)
    reader = await harness.read(pull, from_t="A:-1", limit=1000)
    events = [await reader.next()]
    assert reader.response is not None
    size = int(reader.response.headers["Content-Length"])
    assert size <= (8 << 20) + 500_200, "at the first tick beyond 8 MiB at the latest"
    events += await reader.until(23)
    harness.ledger.check(events, after=("A", -1))


async def test_the_link_keeps_the_other_parameters(harness: Harness, pull: str) -> None:
    await harness.publish_all(range(30))
    reader = await harness.read(pull, tail=20, every=3, fields="x,s", stamp=1)
    events = await reader.until(27)
    assert ticks(events) == list(range(0, 30, 3))
    assert all(json.loads(event.data)["data"].keys() == {"t", "x", "s"} for event in events if isinstance(event, Tick))


async def test_runs_that_are_gone_one_after_another(open_harness: OpenHarness, flavour: str) -> None:
    harness = await open_harness(ring=2)
    await harness.publish_all(range(3), "A")
    reader = await harness.read(flavour, from_t="A:1")
    events = await reader.until(2)
    for run, count in (("A", 6), ("B", 3), ("C", 1), ("D", 3)):
        harness.publish(range(3 if run == "A" else 0, count), run)
    events += await reader.until(2, "D")
    harness.ledger.check(events, after=("A", 1))
