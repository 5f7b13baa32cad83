"""Files that are small and become large do not fill the memory of who reads them; ``tests/perf/file_memory.py`` has the
full sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.perf import file_memory

SHARE = 0.3

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by /proc, on Linux")


@pytest.mark.parametrize("way", ["import", "tail", "tail with data, later"])
@pytest.mark.parametrize("what", ["ticks of 1 MB", "one line"])
async def test_memory_is_bounded(what: str, way: str) -> None:
    most = await file_memory.measure(file_memory.cases(SHARE)[what], way)
    assert 0 < most < file_memory.MOST_MB * 1_000_000
