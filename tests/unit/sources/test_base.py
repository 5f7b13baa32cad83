"""What sources have in common: who else may publish meanwhile, the run that a request names, and how one is begun."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from tick_gateway.errors import OwnSource, ParameterError, UnknownParameter
from tick_gateway.runtime import Runtime
from tick_gateway.settings import Settings
from tick_gateway.sources.base import Source, SourceTask, run_of


class Busy(SourceTask):
    """Publishes nothing, and ends as it is told."""

    alone = "is busy: wait for it"

    def __init__(self, settings: Settings | None = None, *, error: Exception | None = None, count: int = 0) -> None:
        super().__init__()
        self.error, self.count = error, count

    async def publish(self, runtime: Runtime) -> None:
        if self.error is not None:
            raise self.error
        await asyncio.sleep(0)


def test_others_may_publish_once_a_task_is_over() -> None:
    task = Busy()
    refusal = task.refusal()
    assert isinstance(refusal, OwnSource) and str(refusal) == "this gateway is busy: wait for it"
    asyncio.run(task.run(Runtime(Settings())))
    assert task.over and task.refusal() is None


def test_a_task_that_gave_up_or_was_cancelled_is_over_too() -> None:
    task = Busy(error=OSError("its input broke"))
    with pytest.raises(OSError, match="its input broke"):
        asyncio.run(task.run(Runtime(Settings())))
    assert task.refusal() is None

    async def cancelled() -> None:
        running = asyncio.create_task(other.run(Runtime(Settings())))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    other = Busy()
    asyncio.run(cancelled())
    assert other.refusal() is None


def test_a_task_promises_nothing_that_it_does_not_say() -> None:
    task = Busy()
    task.prepare(None)
    assert (task.followed, task.unread, task.skipped, task.over) == (None, None, 0, False)


def test_a_source_begins_with_its_own_options_alone() -> None:
    source = Source("busy", command="serve", options=(click.Option(["--count"], type=int),), make=Busy)
    values: dict[str, object] = {"count": 3, "another": "of the command's"}
    task = source.begin(Settings(), values)
    assert isinstance(task, Busy) and task.count == 3 and source.flag == "--count"


@pytest.mark.parametrize(
    "query, headers, run",
    [
        ("", [], None),
        ("?run=A", [], "A"),
        ("", ["A"], "A"),
        ("?run=A", ["A"], "A"),
        ("?run=A&run=A", ["A", "A"], "A"),
        ("?run=a%2Db.c_1", [], "a-b.c_1"),
    ],
)
def test_the_run_that_a_publisher_names(query: str, headers: list[str], run: str | None) -> None:
    assert run_of(_request(query, headers)) == run


@pytest.mark.parametrize(
    "query, headers, kind, says",
    [
        ("?run=A", ["B"], ParameterError, "two names"),
        ("?run=A&run=B", [], ParameterError, "two names"),
        ("", ["A", "B"], ParameterError, "two names"),
        ("?run=", [], ParameterError, "run"),
        ("?run=.hidden", [], ParameterError, "run"),
        ("?run=a/b", [], ParameterError, "run"),
        ("", ["a b"], ParameterError, "run"),
        (f"?run={'x' * 65}", [], ParameterError, "run"),
        ("?runs=A", [], UnknownParameter, "accepted: run"),
        ("?run=A&since=3", [], UnknownParameter, "since"),
        (f"?{'x' * 1000}=1", [], UnknownParameter, f"{'x' * 80}:"),
    ],
)
def test_what_names_no_run(query: str, headers: list[str], kind: type[ParameterError], says: str) -> None:
    with pytest.raises(kind) as caught:
        run_of(_request(query, headers))
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400, "what a client sends is not sent back at length"


def _request(query: str, headers: list[str]) -> Any:
    return make_mocked_request("POST", f"/publish{query}", headers=CIMultiDict(("Tick-Run", one) for one in headers))
