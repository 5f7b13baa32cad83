"""How long after the backend's flush a reader has a tick: ``python -m tests.perf.tail_latency --rate 100``.

A writer in this process flushes ticks with the time in them into a `.jsonl.zst` file, `tick-gateway serve --tail`
follows it, with and without `--data`, and a reader of each kind takes the time when a tick arrives. Prints the median,
the 99th percentile and the longest, in milliseconds. Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.support.backend import Writer
from tests.support.events import Tick
from tests.support.gateway_process import LISTENING, Running
from tests.support.reconnecting import reader

KINDS = ("websocket", "sse", "ndjson", "longpoll")


async def follow(name: str, port: int, count: int, found: list[float], ready: asyncio.Event) -> None:
    """Read so many ticks live; each one's age when it comes."""
    one = await reader(name, port, from_t=0).connect()
    ready.set()
    for _ in range(count):
        event = await one.next()
        if isinstance(event, Tick):
            found.append(time.time() * 1000 - json.loads(event.data)["at"])
    one.close()


def tick(t: int, size: int) -> bytes:
    return b'{"t":%d,"at":%.3f,"pad":"%s"}' % (t, time.time() * 1000, b"x" * size)


async def write(folder: Path, rate: float, count: int, size: int) -> None:
    with Writer(folder / "a.jsonl.zst") as writer:
        begun = time.monotonic()
        for t in range(1, count + 1):
            await asyncio.sleep(max(begun + t / rate - time.monotonic(), 0))  # the pace of a simulation
            writer.write(tick(t, size))


async def measure(folder: Path, options: list[str], rate: float, seconds: float, size: int) -> dict[str, list[float]]:
    with Writer(folder / "a.jsonl.zst") as writer:
        writer.write(tick(0, size))
    command = [sys.executable, "-m", "tick_gateway", "serve", "--host", "127.0.0.1", "--port", "0"]
    with Running([*command, "--tail", str(folder), *options]) as gateway:
        listening = await asyncio.to_thread(gateway.stderr.find, LISTENING)
        assert listening is not None, gateway.report()
        count = int(rate * seconds)
        found: dict[str, list[float]] = {name: [] for name in KINDS}
        ready = [asyncio.Event() for _ in KINDS]
        following = [
            asyncio.create_task(follow(name, int(listening[1]), count, found[name], event))
            for name, event in zip(KINDS, ready, strict=True)
        ]
        await asyncio.gather(*(event.wait() for event in ready))
        await write(folder, rate, count, size)
        await asyncio.gather(*following)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--bytes", type=int, default=1000)
    args = parser.parse_args()
    for kept in (False, True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "segments"
            folder.mkdir()
            options = ["--data", str(Path(name) / "history")] if kept else []
            found = asyncio.run(measure(folder, options, args.rate, args.seconds, args.bytes))
        for kind, ages in found.items():
            ages.sort()
            p50, p99 = ages[len(ages) // 2], ages[int(len(ages) * 0.99)]
            where = "with --data" if kept else "in place"
            print(f"{where}, {kind}: {len(ages)} ticks, p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {ages[-1]:.1f} ms")


if __name__ == "__main__":
    main()
