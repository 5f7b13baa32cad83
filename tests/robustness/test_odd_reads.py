"""Whatever is asked for, and however: no answer is a 500, and each is as long as it says."""

from __future__ import annotations

import logging
from pathlib import Path
from random import Random

import pytest

from tests.perf.odd_reads import SETTINGS, Attack
from tests.support.harness import OpenHarness


@pytest.mark.parametrize("seed", [1, 2])
async def test_odd_reads_of_a_history_that_grows_and_is_retained_away(
    open_harness: OpenHarness, tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("pyarrow")
    harness = await open_harness(data=str(tmp_path), **SETTINGS)
    attack = Attack(harness, Random(seed))
    await attack.run(250)
    assert {"/range 200", "/range 400", "/segments/A 200"} <= set(attack.answers)
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]
