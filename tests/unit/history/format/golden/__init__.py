"""A small history, byte for byte, as format 1 has it.

    open.jsonl.zst, journal     a closed block of three ticks, and an open one of one tick
    ended.jsonl.zst             the same when the run is over, with
    index, ended.index          its run's index, and its own

``python -m tests.unit.history.format.golden`` writes the files anew: only for a new format, with a new number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tick_gateway.bus.ring import Batch, Run
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.model.tick import PublishedTick

FOLDER: Final = Path(__file__).parent
ZSTD: Final = (1, 5, 7)
"""The release of zstd that made the frames in them: another one may make others of the same ticks."""

RUN: Final = "flock-1"
STARTED: Final = 1_700_000_000_000
TICKS: Final = {
    5: (b'{"t":5,"x":0.5}', STARTED),
    7: (b'{"t":7,"x":0.75}', STARTED + 20),
    9: (b'{"t":9,"x":1}', STARTED + 41),
    11: (b'{"t":11,"x":1.25}', STARTED + 60),
}
LIMITS: Final = Limits(block_ticks=3, block_age=1e12, segment_age=0, fsync="never")


def make(directory: Path) -> dict[str, bytes]:
    """Write that history with the recorder; returns the files."""
    recorder = Recorder(directory, LIMITS)
    run = Run(RUN, 2, 5, STARTED)
    count = 0
    for numbers in ((5, 7), (9,), (11,)):
        ticks = [PublishedTick(t, *TICKS[t]) for t in numbers]
        recorder.write([Batch(run, ticks, sum(len(tick.data) for tick in ticks), False, count)])
        count += len(ticks)
    run.count, run.tip, run.ended = count, 11, True
    segment, journal = directory / RUN / "0000000000000005.jsonl.zst", directory / RUN / "journal"
    made = {"open.jsonl.zst": segment.read_bytes(), "journal": journal.read_bytes()}
    recorder.end(run)
    recorder.close()
    index, own = directory / RUN / "index", directory / RUN / "0000000000000005.index"
    return made | {
        "ended.jsonl.zst": segment.read_bytes(), "index": index.read_bytes(), "ended.index": own.read_bytes(),
    }  # fmt: skip


def golden(name: str) -> bytes:
    return (FOLDER / name).read_bytes()
