"""Histories that were not published but written: ticks with receive times of the test's choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from tests.support.events import Ledger
from tests.support.house import tick
from tick_gateway.bus.ring import Batch, Run
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.model.tick import Tick

BEGAN = 1_700_000_000_000
"""When the first tick of a made history was received, ms since the epoch: 2023-11-14T22:13:20Z."""


def tick_of(run: str, t: int) -> bytes:
    """A tick of which no re-encoding would leave the bytes as they are, and compression leaves something."""
    return tick(run, t)[:-1] + f',"pad":"{sha256(b"%d" % t).hexdigest()}"}}'.encode()


def write(
    directory: Path,
    runs: Mapping[str, Iterable[int]],
    *,
    step_ms: int = 10,
    together: int = 5,
    block_bytes: int = 1024,
    segment_bytes: int = 4096,
) -> Ledger:
    """Write runs of these numbers, one after another; the last one is not over.

    Args:
        step_ms: what lies between two receive times.
        together: ticks that are written at once.
    """
    ledger = Ledger()
    recorder = Recorder(directory, Limits(block_bytes=block_bytes, segment_bytes=segment_bytes, fsync="never"))
    at = BEGAN
    for seq, (name, numbers) in enumerate(runs.items()):
        ts = list(numbers)
        run = Run(name, seq, ts[0], at)
        for begin in range(0, len(ts), together):
            some = [Tick(t, tick_of(name, t), at + step_ms * i) for i, t in enumerate(ts[begin : begin + together])]
            at += step_ms * len(some)
            recorder.write([Batch(run, some, sum(len(one.data) for one in some), False, begin)])
            for one in some:
                ledger.note(name, one.t, one.data)
        if name != list(runs)[-1]:
            run.tip = ts[-1]
            recorder.end(run)
    recorder.close()
    return ledger
