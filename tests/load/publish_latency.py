"""What ``publish()`` costs the simulation's own thread: ``python -m tests.load.publish_latency --clients 1000``.

An in-process gateway, 1 KB records at 1,000 ticks/s from this thread, and so many readers in a process of their own
that only drain their sockets. Prints the median and the 99th percentile of the call's time in microseconds, and how
often the loop was woken. Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

from tick_gateway import Gateway

KINDS = {
    "ws": "GET /ws/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "ndjson": "GET /ndjson HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "sse": "GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def readers(port: int, clients: int, seconds: float, kind: str) -> None:
    """Connect, say so, and drain until the time is up."""
    selector = selectors.DefaultSelector()
    for _ in range(clients):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(KINDS[kind].encode())
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    print("ready", flush=True)
    end = time.monotonic() + seconds
    buffer = bytearray(1 << 20)
    drop = (
        socket.MSG_TRUNC
    )  # the kernel drops the bytes without a copy (tcp(7)): the readers must not be the bottleneck
    while time.monotonic() < end:
        for key, _ in selector.select(0.1):
            try:
                key.fileobj.recv_into(buffer, len(buffer), drop)  # type: ignore[union-attr]
            except (BlockingIOError, ConnectionError):
                continue


def record(t: int) -> dict[str, Any]:
    """About 1 KB of JSON."""
    return {"t": t, "agents": [{"id": i, "x": 12.345 + i, "y": 34.567 + i, "e": t % 17} for i in range(26)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--kind", choices=sorted(KINDS), default="ws")
    parser.add_argument("--idle", action="store_true", help="sleep between two ticks instead of computing")
    parser.add_argument("--role-readers", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role_readers:
        readers(args.role_readers, args.clients, args.seconds + 30, args.kind)
        return
    with Gateway.in_thread(port=0) as gateway:
        assert gateway.url is not None
        port = gateway.url.rsplit(":", 1)[1].strip("/")
        command = [sys.executable, "-m", "tests.load.publish_latency", "--role-readers", port, "--clients"]
        child = subprocess.Popen(
            [*command, str(args.clients), "--seconds", str(args.seconds), "--kind", args.kind],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        if args.clients:
            child.stdout.readline()
        took: list[float] = []
        start, t, work = time.perf_counter(), 0, 0
        while (now := time.perf_counter()) - start < args.seconds:
            while t < (now - start) * args.rate:
                t += 1
                tick = record(t)
                before = time.perf_counter()
                gateway.publish(tick)
                took.append(time.perf_counter() - before)
            if args.idle:
                time.sleep(0.0005)
            else:
                work = sum(i * i for i in range(2000)) if work >= 0 else 0
        flushes = gateway.hub.fanout.flushes
        child.terminate()
        child.wait()
    took.sort()
    print(
        f"{len(took)} calls, {args.clients} {args.kind} readers: median {statistics.median(took) * 1e6:.1f} us, "
        f"p99 {took[int(len(took) * 0.99)] * 1e6:.1f} us, p99.9 {took[int(len(took) * 0.999)] * 1e6:.1f} us, "
        f"max {took[-1] * 1e6:.0f} us; {flushes} flushes"
    )


if __name__ == "__main__":
    main()
