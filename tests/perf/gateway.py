"""A gateway in a process of its own, for the measurements of this folder.

What a process used is read by ``tick_gateway.bench.proc_stats``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

_SECONDS = 30  # that it may take to end


class Serving(NamedTuple):
    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def gateway(*options: str, core: int | None = None, stdin: bool = False) -> Iterator[Serving]:
    """``tick-gateway serve`` on a port that the system picks, on one ``core`` if that is given."""
    command = [sys.executable, "-m", "tick_gateway", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.PIPE if stdin else None)
    try:
        if core is not None:
            os.sched_setaffinity(process.pid, [core])
        assert process.stderr is not None
        match = re.search(rb"http://\S+?:(\d+)/", process.stderr.readline())
        assert match is not None, "the gateway did not start"
        yield Serving(int(match[1]), process)
    finally:
        process.terminate()
        process.wait(_SECONDS)
