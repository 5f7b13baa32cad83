"""A run in history: sealed files, an open one, and in it an open block; and what is read of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import OpenHarness

from .harness import Harness

COUNT = 900
IMMUTABLE = "public, max-age=31536000, immutable"


def record(t: int) -> dict[str, Any]:
    return {"t": t, "x": t / 2, "name": f"n{t * 7919 % 1000}", "agents": [{"id": 1, "x": t}, {"id": 2, "x": -t}]}


@pytest.fixture
async def harness(open_harness: OpenHarness, tmp_path: Path) -> Harness:
    """Sealed files, an open one, and in it an open block."""
    harness = await open_harness(data=str(tmp_path), ring=50, block_bytes=8000, segment_bytes=2500, fsync="never")
    await fill(harness, range(COUNT))
    return harness


async def fill(harness: Harness, numbers: Iterable[int]) -> None:
    for t in numbers:
        harness.gateway.publish(record(t), run="A")
        if t % 50 == 0:
            await harness.settle()
    await harness.runtime.history.settled()
    await harness.settle()


def lines(body: bytes) -> list[int]:
    return [json.loads(line)["t"] for line in body.splitlines()]
