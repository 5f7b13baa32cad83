"""A history to measure with: ``python -m tests.perf.history_make DIR --ticks 1000000 --bytes 1000``.

Ticks are those of agents that move, of a thousand versions, with a number and a time of their own, received at 1,000
a second. They are written by the gateway's own recorder.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

from tick_gateway.bus.ring import Batch, Run
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.lock import DirectoryLock
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.model.tick import PublishedTick

BATCH = 500
VERSIONS = 997


def versions(size: int, count: int = VERSIONS) -> list[bytes]:
    """What follows a tick's number: agents that move a little from one version to the next."""
    rng = random.Random(7)
    flock: list[dict[str, float]] = []
    while len(json.dumps(flock, separators=(",", ":"))) < size - 70:
        flock.append({"id": len(flock), "x": round(rng.random() * 100, 3), "y": round(rng.random() * 100, 3)})
    made: list[bytes] = []
    for _ in range(count):
        for agent in flock:
            agent["x"] = round((agent["x"] + rng.uniform(-1, 1)) % 100, 3)
            agent["y"] = round((agent["y"] + rng.uniform(-1, 1)) % 100, 3)
        made.append(b',"agents":' + json.dumps(flock, separators=(",", ":")).encode() + b"}")
    return made


def make(directory: Path, ticks: int, size: int, *, run: str = "made", block_bytes: int = 512 << 10) -> int:
    """Write a history, and return the bytes of its ticks."""
    bodies = versions(size)
    at = int(time.time() * 1000) - ticks
    home, total = Run(run, 0, 0, at), 0
    with DirectoryLock(directory):
        recorder = Recorder(directory, Limits(block_bytes=block_bytes, fsync="never"))
        for first in range(0, ticks, BATCH):
            last = min(first + BATCH, ticks)
            heads = ((t, b'{"t":%d,"ts":%d' % (t, at + t)) for t in range(first, last))
            rows = [PublishedTick(t, head + bodies[t % VERSIONS], at + t) for t, head in heads]
            part = sum(len(row.data) for row in rows)
            total += part
            recorder.write([Batch(home, rows, part, False, first)])
            recorder.events.clear()
        recorder.close()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--ticks", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=1000)
    given = parser.parse_args()
    began = time.monotonic()
    total = make(given.directory, given.ticks, given.bytes)
    stored = sum(path.stat().st_size for path in given.directory.rglob("*.zst"))
    print(
        f"{given.ticks} ticks, {total / 1e6:.0f} MB, stored in {stored / 1e6:.0f} MB ({total / stored:.1f}x), "
        f"{time.monotonic() - began:.1f} s"
    )


if __name__ == "__main__":
    main()
