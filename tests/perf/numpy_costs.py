"""What agents cost in each of the forms that a record may have: ``python -m tests.perf.numpy_costs --agents 1000``.

Publishes a flock that drifts, tick after tick, into a gateway with history, and prints for each form the microseconds
that the simulation's thread takes to bring an array of positions into that form and to publish it, and the bytes of a
tick as JSON and in the history on disk. Ends by itself.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tick_gateway import Gateway

AGENT = np.dtype([("id", "i4"), ("x", "f8"), ("y", "f8")])


class Flock:
    """Positions that drift, so that a tick resembles the last one."""

    def __init__(self, agents: int) -> None:
        self._random = np.random.default_rng(1)
        self.ids = np.arange(agents)
        self.xy = self._random.uniform(0, 100, (agents, 2))
        self._heading = self._random.uniform(-0.1, 0.1, (agents, 2))

    def step(self) -> None:
        self._heading += self._random.normal(0, 0.01, self.xy.shape)
        self.xy = (self.xy + self._heading) % 100

    def dicts(self, xy: Any) -> Any:
        return [{"id": i, "x": x, "y": y} for i, (x, y) in enumerate(xy.tolist())]

    def structured(self, xy: Any) -> Any:
        agents = np.empty(len(xy), AGENT)
        agents["id"], agents["x"], agents["y"] = self.ids, xy[:, 0], xy[:, 1]
        return agents

    def columns(self, xy: Any) -> Any:
        return {"id": self.ids, "x": np.ascontiguousarray(xy[:, 0]), "y": np.ascontiguousarray(xy[:, 1])}

    def rows(self, xy: Any) -> Any:
        return np.ascontiguousarray(xy)


FORMS: dict[str, Callable[[Flock, Any], Any]] = {
    "a list of dicts": Flock.dicts,
    "a structured array": Flock.structured,
    "a dict of columns": Flock.columns,
    "an array of rows": Flock.rows,
}
NUMBERS: dict[str, Callable[[Any], Any]] = {
    "float64": lambda xy: xy,
    "float32": lambda xy: xy.astype(np.float32),
    "float64, rounded to 2 digits": lambda xy: xy.round(2),
}


def measure(form: Callable[[Flock, Any], Any], numbers: Callable[[Any], Any], agents: int, ticks: int) -> list[float]:
    flock, took, sizes = Flock(agents), list[float](), list[int]()
    with tempfile.TemporaryDirectory() as folder:
        with Gateway(port=0, host="127.0.0.1", data=folder, publish_timeout=60.0) as gateway:
            for t in range(ticks):
                flock.step()
                began = time.thread_time()
                gateway.publish({"t": t, "agents": form(flock, numbers(flock.xy))}, run="A")
                took.append(time.thread_time() - began)
        sizes = [path.stat().st_size for path in Path(folder, "A").glob("*.jsonl.zst")]
        batches = [tick for batch in gateway.runtime.bus.ring for tick in batch.ticks]
        json_bytes = sum(len(tick.data) for tick in batches) / len(batches)
    return [sorted(took)[len(took) // 2] * 1e6, json_bytes, sum(sizes) / ticks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--ticks", type=int, default=300)
    args = parser.parse_args()
    print(f"{args.agents} agents, {args.ticks} ticks: us a publish, bytes a tick as JSON, bytes a tick on disk")
    for numbers, made in NUMBERS.items():
        for form, of in FORMS.items():
            if form == "a structured array" and numbers == "float32":
                continue  # its dtype has float64
            us, plain, stored = measure(of, made, args.agents, args.ticks)
            print(f"{form:20} {numbers:30} {us:8.0f} {plain:8.0f} {stored:8.0f}", flush=True)


if __name__ == "__main__":
    main()
