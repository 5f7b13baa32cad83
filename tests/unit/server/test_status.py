"""What the gateway says of itself: /runs, /meta, /healthz, /readyz, /metrics."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.support.harness import Clock, Harness, OpenHarness
from tick_gateway.bus.ring import Batch, Run
from tick_gateway.model.tick import PublishedTick
from tick_gateway.server import status
from tick_gateway.transports import TRANSPORTS


async def test_runs(open_harness: OpenHarness, clock: Clock) -> None:
    harness = await open_harness(ring=15)
    assert await harness.json("/runs") == {"runs": []}
    await harness.publish_all(range(10), "A")
    await harness.publish_all(range(5, 15), "B")
    await harness.publish_all(range(3), "C")
    runs = {run["run"]: run for run in (await harness.json("/runs"))["runs"]}
    assert list(runs) == ["A", "B", "C"], "in the order in which they began"
    told = {name: (run["first"], run["last"], run["count"], run["ended"]) for name, run in runs.items()}
    assert told == {"A": (8, 9, 10, True), "B": (5, 14, 10, True), "C": (0, 2, 3, False)}
    await harness.publish_all(range(3, 20), "C")
    assert [run["run"] for run in (await harness.json("/runs"))["runs"]] == ["C"], "those that can be read"
    await harness.end_run("C")
    assert (await harness.json("/runs"))["runs"][0]["ended"] is True


async def test_meta(open_harness: OpenHarness) -> None:
    harness = await open_harness(ring=20)
    empty = await harness.json("/meta")
    assert (empty["run"], empty["first"], empty["tip"], empty["stored"], empty["rate"]) == (None, None, None, None, 0)
    await harness.publish_all(range(50))
    meta = await harness.json("/meta")
    assert (meta["run"], meta["first"], meta["tip"]) == ("A", 30, 49)
    assert meta["rate"] > 0
    assert meta["transports"] == {transport.name: transport.path for transport in TRANSPORTS}


@pytest.mark.parametrize(
    ("before", "started", "expected"),
    [
        ([], 100.0, 0.0),
        ([1.0] * 10, 100.0, 1.0),
        ([1.0] * 10, 2.0, 5.0),
        ([11.0, 12.0, 13.0], 100.0, 0.0),
        ([20.0, 15.0, 9.0, 5.0, 1.0], 100.0, 0.3),
        ([9.0, 5.0], 2.0, 0.222),
    ],
)
async def test_the_rate_is_taken_over_ten_seconds(
    open_harness: OpenHarness, monkeypatch: pytest.MonkeyPatch, before: list[float], started: float, expected: float
) -> None:
    """As far back as the gateway runs, or as memory has ticks of before that, from history. All are seconds ago."""
    harness, now = await open_harness(), 1_800_000_000.0
    monkeypatch.setattr(status, "time", SimpleNamespace(time=lambda: now))
    harness.runtime.started = now - started
    ticks = [PublishedTick(t, b"{}", int((now - ago) * 1000)) for t, ago in enumerate(sorted(before, reverse=True))]
    run = Run("A", 0, 0, 0)
    for two in range(0, len(ticks), 2):
        harness.runtime.bus.ring.append(Batch(run, ticks[two : two + 2], 4, False, two))
    assert status.rate(harness.runtime) == pytest.approx(expected, abs=0.001)


async def test_it_is_healthy_while_it_streams(harness: Harness) -> None:
    body = await harness.json("/healthz")
    assert body["status"] == "ok" and body["dropped"] == 0
    assert set(body) >= {"status", "history", "dropped"}


async def test_it_is_ready_until_it_drains(harness: Harness) -> None:
    assert await harness.json("/readyz") == {"ready": True}
    harness.runtime.draining = True
    assert await harness.json("/readyz", 503) == {"ready": False, "reason": "shutting down"}
    harness.runtime.draining = False


@pytest.mark.parametrize("path", ["/meta", "/runs", "/healthz", "/readyz", "/metrics", "/openapi.json"])
async def test_none_of_it_is_stored_on_the_way(harness: Harness, path: str) -> None:
    response = await harness.get(path)
    assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")


@pytest.mark.parametrize("path", ["/meta", "/runs"])
async def test_a_parameter_that_there_is_not(harness: Harness, path: str) -> None:
    assert (await harness.json(f"{path}?nonsense=1", 400))["error"] == "unknown_parameter"
