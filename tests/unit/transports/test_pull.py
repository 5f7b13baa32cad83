"""What the pulls share: an answer holds ticks and gaps of one run, and tells of one change of run."""

from __future__ import annotations

import re

import pytest

from tests.support.harness import OpenHarness

from ...support.harness import Harness, tick
from ...support.pulled import next_target, told_beside


async def test_a_pull_never_crosses_a_run(harness: Harness) -> None:
    await harness.publish_all(range(5), "A")
    await harness.publish_all(range(5), "B")
    response = await harness.get("/incremental?from_t=A:1")
    assert [one["t"] for one in await response.json()] == [2, 3, 4]
    assert (response.headers["Tick-Run"], response.headers["Tick-Next"]) == ("A", "B:-1")
    assert response.headers["Tick-Reset"] == "B"
    assert "Tick-Gap" not in response.headers
    response = await harness.get("/poll?last_t=A:1&limit=99")
    body = await response.json()
    assert ([one["t"] for one in body["ticks"]], body["reset"], body["position"]) == ([2, 3, 4], "B", "B:-1")
    assert (response.headers["Tick-Next"], response.headers["Tick-Reset"]) == ("B:-1", "B")
    response = await harness.get("/poll?last_t=A:3")
    body = await response.json()
    assert (body["t"], body["next_t"], body["reset"], body["position"]) == (4, 5, "B", "B:-1")


async def test_a_pull_from_the_end_of_an_older_run(harness: Harness) -> None:
    await harness.publish_all(range(5), "A")
    await harness.publish_all(range(5), "B")
    response = await harness.get("/incremental?from_t=A:4")
    assert [one["t"] for one in await response.json()] == [0, 1, 2, 3, 4]
    assert (response.headers["Tick-Run"], response.headers["Tick-Next"]) == ("B", "B:4")
    assert response.headers["Tick-Reset"] == "B"


async def test_a_pull_says_all_that_is_gone(open_harness: OpenHarness) -> None:
    harness = await open_harness(ring=5)
    await harness.publish_all(range(50), "A")
    response = await harness.get("/incremental?from_t=A:3&limit=2")
    assert [one["t"] for one in await response.json()] == [45, 46]
    assert (response.headers["Tick-Gap"], response.headers["Tick-Next"]) == ("after=3;next=45", "A:46")
    await harness.publish_all(range(10), "B")
    response = await harness.get("/poll?last_t=A:3&limit=2")
    assert await response.json() == {
        "status": "timeout",
        "next_t": 3,
        "position": "B:-1",
        "gap": [{"after": 3, "next": None}],
        "reset": "B",
    }
    assert told_beside(response) == ("A", "after=3;next=", "B", "B:-1")
    response = await harness.get("/poll?last_t=B:-1&limit=2")
    body = await response.json()
    assert (body["gap"], "reset" in body) == ([{"after": -1, "next": 5}], False)
    assert told_beside(response) == ("B", "after=-1;next=5", None, "B:6")
    assert [one["t"] for one in body["ticks"]] == [5, 6]


@pytest.mark.parametrize("path", ["/incremental?from_t=", "/poll?last_t=", "/poll?limit=9&last_t="])
async def test_an_answer_holds_ticks_and_gaps_of_one_run(open_harness: OpenHarness, path: str) -> None:
    """However many runs are gone: whose gap it is, and what comes before or behind a change of run, is never open."""
    harness = await open_harness(ring=2)
    for run, count in (("A", 6), ("B", 3), ("C", 1), ("D", 3)):
        await harness.publish_all(range(count), run)
    for position, told in (
        ("A:2", ("A", "after=2;next=", "B", "B:-1")),
        ("A:5", ("B", None, "B", "B:-1")),  # what is gone of B is told with the change to C
        ("B:-1", ("B", "after=-1;next=", "C", "C:-1")),
        ("B:2", ("C", None, "C", "C:-1")),
        ("C:-1", ("C", "after=-1;next=", "D", "D:-1")),
        ("gone:7", ("D", "after=-1;next=1", "D", "D:1" if path == "/poll?last_t=" else "D:2")),
        ("D:-1", ("D", "after=-1;next=1", None, "D:1" if path == "/poll?last_t=" else "D:2")),
    ):
        response = await harness.get(path + position)
        assert (position, told_beside(response)) == (position, told)
        numbers = re.findall(r'"t":(\d+)[, ]', (await response.read()).decode())
        assert bool(numbers) == (position[0] in "Dg"), "an answer that is cut short does not wait for a tick"


async def test_an_incremental_pull_of_a_run_that_is_over_stays_at_its_end(harness: Harness) -> None:
    await harness.publish_all(range(5), "A")
    await harness.publish_all(range(5), "B")
    response = await harness.get("/incremental?run=A&from_t=A:2")
    assert [one["t"] for one in await response.json()] == [3, 4]
    assert response.headers["Tick-Next"] == "A:4"
    assert await (await harness.get("/incremental?run=A&from_t=A:4")).json() == []


async def test_the_default_limit_of_incremental_is_a_thousand(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.publish_all(range(1500))
    response = await harness.get("/incremental")
    assert [one["t"] for one in await response.json()] == list(range(1000))
    assert response.headers["Tick-Next"] == "A:999"
    assert next_target(response, "/incremental") == "/incremental?from_t=A:999"
    assert len(await harness.json("/incremental?limit=1200")) == 1200
    assert len(await harness.json("/incremental?from_t=A:999")) == 500


async def test_the_formats_of_incremental(harness: Harness) -> None:
    await harness.publish_all(range(3))
    array = b"[" + b",".join(tick("A", t) for t in range(3)) + b"]"
    lines = b"".join(tick("A", t) + b"\n" for t in range(3))
    for query, accept, expected in (
        ("", "*/*", array),
        ("", "application/x-ndjson", lines),
        ("", "application/json", array),
        ("?format=ndjson", "application/json", lines),
        ("?format=json", "application/x-ndjson", array),
    ):
        response = await harness.get(f"/incremental{query}", Accept=accept)
        assert await response.read() == expected
        media_type = "application/json" if expected is array else "application/x-ndjson"
        assert response.headers["Content-Type"] == media_type
