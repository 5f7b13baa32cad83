"""The runtime is the one place that wires: what it holds is given to it, and nobody else assigns to it."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import tick_gateway
from tick_gateway.errors import OwnSource
from tick_gateway.history.engine import Progress
from tick_gateway.history.memory import MemoryAlone
from tick_gateway.runtime import Runtime
from tick_gateway.settings import Settings
from tick_gateway.sources.base import SourceTask

ROOT = Path(tick_gateway.__file__).parent


def targets(tree: ast.AST) -> Iterator[ast.expr]:
    """Everything that is assigned to, or deleted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.Delete):
            yield from node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr | ast.For | ast.AsyncFor):
            yield node.target
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            yield node.optional_vars


def attributes(target: ast.expr) -> Iterator[ast.Attribute]:
    """The attributes among the parts of a target."""
    for node in ast.walk(target):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node


def of_a_runtime(attribute: ast.Attribute) -> bool:
    """Whether it is an attribute of something named runtime, or of what that holds."""
    owner = ast.unparse(attribute.value).split(".")
    return any(name.strip("_") == "runtime" for name in owner)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_assigned_on_a_runtime_from_outside(path: Path) -> None:
    if path == ROOT / "runtime.py":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [ast.unparse(one) for target in targets(tree) for one in attributes(target) if of_a_runtime(one)]
    assert not found, f"{path.name} assigns {found}"


def test_such_assignments_are_seen() -> None:
    source = "runtime.x = 1\nself._runtime.bus.sink, y = 1, 2\ngateway.runtime.n += 1\ndel runtime.z\nruntime = 3"
    found = [ast.unparse(one) for t in targets(ast.parse(source)) for one in attributes(t) if of_a_runtime(one)]
    assert found == ["runtime.x", "self._runtime.bus.sink", "gateway.runtime.n", "runtime.z"]


class Recorded(SourceTask):
    """Notes when it is called."""

    alone = "is busy"

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def prepare(self, progress: Progress | None) -> None:
        self.calls.append("prepare")

    def attach(self, runtime: Runtime) -> None:
        assert not runtime.fanout.flushes and isinstance(runtime.history, MemoryAlone)
        self.calls.append("attach")

    async def publish(self, runtime: Runtime) -> None:
        self.calls.append("publish")
        runtime.bus.publish({"t": 1})


def test_a_source_is_prepared_before_history_and_attached_behind_it() -> None:
    source = Recorded()
    runtime = Runtime(Settings(), source=source)
    assert source.calls == ["prepare", "attach"]
    refusal = source.refusal()
    assert isinstance(refusal, OwnSource) and str(refusal) == "this gateway is busy"

    async def life() -> None:
        runtime.start()
        await source.run(runtime)
        assert source.over and source.refusal() is None
        await runtime.drain()
        assert runtime.draining and runtime.bus.tip is not None
        await runtime.drain()  # once, however often it is called
        runtime.close()
        assert runtime.closed

    asyncio.run(life())
