"""Mesa's models as sources: what each transport delivers is what the model produced, tick for tick."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tick_gateway import Gateway

from ..support import needs
from ..support.aiohttp_readers import READERS, read_ndjson
from ..support.gateway_process import PATIENCE, ROOT, GatewayProcess, Running

EXAMPLES = ROOT / "examples"
INSTALLED = {"PYTHONPATH": str(ROOT)}  # as if the package were, also where the suite runs from a bare checkout
STEPS = 40
MODELS = ("boids", "schelling", "wolf-sheep")


@pytest.fixture(scope="module")
def models() -> Iterator[Any]:
    """The module ``examples/mesa_models.py``."""
    needs.module("mesa")
    needs.module("networkx")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module("mesa_models")


def as_json(tick: dict[str, Any]) -> Any:
    """A tick as any reader has it, without the gateway's own encoder."""
    return json.loads(json.dumps(tick, default=lambda value: value.tolist()))


class ReaderRegistry:
    """One reader on each transport, in a thread of their own, from before the first tick on."""

    def __init__(self, url: str, count: int) -> None:
        self._url, self._count = url.rstrip("/"), count
        self._connected = threading.Event()
        self._got: dict[str, list[Any]] = {}
        self._thread = threading.Thread(target=lambda: asyncio.run(self._read()), daemon=True)

    async def _read(self) -> None:
        opened = 0

        async def count_one(*_: Any) -> None:
            nonlocal opened
            opened += 1
            if opened >= len(READERS):
                self._connected.set()

        watch = aiohttp.TraceConfig()
        watch.on_request_headers_sent.append(count_one)
        async with aiohttp.ClientSession(trace_configs=[watch]) as session:
            reading = [read(session, self._url, self._count) for read in READERS.values()]
            lists = await asyncio.wait_for(asyncio.gather(*reading), PATIENCE)
        self._got = dict(zip(READERS, lists, strict=True))

    def __enter__(self) -> ReaderRegistry:
        self._thread.start()
        assert self._connected.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE)

    def check(self, expected: list[Any]) -> None:
        """Every reader has every tick, equal in every member, in order, and nothing else."""
        assert self._got.keys() == READERS.keys()
        for name, got in self._got.items():
            assert [tick["t"] for tick in got] == [tick["t"] for tick in expected], name
            for tick, want in zip(got, expected, strict=True):
                assert tick == want, f"{name}, t = {want['t']}"


@contextmanager
def registry(url: str, expected: list[Any]) -> Iterator[None]:
    readers = ReaderRegistry(url, len(expected))
    with readers:
        yield
    readers.check(expected)


@pytest.mark.parametrize("name", MODELS)
def test_in_process(models: Any, name: str) -> None:
    produced = [as_json(tick) for tick in models.ticks(name, seed=3, steps=STEPS)]
    assert len(produced) > 5 and len({json.dumps(tick["agents"]) for tick in produced}) > 3  # it lives
    with Gateway.in_thread(port=0, host="127.0.0.1") as gateway:
        assert gateway.url is not None
        with registry(gateway.url, produced):
            for tick, want in zip(models.ticks(name, seed=3, steps=STEPS), produced, strict=True):
                assert as_json(tick) == want  # a model with a seed runs twice the same
                gateway.publish(tick)


@pytest.mark.parametrize("name", MODELS)
def test_through_a_pipe(models: Any, name: str) -> None:
    produced = [as_json(tick) for tick in models.ticks(name, seed=4, steps=STEPS)]
    source: list[str | Path] = [
        sys.executable,
        EXAMPLES / "mesa_pipe.py",
        name,
        "--seed",
        "4",
        "--steps",
        str(STEPS),
        "--rate",
        "500",
    ]
    with GatewayProcess("serve", "--stdin", stdin=True) as gateway, registry(gateway.url, produced):
        with Running(source) as model:
            told = 0
            while lines := model.stdout.more(told):  # the pipe between the two, with the test to look on
                gateway.feed(lines)
                told += len(lines)
            assert model.wait() == 0, model.report()
        assert [json.loads(line) for line in model.stdout.lines] == produced


def test_the_example_in_process_as_a_user_starts_it(models: Any) -> None:
    produced = [as_json(tick) for tick in models.ticks("boids", seed=5, steps=30)]
    command: list[str | Path] = [sys.executable, EXAMPLES / "mesa_in_process.py", "boids", "--seed", "5", "--port", "0"]
    with Running([*command, "--rate", "50"], env=INSTALLED) as example:
        found = example.stdout.find(r"boids on (http://\S+)/")
        assert found is not None, example.report()
        readers = ReaderRegistry(found[1], len(produced))
        with readers:
            pass
        readers.check(produced)


def test_the_twenty_lines() -> None:
    source = (EXAMPLES / "twenty_lines.py").read_text(encoding="utf-8")
    code = [line for line in source.splitlines() if line.strip() and not line.startswith('"""')]
    assert source.count("# stream") == 3 and len(code) <= 20 + 3
    assert source.count("port=8000") == 1
    with Running([sys.executable, "-c", source.replace("port=8000", "port=0")], env=INSTALLED) as example:
        found = example.stdout.find(r"open (http://\S+)/")
        assert found is not None, example.report()
        ticks = asyncio.run(_some(found[1]))
    assert [tick["t"] for tick in ticks] == list(range(5))
    assert all(len(tick["people"]) == 100 for tick in ticks)


async def _some(url: str) -> list[Any]:
    async with aiohttp.ClientSession() as session:
        return await asyncio.wait_for(read_ndjson(session, url, 5), PATIENCE)
