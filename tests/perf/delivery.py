"""What delivering a tick costs: ``python -m tests.perf.delivery --clients 1000 --kind ws``.

A gateway process, one endless POST of 1 KB ticks at ``--rate``, and a process of readers that drain their sockets; a
few of them are checked tick by tick. Prints the gateway's CPU time per tick delivered (what the operating system
charged to its process over ticks times readers), the latency from publishing to reading, and what was lost or
repeated.

Linux only (``/proc``); loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.perf.gateway import gateway
from tests.perf.idle_memory import REQUESTS
from tick_gateway.bench.proc_stats import cpu_seconds, resident

CHECKED = 20  # readers that are read tick by tick; the others only drain
TICK = re.compile(rb'\{"t":(\d+),"ts":(\d+),')
CARRY = 64  # bytes kept of a read, where a tick's head may have been cut


class Checked:
    """A reader whose ticks are looked at."""

    def __init__(self) -> None:
        self.last = -1
        self.lost = self.repeated = 0
        self.latencies: list[float] = []
        self._carry = b""

    def feed(self, data: bytes, now: int) -> None:
        data = self._carry + data
        end = 0
        for match in TICK.finditer(data):
            t, end = int(match[1]), match.end()
            if self.last >= 0:
                self.lost += max(t - self.last - 1, 0)
                self.repeated += t <= self.last
            self.last = t
            self.latencies.append((now - int(match[2])) / 1e6)
        self._carry = data[max(end, len(data) - CARRY) :]


def connect(port: int, *, small: bool) -> socket.socket:
    """A connection; ``small``: one whose kernel keeps little of what is not read."""
    sock = socket.socket()
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    return sock


def readers(port: int, clients: int, kind: str, seconds: float, idle: int = 0) -> None:
    """Connect, say so when all have been answered, drain, and print what the checked ones saw.

    Args:
        idle: so many of them never read.
    """
    selector = selectors.DefaultSelector()
    checked: list[Checked] = []
    never = {index for index in range(clients) if idle and index % max(clients // idle, 1) == 1}
    sockets = [connect(port, small=index in never) for index in range(clients)]
    for sock in sockets:
        sock.sendall(REQUESTS[kind].format(beat="15").encode())
    for index, sock in enumerate(sockets):
        while b"\r\n\r\n" not in sock.recv(1 << 12, socket.MSG_PEEK):
            continue
        if index in never:
            continue
        sock.setblocking(False)
        watch = Checked() if index % max(clients // CHECKED, 1) == 0 else None
        if watch:
            checked.append(watch)
        selector.register(sock, selectors.EVENT_READ, watch)
    print("ready", flush=True)
    buffer = memoryview(bytearray(1 << 20))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select(0.1):
            try:
                # What is not looked at, the kernel drops without a copy (tcp(7), MSG_TRUNC).
                flags = 0 if key.data is not None else socket.MSG_TRUNC
                size = key.fileobj.recv_into(buffer, len(buffer), flags)  # type: ignore[union-attr]
            except BlockingIOError:
                continue
            if key.data is not None:
                key.data.feed(bytes(buffer[:size]), time.time_ns())
    late = sorted(latency for watch in checked for latency in watch.latencies)
    figures = {
        "lost": sum(watch.lost for watch in checked),
        "repeated": sum(watch.repeated for watch in checked),
        "ticks": min(len(watch.latencies) for watch in checked),
        "p50": late[len(late) // 2],
        "p99": late[int(len(late) * 0.99)],
    }
    print(json.dumps(figures), flush=True)


def publish(
    port: int, rate: float, size: int, seconds: float, pid: int, bodies: Sequence[bytes] = ()
) -> tuple[float, float, int]:
    """Publish at a steady rate; returns the gateway's CPU seconds, the seconds and the ticks of the middle part.

    ``bodies``: what follows a tick's number and time, one after another; else padding to about ``size`` bytes.
    """
    bodies = bodies or [b',"pad":"%s"}' % (b"x" * max(size - 60, 0))]
    start = time.monotonic()
    begun, cpu, sent, first = 0.0, 0.0, 0, 0
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(
            b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        while (now := time.monotonic()) - start < seconds:
            if not begun and now - start > seconds / 4:
                begun, cpu, first = now, cpu_seconds(pid), sent
            while sent < (now - start) * rate:
                line = b'{"t":%d,"ts":%d%s\n' % (sent, time.time_ns(), bodies[sent % len(bodies)])
                sock.sendall(b"%x\r\n%s\r\n" % (len(line), line))
                sent += 1
            time.sleep(0.0005)  # the pace of a simulation, not a wait for anything
        return cpu_seconds(pid) - cpu, time.monotonic() - begun, sent - first


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--kind", choices=sorted(REQUESTS), default="ws")
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--idle", type=int, default=0, help="so many of the readers never read")
    parser.add_argument("--role-readers", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role_readers:
        readers(args.role_readers, args.clients, args.kind, args.seconds, args.idle)
        return
    cores = sorted(os.sched_getaffinity(0))
    with gateway(core=cores[0]) as (port, process):
        os.sched_setaffinity(0, cores[1:] or cores)  # the load keeps off the gateway's core, and its children with it
        command = [
            sys.executable,
            "-m",
            "tests.perf.delivery",
            "--role-readers",
            str(port),
            "--kind",
            args.kind,
        ]
        command += ["--idle", str(args.idle), "--clients", str(args.clients), "--seconds", str(args.seconds + 1)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        child.stdout.readline()
        cpu, seconds, ticks = publish(port, args.rate, args.bytes, args.seconds, process.pid)
        figures = json.loads(child.communicate(timeout=60)[0])
        memory = resident(process.pid) / 1e6
    each = cpu * 1e6 / ticks / args.clients
    print(
        f"{args.clients} {args.kind} readers, {ticks / seconds:.0f} ticks/s: {each:.2f} us of CPU a tick and reader "
        f"({cpu / seconds:.0%} of a core), latency p50 {figures['p50']:.1f} ms, p99 {figures['p99']:.1f} ms, "
        f"lost {figures['lost']}, repeated {figures['repeated']}, the gateway's memory {memory:.0f} MB"
    )


if __name__ == "__main__":
    main()
