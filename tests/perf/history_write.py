"""What keeping history costs: ``python -m tests.perf.history_write``.

A gateway without history and one with it take turns under the same publisher, one endless POST of ``--rate`` ticks a
second, with ``--clients`` WebSocket readers. Prints each one's share of a core, read from the operating system, and the
difference. Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.perf.delivery import publish
from tests.perf.gateway import gateway
from tests.perf.history_make import versions

KINDS = ("without", "with")
BODIES: dict[int, list[bytes]] = {}


def share(data: str, clients: int, rate: float, size: int, seconds: float) -> float:
    """The share of a core that a gateway takes."""
    with gateway(*(["--data", data] if data else []), core=0) as (port, process):
        readers = [sys.executable, "-m", "tests.perf.delivery", "--role-readers", str(port), "--kind", "ws"]
        readers += ["--clients", str(clients), "--seconds", str(seconds + 1)]
        child = subprocess.Popen(["taskset", "-c", "1", *readers], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        cpu, took, _ = publish(port, rate, size, seconds, process.pid, BODIES[size])
        child.communicate(timeout=60)
        return cpu / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.sched_setaffinity(0, {1})
    BODIES[given.bytes] = versions(given.bytes)
    rows: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(given.rounds):
        for kind in KINDS if number % 2 == 0 else KINDS[::-1]:
            with tempfile.TemporaryDirectory() as tmp:
                data = str(Path(tmp) / "data") if kind == "with" else ""
                rows[kind].append(share(data, given.clients, given.rate, given.bytes, given.seconds))
    for kind, values in rows.items():
        print(f"{kind} history: {statistics.median(values):.1%} of a core ({', '.join(f'{v:.1%}' for v in values)})")
    more = statistics.median(b - a for a, b in zip(rows["without"], rows["with"], strict=True))
    print(f"history adds {more:.1%} of a core at {given.rate:.0f} ticks/s of {given.bytes} bytes")


if __name__ == "__main__":
    main()
