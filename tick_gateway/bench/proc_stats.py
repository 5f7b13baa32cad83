"""Processes as Linux shows them in /proc: the CPU time and memory of one, with all that it started."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


def available() -> bool:
    """Whether there is a /proc to read."""
    return (_PROC / "self" / "stat").exists()


def alive(pid: int) -> bool:
    """Whether there is such a process, and /proc shows it."""
    return (_PROC / str(pid) / "stat").exists()


def _fields(pid: int) -> list[str]:
    """A process's figures from the third on (its name, before them, may hold anything); empty: it is gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text("latin-1").rpartition(")")[2].split()
    except OSError:
        return []


def tree(pid: int) -> list[int]:
    """A process and all that it started, and so on."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and (fields := _fields(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process tree, user and system, with that of children that have ended."""
    return sum(map(_cpu_seconds, tree(pid)))


def _cpu_seconds(pid: int) -> float:
    """One process's: to the nanosecond as its threads have it, or in hundredths of a second with those that ended."""
    hertz, fields = float(os.sysconf("SC_CLK_TCK")), _fields(pid)
    if not fields:
        return 0.0
    own, ended = sum(map(int, fields[11:13])) / hertz, sum(map(int, fields[13:15])) / hertz
    threads = 0
    with contextlib.suppress(OSError, ValueError):  # not every kernel counts so, and threads come and go
        for task in (_PROC / str(pid) / "task").iterdir():
            threads += int((task / "schedstat").read_bytes().split()[0])
    return max(own, threads / 1e9) + ended


class Others:
    """What all other programs use of this machine's processors, from here on.

    Args:
        own: processes that are not others, with all that they started.
    """

    def __init__(self, own: Iterable[int]) -> None:
        self._own = tuple(own)
        self._began = time.monotonic()
        self._before = self._used()

    def share(self) -> float:
        """Share of all processors, 0 to 1."""
        cores = (os.cpu_count() or 1) * max(time.monotonic() - self._began, 1e-6)
        return min(max(self._used() - self._before, 0.0) / cores, 1.0)

    def _used(self) -> float:
        """CPU seconds of everybody since the machine started, less our own."""
        with open(_PROC / "stat", encoding="ascii") as file:
            user, nice, system, _, _, irq, softirq, steal, *_ = map(int, file.readline().split()[1:])
        busy = (user + nice + system + irq + softirq + steal) / float(os.sysconf("SC_CLK_TCK"))
        return busy - sum(map(cpu_seconds, self._own))


def resident(pid: int) -> int:
    """Resident memory of a process tree, bytes."""
    return sum(map(_resident, tree(pid)))


def _resident(pid: int) -> int:
    """One process's, exactly where the system says it: the other figure is kept for each core apart, and lags."""
    for name, pattern in (("smaps_rollup", rb"Rss:\s+(\d+) kB"), ("status", rb"VmRSS:\s+(\d+) kB")):
        with contextlib.suppress(OSError):
            if match := re.search(pattern, (_PROC / str(pid) / name).read_bytes()):
                return int(match[1]) * 1024
    return 0
