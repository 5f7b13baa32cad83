"""Every reading route against a model in plain Python; ``tests/perf/reads.py`` does the same at length."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.simulation.reads_cases import some
from tests.simulation.reads_worlds import PLACES, place


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", PLACES)
async def test_whatever_is_asked_wherever_it_lies(name: str, seed: int, tmp_path: Path) -> None:
    async with place(name, seed, tmp_path) as found:
        differences = await some(found, Random(seed), 100)
    assert not differences, "\n".join(map(str, differences[:5]))
