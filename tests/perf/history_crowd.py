"""What reading the past does to the present: ``python -m tests.perf.history_crowd DIR``, with a history of
``history_make``.

A gateway on a copy of that history, 100 WebSocket readers at the tip and a publisher at ``--rate`` ticks a second; and
beside them in turn nobody, one reader after another that catches up from the first tick over NDJSON with zstd, and
``--clients`` that catch up from as many different positions over NDJSON. Each of those is counted: every line, once.
Prints the p99 of the live readers and the gateway's memory for each. Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

from tests.perf.gateway import gateway
from tests.perf.history_read import RUN, dechunked, fetch
from tick_gateway.bench.proc_stats import resident

PATIENCE = 300.0


class Publisher(threading.Thread):
    """Goes on with the history's run at a steady rate, until it is told to stop."""

    def __init__(self, port: int, first: int, rate: float) -> None:
        super().__init__(daemon=True)
        self.port, self.t, self.rate = port, first, rate
        self.stop = threading.Event()

    def run(self) -> None:
        pad, start, first = b"x" * 940, time.monotonic(), self.t
        with socket.create_connection(("127.0.0.1", self.port)) as sock:
            sock.sendall(
                f"POST /publish?run={RUN} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
                "Transfer-Encoding: chunked\r\n\r\n".encode()
            )
            while not self.stop.wait(0.001):  # the pace of a simulation
                while self.t < first + (time.monotonic() - start) * self.rate:
                    line = b'{"t":%d,"ts":%d,"pad":"%s"}\n' % (self.t, time.time_ns(), pad)
                    sock.sendall(b"%x\r\n%s\r\n" % (len(line), line))
                    self.t += 1
            sock.sendall(b"0\r\n\r\n")
            sock.recv(4096)


def live(port: int, seconds: float, meanwhile: Callable[[], None]) -> dict[str, float]:
    """What 100 readers at the tip see while something else goes on."""
    command = [sys.executable, "-m", "tests.perf.delivery", "--role-readers", str(port), "--kind", "ws"]
    command += ["--clients", "100", "--seconds", str(seconds)]
    child = subprocess.Popen(["taskset", "-c", "1", *command], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    meanwhile()
    figures: dict[str, float] = json.loads(child.communicate(timeout=PATIENCE)[0])
    return figures


class CatchingUp:
    """One that catches up; it counts lines until the one that it has to come to."""

    def __init__(self, wanted: int, mark: bytes) -> None:
        self.wanted, self.lines, self.done = wanted, 0, False
        self._mark, self._tail, self._begun = mark, b"", False

    def feed(self, data: bytes) -> None:
        if not self._begun:
            _, found, data = (self._tail + data).partition(b"\r\n\r\n")
            self._begun, self._tail = bool(found), b"" if found else self._tail + data
            if not found:
                return
        text = self._tail + data
        at = text.find(self._mark)
        if at >= 0:
            self.done = True
            self.lines += text.count(b"\n", len(self._tail), at) + 1
        else:
            self.lines += data.count(b"\n")
            self._tail = text[-len(self._mark) :]


class ReaderRegistry:
    """Many that catch up from different positions, each until it has the tick that was the tip when they began."""

    def __init__(self, port: int, starts: list[int], goal: int) -> None:
        self.port, self.goal = port, goal
        self.arrived = self.wrong = 0
        self.peak = 0.0
        self._starts = starts

    def run(self, pid: int) -> None:
        selector = selectors.DefaultSelector()
        left = 0
        for start in self._starts:
            sock = socket.create_connection(("127.0.0.1", self.port))
            sock.sendall(f"GET /ndjson?from_t={RUN}:{start} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            sock.setblocking(False)
            reader = CatchingUp(self.goal - start, b'{"t":%d,' % self.goal)
            selector.register(sock, selectors.EVENT_READ, (sock, reader))
            left += 1
        end = time.monotonic() + PATIENCE
        while left and time.monotonic() < end:
            for key, _ in selector.select(0.1):
                sock, reader = key.data
                data = sock.recv(1 << 18)
                reader.feed(data)
                if reader.done or not data:
                    self.arrived += reader.done
                    self.wrong += reader.lines != reader.wanted
                    selector.unregister(sock)
                    sock.close()
                    left -= 1
            self.peak = max(self.peak, resident(pid) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--span", type=int, default=30_000, help="how far back their positions reach")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.sched_setaffinity(0, {1})
    with tempfile.TemporaryDirectory() as tmp:
        shutil.copytree(given.directory, Path(tmp) / "data")
        with gateway("--data", str(Path(tmp) / "data"), core=0) as (port, process):
            pid = process.pid
            with urlopen(f"http://127.0.0.1:{port}/meta") as answer:
                tip = int(json.load(answer)["tip"])
            publisher = Publisher(port, tip + 1, given.rate)
            publisher.start()
            rows: dict[str, list[float]] = {"alone": [], "one catches up": [], "a crowd catches up": []}

            def one() -> None:
                end = time.monotonic() + given.seconds * 0.75
                while time.monotonic() < end:
                    fetch(port, f"/ndjson?from_t={RUN}:-1", "Accept-Encoding: zstd\r\n", dechunked(b'"t":%d,' % tip))

            def registry() -> None:
                step = max(given.span // given.clients, 1)
                goal = publisher.t - 100
                starts = [goal - given.span + step * i for i in range(given.clients)]
                many = ReaderRegistry(port, starts, goal)
                began = time.monotonic()
                many.run(pid)
                took = time.monotonic() - began
                print(f"  crowd: {many.arrived} arrived, {many.wrong} wrong, {took:.1f} s, peak {many.peak:.0f} MB")

            scenes = {"alone": lambda: None, "one catches up": one, "a crowd catches up": registry}
            for _ in range(given.rounds):
                for name, scene in scenes.items():
                    seconds = given.seconds * (3 if name == "a crowd catches up" else 1)
                    figures = live(port, seconds, scene)
                    rows[name].append(figures["p99"])
                    print(
                        f"  {name}: p50 {figures['p50']:.1f} ms, p99 {figures['p99']:.1f} ms, lost {figures['lost']}, "
                        f"repeated {figures['repeated']}, memory {resident(pid) / 1e6:.0f} MB"
                    )
            publisher.stop.set()
            publisher.join(5)
    base = statistics.median(rows["alone"])
    for name, values in rows.items():
        print(f"{name}: p99 {statistics.median(values):.1f} ms, {statistics.median(values) / base:.2f}x")


if __name__ == "__main__":
    main()
