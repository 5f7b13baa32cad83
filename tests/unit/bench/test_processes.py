"""Processes that bear the load: what they say comes back, and none outlives the one that steers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection as Pipe
from typing import Final

import pytest

from tick_gateway.bench import proc_stats as proc
from tick_gateway.bench.processes import Workers
from tick_gateway.bench.scenario import BenchError

linux = pytest.mark.skipif(not proc.available(), reason="this system has no /proc")


def echo(greeting: str, pipe: Pipe) -> None:
    pipe.send(greeting)
    while True:
        try:
            pipe.send(pipe.recv())
        except (EOFError, OSError):
            return


def die(pipe: Pipe) -> None:
    os._exit(3)


def receive(workers: Workers) -> list[tuple[Pipe, object]]:
    while not (heard := workers.receive(60)):
        continue
    return heard


def test_each_says_its_own() -> None:
    with Workers() as workers:
        one, other = workers.start(echo, "one"), workers.start(echo, "other")
        said: dict[Pipe, object] = {}
        while len(said) < 2:
            said |= dict(receive(workers))
        assert said == {one: "one", other: "other"}
        other.send(5)
        assert receive(workers) == [(other, 5)]


def test_one_that_dies_ends_it() -> None:
    with Workers() as workers:
        workers.start(die)
        with pytest.raises(BenchError, match="ended before its work was done"):
            receive(workers)


@linux
def test_they_are_gone_with_the_block() -> None:
    with Workers() as workers:
        pids = [workers.pid(workers.start(echo, "")) for _ in range(2)]
        assert all(pid is not None and proc.alive(pid) for pid in pids)
    assert not any(pid is not None and proc.alive(pid) for pid in pids)


# In a process of its own: in one with other threads, the system would give the signal to one of these.
INTERRUPTED: Final = """
import os, signal
from tick_gateway.bench.processes import signals_blocked
try:
    with signals_blocked():
        os.kill(os.getpid(), signal.SIGINT)
        if signal.SIGINT in signal.sigpending():
            print("blocked")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals as POSIX has them")
def test_signals_wait_while_a_process_is_started() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["blocked", "interrupted"], done.stderr
