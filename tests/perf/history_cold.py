"""A tick by its number out of a long history, cold: ``python -m tests.perf.history_cold DIR``, with a history of
``history_make``.

Starts a gateway on it and says how long that took; then asks for ticks far apart from each other, one after another,
each time with the directory's files dropped from the system's memory, so that the disk is asked. Loopback only; ends by
itself.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import time
from pathlib import Path

from tests.perf.gateway import gateway
from tests.perf.history_read import RUN


def forget(directory: Path) -> None:
    """Drop the directory's files from the system's memory."""
    for path in directory.rglob("*.zst"):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--ticks", type=int, default=40, help="how many are asked for")
    given = parser.parse_args()
    forget(given.directory)
    began = time.monotonic()
    with gateway("--data", str(given.directory), core=0) as (port, _):
        print(f"started in {time.monotonic() - began:.2f} s, the interpreter's own time included")
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/meta")
        tip = int(json.loads(connection.getresponse().read())["tip"])
        rng, took = random.Random(3), list[float]()
        for _ in range(given.ticks):
            t = rng.randrange(tip)
            forget(given.directory)
            began = time.monotonic()
            connection.request("GET", f"/ticks/{t}?run={RUN}")
            data = connection.getresponse().read()
            took.append((time.monotonic() - began) * 1000)
            assert data.startswith(b'{"t":%d,' % t), data[:80]
    took.sort()
    print(
        f"a tick out of {tip + 1}: median {statistics.median(took):.1f} ms, "
        f"nine of ten {took[int(len(took) * 0.9)]:.1f} ms, longest {took[-1]:.1f} ms"
    )


if __name__ == "__main__":
    main()
