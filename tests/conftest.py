"""The environment of the tests, and fixtures that several subjects share."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.faulty_disk import Disk
from tests.support.harness import Clock, Harness, OpenHarness
from tick_gateway.cli.main import main
from tick_gateway.history.local import commit_pipeline as pipeline

for name in [name for name in os.environ if name.startswith("TICK_GATEWAY_")]:
    del os.environ[name]  # gateways in Python heed them, and a developer's own must not count in tests

# The tests start some hundred interpreters: where none may write bytecode, each compiles the whole package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_collection_finish() -> None:
    """Leaves to itself what lives as long as the session: else each test that collects garbage would go through it."""
    gc.collect()
    gc.freeze()


class Ended(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs ``tick-gateway`` with some arguments in this process, which saves starting one: `command("cat", url)`.

    Its input and outputs have descriptors, as in a shell, and warnings that are logged go to standard error, too. What
    has to do with pipes and signals needs a process.
    """

    @contextmanager
    def warnings_are_told() -> Iterator[None]:
        assert logging.lastResort is not None
        logging.root.addHandler(logging.lastResort)
        try:
            yield
        finally:
            logging.root.removeHandler(logging.lastResort)

    def run(*arguments: str | Path, stdin: str = "") -> Ended:
        (tmp_path / "stdin").write_text(stdin, encoding="utf-8")
        capfd.readouterr()
        with (tmp_path / "stdin").open() as file, monkeypatch.context() as patch, warnings_are_told():
            patch.setattr(sys, "stdin", file)
            with pytest.raises(SystemExit) as ended:
                main([*map(str, arguments)], prog_name="tick-gateway")
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capfd.readouterr())

    return run


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other things is no slow disk."""
    monkeypatch.setattr(pipeline, "LAG_SECONDS", 30.0)


@pytest.fixture
def no_traceback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged with one."""
    caplog.set_level(logging.INFO)
    yield
    assert not [record.getMessage() for record in caplog.records if record.exc_info]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Disk:
    """The disk under ``tmp_path``, in the test's hand."""
    return Disk(monkeypatch, tmp_path)


@pytest.fixture
async def open_harness(patient: None) -> AsyncIterator[OpenHarness]:
    """Open gateways: ``await open_harness(ring=20)``; they are shut down after the test."""
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> Harness:
            return await stack.enter_async_context(Harness(**settings))

        yield opened


@pytest.fixture(params=["memory", "disk"])
async def harness(request: pytest.FixtureRequest, open_harness: OpenHarness, tmp_path: Path) -> Harness:
    """A gateway with default settings, and one with history whose memory holds next to nothing: no reader may see a
    difference."""
    if request.param == "memory":
        return await open_harness()
    return await open_harness(data=str(tmp_path / "history"), ring=2, block_bytes=1024, segment_bytes=4096)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """A clock in the test's hand, for receive times."""
    clock = Clock()
    monkeypatch.setattr("tick_gateway.bus.tick_bus.time", clock.tell())
    yield clock
