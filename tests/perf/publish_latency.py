"""What ``publish()`` costs the simulation's own thread: ``python -m tests.perf.publish_latency --clients 1000``.

An in-process gateway, 1 KB records at 1,000 ticks/s from this thread, and so many readers in a process of their own
that only drain their sockets. Prints the median and the 99th percentile of the call's time in microseconds, and how
often the loop was woken. ``--kept``: in memory, in history, in history on a disk that takes nothing, or tailed: this
thread writes a file, and the calls are those of the thread that follows it. Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.backend import Writer
from tick_gateway import Gateway
from tick_gateway.http.listen import Server, loop_factory, open_socket
from tick_gateway.settings import Settings
from tick_gateway.sources.tail import Tail

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


Publish = Callable[[dict[str, Any]], object]


def timed(call: Callable[..., Any], took: list[float]) -> Callable[..., Any]:
    """The same call, its time noted in seconds."""

    def call_timed(*args: Any, **named: Any) -> Any:
        before = time.perf_counter()
        try:
            return call(*args, **named)
        finally:
            took.append(time.perf_counter() - before)

    return call_timed


@contextmanager
def in_process(took: list[float], **settings: Any) -> Iterator[tuple[Gateway, int, Publish]]:
    """A gateway in a thread beside this one; this one publishes."""
    with Gateway.in_thread(port=0, **settings) as gateway:
        assert gateway.url is not None
        yield gateway, int(gateway.url.rsplit(":", 1)[1].strip("/")), timed(gateway.publish, took)


@contextmanager
def failing(took: list[float], directory: Path) -> Iterator[tuple[Gateway, int, Publish]]:
    """The same, with history that cannot be written: no file of this process may grow."""
    with in_process(took, data=str(directory)) as found:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            yield found
            assert not found[0].runtime.history.status().writing
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def tailed(took: list[float], directory: Path) -> Iterator[tuple[Gateway, int, Publish]]:
    """A gateway that follows the file that this thread writes."""
    settings = Settings(port=0, host="127.0.0.1")
    with Writer(directory / "a.jsonl.zst") as writer:
        tail = Tail(settings, tail=directory)
        gateway = Gateway.of(settings, source=tail)
        gateway.runtime.bus.offer = timed(gateway.runtime.bus.offer, took)  # type: ignore[method-assign]
        sock, stop = open_socket(settings), threading.Event()

        async def serve() -> None:
            server = Server(gateway.app, settings, gateway.runtime.descriptors)
            await server.start(sock)
            following = asyncio.ensure_future(tail.run(gateway.runtime))
            await asyncio.to_thread(stop.wait)
            following.cancel()
            await asyncio.wait((following,))
            await server.stop()

        def run() -> None:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(serve())

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield gateway, sock.getsockname()[1], lambda tick: writer.write(json.dumps(tick).encode())
        finally:
            stop.set()
            thread.join()


KEPT = {
    "memory": lambda took, directory: in_process(took),
    "history": lambda took, directory: in_process(took, data=str(directory)),
    "failing": failing,
    "tailed": tailed,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--kind", choices=sorted(KINDS), default="ws")
    parser.add_argument("--kept", choices=sorted(KEPT), default="memory")
    parser.add_argument("--idle", action="store_true", help="sleep between two ticks instead of computing")
    parser.add_argument("--role-readers", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role_readers:
        readers(args.role_readers, args.clients, args.seconds + 30, args.kind)
        return
    took: list[float] = []
    with tempfile.TemporaryDirectory() as name, KEPT[args.kept](took, Path(name)) as (gateway, port, publish):
        command = [sys.executable, "-m", "tests.perf.publish_latency", "--role-readers", str(port), "--clients"]
        child = subprocess.Popen(
            [*command, str(args.clients), "--seconds", str(args.seconds), "--kind", args.kind],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        if args.clients:
            child.stdout.readline()
        start, t, work = time.perf_counter(), 0, 0
        while (now := time.perf_counter()) - start < args.seconds:
            while t < (now - start) * args.rate:
                t += 1
                publish(record(t))
            if args.idle:
                time.sleep(0.0005)
            else:
                work = sum(i * i for i in range(2000)) if work >= 0 else 0
        flushes = gateway.runtime.fanout.flushes
        child.terminate()
        child.wait()
    took.sort()
    p99, p999 = (took[int(len(took) * share)] * 1e6 for share in (0.99, 0.999))
    print(
        f"{args.kept}: {len(took)} calls, {args.clients} {args.kind} readers: "
        f"median {statistics.median(took) * 1e6:.1f} us, p99 {p99:.1f} us, p99.9 {p999:.1f} us, "
        f"max {took[-1] * 1e6:.0f} us; {flushes} flushes"
    )


if __name__ == "__main__":
    main()
