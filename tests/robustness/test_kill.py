"""What was acknowledged, or seen by any client, outlives ``kill -9`` of the gateway; and nothing is lost around it.

The scene is that of ``python -m tests.perf.history_kill``, which plays it as often as one likes. Here it is short.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from tests.perf.history_kill import SMALL, play
from tests.support import needs
from tests.support.reconnecting import CLIENTS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends SIGSTOP and SIGKILL")

KILLS = 4


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(SMALL, id="small"),  # kills hit the ends of blocks and segments
        pytest.param((*SMALL[:2], "--block-bytes", "64k", "--fsync", "block"), id="one-segment"),
    ],
)
def test_kill_9_under_500_ticks_a_second(tmp_path: Path, options: tuple[str, ...]) -> None:
    needs.program("zstd")
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    figures = play(tmp_path / "history", KILLS, 500.0, seed, patient=True, options=options, life=0.6)
    print(figures)
    assert figures.kills >= KILLS and figures.ticks > 500, figures
    assert set(figures.visits) == set(CLIENTS) and min(figures.visits.values()) > KILLS, figures
