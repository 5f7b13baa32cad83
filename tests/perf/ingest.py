"""Peak ingest: ``python -m tests.perf.ingest``: 1 KB ticks as fast as they are taken, in-process and by one POST.

In-process, ``publish`` of a dict from the main thread to a gateway in a thread, waiting where the inbox is full. By
POST, one chunked NDJSON body to a gateway process, a chunk of ``--lines`` lines at a time. Loopback only; ends by
itself.
"""

from __future__ import annotations

import argparse
import json
import socket
import time

from tests.perf.gateway import gateway
from tests.perf.publish_latency import record
from tick_gateway import Gateway


def in_process(seconds: float) -> float:
    """Ticks per second."""
    with Gateway.in_thread(port=0) as gateway:
        record_ = record(0)
        t, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            for _ in range(100):
                t += 1
                record_["t"] = t
                gateway.runtime.bus.publish(record_, wait=True)
        return t / (time.perf_counter() - start)


def by_post(ticks: int, lines: int) -> float:
    """Ticks per second, from the first byte to the answer."""
    with gateway() as (port, _):
        bodies = [b"".join(line(t) for t in range(first, first + lines)) for first in range(0, ticks, lines)]
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(
                b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
                b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            )
            start = time.perf_counter()
            for body in bodies:
                sock.sendall(b"%x\r\n%s\r\n" % (len(body), body))
            sock.sendall(b"0\r\n\r\n")
            answer = b""
            while data := sock.recv(65536):
                answer += data
            took = time.perf_counter() - start
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["accepted"] == len(bodies) * lines, answer
    return ticks / took


def line(t: int) -> bytes:
    return json.dumps(record(t), separators=(",", ":")).encode() + b"\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--ticks", type=int, default=100_000)
    parser.add_argument("--lines", type=int, default=50)
    args = parser.parse_args()
    print(f"in-process publish(dict): {in_process(args.seconds):,.0f} ticks/s")
    print(f"one POST, {args.lines} lines a chunk: {by_post(args.ticks, args.lines):,.0f} ticks/s")
    print(f"one POST, a line a chunk: {by_post(args.ticks // 4, 1):,.0f} ticks/s")


if __name__ == "__main__":
    main()
