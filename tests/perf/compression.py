"""What compression costs and saves: ``python -m tests.perf.compression --clients 1000``.

A flock of agents in ticks of about 3.4 KB, published to a gateway on a core of its own and read by many, plain and
compressed in turn; a few readers decode and check every tick, the others only drain. Beside them, in the same run, a
server that does nothing but compress each tick for each client by itself, and one compressor that knows all the ticks.
Prints bytes a tick on the wire and the server's CPU time a tick and reader, with their ratios to plain.

Linux only (``/proc``); loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import selectors
import socket
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from typing import Protocol

import zstandard

from tests.perf.delivery import Checked, publish
from tests.perf.gateway import gateway
from tests.perf.readers import KINDS
from tests.support.decoders import WebSocketMessages
from tick_gateway.bench.decoders import ChunkedDecoder, content_decoder

KIND = {
    "ws": ("ws", ""),
    "ws deflate": ("ws", "Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    "ndjson": ("ndjson", ""),
    "ndjson gzip": ("ndjson", "Accept-Encoding: gzip\r\n"),
    "ndjson zstd": ("ndjson", "Accept-Encoding: zstd\r\n"),
}
CHECKED = 5


class Decoder(Protocol):
    def feed(self, data: bytes) -> bytes: ...


class Messages:
    """A WebSocket's text messages, a line each."""

    def __init__(self, coding: str) -> None:
        self._frames = WebSocketMessages(coding)

    def feed(self, data: bytes) -> bytes:
        return b"".join(message.data + b"\n" for message in self._frames.feed(data) if message.name == "message")


class Body:
    """A chunked body's content."""

    def __init__(self, decoder: Decoder) -> None:
        self._chunked, self._decoder = ChunkedDecoder(strict=True), decoder

    def feed(self, data: bytes) -> bytes:
        return self._decoder.feed(b"".join(self._chunked.feed(data)))


DECODERS: dict[str, Callable[[], Decoder]] = {
    "ws": lambda: Messages(""),
    "ws deflate": lambda: Messages("deflate"),
    "ndjson": lambda: Body(content_decoder("identity", strict=True)),
    "ndjson gzip": lambda: Body(content_decoder("gzip", strict=True)),
    "ndjson zstd": lambda: Body(content_decoder("zstd", strict=True)),
}


def flock(herd: bool, ticks: int = 1024) -> list[bytes]:
    """What follows a tick's number and time, for so many ticks of about 3.4 KB: agents that wander, to three decimals.

    Args:
        herd: fewer agents, with members that seldom change beside those that always do.
    """
    rng = random.Random(7)
    many = [[index, rng.random() * 100, rng.random() * 100, rng.randrange(17)] for index in range(36 if herd else 86)]
    bodies: list[bytes] = []
    for _ in range(ticks):
        told: list[dict[str, object]] = []
        for one in many:
            one[1], one[2] = (one[1] + rng.uniform(-1, 1)) % 100, (one[2] + rng.uniform(-1, 1)) % 100
            index, x, y, e = one
            told.append({"id": index, "x": round(x, 3), "y": round(y, 3), "e": e})
            if herd:
                one[3] = rng.randrange(17) if rng.random() < 0.02 else e
                told[-1] |= {"kind": "sheep" if index % 5 else "wolf", "state": f"state-{one[3]}", "alive": True}
        bodies.append(b',"agents":' + json.dumps(told, separators=(",", ":")).encode() + b"}")
    return bodies


def alone(bodies: list[bytes], coding: str) -> float:
    """Bytes a tick of one compressor that remembers all there was, flushed at each tick."""
    lines, ticks = [b'{"t":%d,"ts":%d%s\n' % (t, time.time_ns(), body) for t, body in enumerate(bodies)], len(bodies)
    if coding == "zstd":
        parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=18)
        frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        return sum(len(frame.compress(line) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)) for line in lines) / ticks
    stream = zlib.compressobj(3, zlib.DEFLATED, -zlib.MAX_WBITS)
    return sum(len(stream.compress(line) + stream.flush(zlib.Z_SYNC_FLUSH)) for line in lines) / ticks


# ---- the readers, in a process of their own ----


def read(port: int, clients: int, kind: str, seconds: float) -> None:
    selector = selectors.DefaultSelector()
    watched: list[tuple[Checked, Decoder, list[int]]] = []
    transport, header = KIND[kind]
    path, upgrade = KINDS[transport]
    for index in range(clients):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(f"GET {path}?tail=0 HTTP/1.1\r\nHost: localhost\r\n{upgrade}{header}\r\n".encode())
        watch = None
        if index < CHECKED:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += sock.recv(1)
            assert not header or b"deflate" in head or b"Content-Encoding" in head, head
            watch = Checked(), DECODERS[kind](), [0]
            watched.append(watch)
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, watch)
    print("ready", flush=True)
    buffer = memoryview(bytearray(1 << 20))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select(0.1):
            try:
                size = key.fileobj.recv_into(buffer, len(buffer), 0 if key.data else socket.MSG_TRUNC)  # type: ignore[union-attr]
            except BlockingIOError:
                continue
            assert size, "the gateway hung up"
            if key.data:
                watch, decoder, total = key.data
                total[0] += size
                watch.feed(decoder.feed(bytes(buffer[:size])), time.time_ns())
    late = sorted(latency for watch, _, _ in watched for latency in watch.latencies)
    assert late, "no tick came"
    figures = {
        "lost": sum(watch.lost for watch, _, _ in watched),
        "repeated": sum(watch.repeated for watch, _, _ in watched),
        "bytes": sum(total[0] for _, _, total in watched) / len(late),
        "p99": late[int(len(late) * 0.99)],
    }
    print(json.dumps(figures), flush=True)


# ---- a compressor for each client ----


def own(clients: int, rate: float, seconds: float) -> None:
    """Serve so many clients ticks that are compressed for each of them; print the CPU time a tick and client."""

    async def main() -> None:
        writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        readers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(clients)]
        while len(writers) < clients:  # noqa: ASYNC110 - connections are accepted one by one
            await asyncio.sleep(0.01)
        streams = [zlib.compressobj(3, zlib.DEFLATED, -zlib.MAX_WBITS) for _ in writers]
        bodies, cpu, sent, start = flock(herd=False), time.process_time(), 0, time.monotonic()
        while time.monotonic() - start < seconds:
            line = b'{"t":%d,"ts":%d%s\n' % (sent, time.time_ns(), bodies[sent % len(bodies)])
            for stream, writer in zip(streams, writers, strict=True):
                writer.write(stream.compress(line) + stream.flush(zlib.Z_SYNC_FLUSH))
            sent += 1
            await asyncio.sleep(1 / rate)
            for reader, _ in readers:
                reader._buffer.clear()  # type: ignore[attr-defined]
        print((time.process_time() - cpu) * 1e6 / sent / clients)

    asyncio.run(main())


def measure(kind: str, clients: int, rate: float, seconds: float, bodies: list[bytes]) -> dict[str, float]:
    """One gateway, one kind of reader."""
    cores = sorted(os.sched_getaffinity(0))
    with gateway(core=cores[0]) as (port, process):
        command = ["taskset", "-c", str(cores[-1]), sys.executable, "-m", "tests.perf.compression", "--role", kind]
        command += ["--port", str(port), "--clients", str(clients), "--seconds", str(seconds + 1)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        child.stdout.readline()
        cpu, _, ticks = publish(port, rate, 0, seconds, process.pid, bodies)
        figures: dict[str, float] = json.loads(child.communicate(timeout=60)[0])
    return figures | {"cpu": cpu * 1e6 / ticks / clients}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--herd", action="store_true", help="agents with members that seldom change")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--role", default="", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role == "own":
        own(args.clients, args.rate, args.seconds)
        return
    if args.role:
        read(args.port, args.clients, args.role, args.seconds)
        return
    bodies = flock(args.herd)
    rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in KIND}
    each: list[float] = []
    for _ in range(args.rounds):
        for kind, found in rows.items():
            found.append(measure(kind, args.clients, args.rate, args.seconds, bodies))
        command = [sys.executable, "-m", "tests.perf.compression", "--role", "own", "--clients", "20", "--rate", "50"]
        each.append(float(subprocess.run([*command, "--seconds", "3"], capture_output=True, check=True).stdout))
    middle = {
        kind: {name: statistics.median(row[name] for row in found) for name in found[0]} for kind, found in rows.items()
    }
    lengths = {coding: alone(bodies, coding) for coding in ("deflate", "gzip", "zstd")}
    for kind, row in middle.items():
        plain, coding = middle[kind.split()[0]], kind.partition(" ")[2]
        beside = f", {row['bytes'] / lengths[coding]:.3f}x one's own compressor" if coding else ""
        print(
            f"{kind:12} {row['bytes']:7.0f} bytes a tick ({plain['bytes'] / row['bytes']:.2f}x fewer{beside}), "
            f"{row['cpu']:.3f} us a tick and reader ({row['cpu'] / plain['cpu']:.2f}x plain), p99 {row['p99']:.1f} ms, "
            f"lost {row['lost']:.0f}, repeated {row['repeated']:.0f}"
        )
    base = statistics.median(each)
    dearest = max(row["cpu"] for kind, row in middle.items() if " " in kind)
    print(f"a compressor a client: {base:.1f} us a tick and client, {base / dearest:.0f}x the dearest of these")


if __name__ == "__main__":
    main()
