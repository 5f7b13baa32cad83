"""The paths that a change can slow down, each against a fixed piece of work: ``python -m tests.perf.micro``.

Times on a shared machine say little; ratios taken in one run do. Each path runs between two runs of its reference, some
rounds long, and what is printed is CPU time of the path over CPU time of the reference: the median of the rounds, the
smallest and the largest. References are what no version of the gateway changes: ``json``, joins of bytes, a bare loop
over the same connections, a bare asyncio server that sends the same bytes. One process, less than a minute.

To compare two versions, run it in both, in turn, and compare the medians; a difference within the spread is none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from tests.perf.publish_latency import record
from tick_gateway.delivery.encoder import Variant
from tick_gateway.delivery.session import Session
from tick_gateway.model.query import parse_query
from tick_gateway.model.view import Payload, View
from tick_gateway.reading.cursor import Cursor
from tick_gateway.runtime import Runtime
from tick_gateway.server.app import make_app
from tick_gateway.settings import Settings
from tick_gateway.wire.framing import Framing
from tick_gateway.wire.ndjson import NDJSONFraming
from tick_gateway.wire.sse import SSEFraming
from tick_gateway.wire.websocket import WebSocketFraming

TICKS = 2000  # that are published, rendered, read
READERS = 500
ROUNDS_A_FLUSH = 20
PORTION = 128 << 10  # bytes that the bare server writes at a time
LENGTH = 0.04  # seconds that a path, and its reference, run at a time
PATIENCE = 20.0  # seconds that anything may take
LINES = [json.dumps(record(t), separators=(",", ":")).encode() for t in range(TICKS)]

Work = Callable[[], None]


@dataclass(frozen=True)
class Path:
    """A path and its reference: what each is in words, and how to run it once."""

    name: str
    against: str
    work: Work
    reference: Work


# ---- publish, encode, views ----


def publish() -> None:
    """Dicts through the bus into the ring."""
    runtime = Runtime(Settings(ring=TICKS, inbox=TICKS))
    for t in range(TICKS):
        runtime.bus.publish(record(t))
    runtime.bus.collect()


def dumps() -> None:
    for t in range(TICKS):
        json.dumps(record(t))


def accept() -> None:
    """Lines, as ``/publish`` has them, through the strict parser and the bus into the ring."""
    runtime = Runtime(Settings(ring=TICKS, inbox=TICKS))
    for line in LINES:
        runtime.bus.publish(line)
    runtime.bus.collect()


def loads() -> None:
    for line in LINES:
        json.loads(line)


def encode(framing: Framing) -> Work:
    """Payloads into a framing's bytes, twenty at a time, as flushes have them."""
    payloads = [Payload(t, line) for t, line in enumerate(LINES)]

    def work() -> None:
        for _ in range(10):
            for at in range(0, TICKS, 20):
                framing.messages("run", payloads[at : at + 20])

    return work


def joins() -> None:
    for _ in range(10):
        for at in range(0, TICKS, 20):
            b"\n".join(LINES[at : at + 20])


def project(runtime: Runtime) -> Work:
    """A view of some members."""
    view = View(fields=("agents.x", "agents.y"))
    ticks = [tick for batch in runtime.bus.ring for tick in batch.ticks]

    def work() -> None:
        view.render("run", ticks)

    return work


# ---- with a loop ----


class Wire(asyncio.Transport):
    """A connection whose peer takes everything at once; ``full`` is called when it has taken what was expected."""

    def __init__(self) -> None:
        super().__init__()
        self.size = self.expected = 0
        self.full: Callable[[], object] = bool

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.size += len(data)
        if self.size == self.expected:
            self.full()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None: ...

    def abort(self) -> None: ...


class ReaderRegistry:
    """Live readers of one kind, on wires."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.t = 0
        self.wires = [Wire() for _ in range(READERS)]
        self._missing = 0
        self._done = asyncio.Event()
        for wire in self.wires:
            wire.full = self._one
            query = parse_query([("heartbeat", "3600")])
            variant = Variant(WebSocketFraming(), View())  # no chunks around what came together
            Session(runtime.fanout, variant, query, Cursor.of(query)).connection_made(wire)

    def _one(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._done.set()

    async def flushes(self) -> None:
        """Some ticks at a time, each time until every reader has them."""
        for _ in range(ROUNDS_A_FLUSH):
            lines = LINES[:5]
            size = len(WebSocketFraming().messages("run", [Payload(0, self._tick(i)) for i in range(5)]).data)
            self._missing = len(self.wires)
            self._done.clear()
            for wire in self.wires:
                wire.expected = wire.size + size
            for index in range(len(lines)):
                self.runtime.bus.publish(self._tick(index))
            self.t += len(lines)
            await asyncio.wait_for(self._done.wait(), PATIENCE)

    def _tick(self, index: int) -> bytes:
        return b'{"t":%d,"pad":"%s"}' % (10**9 + self.t + index, b"x" * 1000)

    def bare(self) -> None:
        """The same bytes to the same wires, without a gateway."""
        for _ in range(ROUNDS_A_FLUSH):
            data = b"\n".join([self._tick(index) for index in range(5)])
            for wire in self.wires:
                wire.write(data)


async def fetch(port: int, path: str) -> bytes:
    """The whole answer; ``Connection: close`` ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    return answer


@asynccontextmanager
async def listening(runtime: Runtime) -> Any:
    """The gateway, and a bare server that answers any request with what ``bare.answer`` holds; gives both ports."""
    runner = web.AppRunner(make_app(runtime), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()

    class Bare:
        answer = b""

        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            for at in range(0, len(self.answer), PORTION):
                writer.write(self.answer[at : at + PORTION])
                await writer.drain()
            writer.close()

    held = Bare()
    bare = await asyncio.start_server(held.serve, "127.0.0.1", 0)
    try:
        yield runner.addresses[0][1], bare.sockets[0].getsockname()[1], held
    finally:
        bare.close()
        await runner.cleanup()


# ---- measuring ----


@contextmanager
def paths() -> Iterator[list[Path]]:
    """Everything that is measured, ready to run."""
    runtime = Runtime(Settings(ring=TICKS))
    for line in LINES:
        runtime.bus.publish(line)
    runtime.bus.collect()
    runtime.feed.offer(1 << 60)  # no flush shows them: nobody was there to be woken
    found = [
        Path("publish, dicts", "json.dumps", publish, dumps),
        Path("publish, lines", "json.loads", accept, loads),
        *(
            Path(f"encode, {framing.__class__.__name__.removesuffix('Framing')}", "joins", encode(framing), joins)
            for framing in (WebSocketFraming(), SSEFraming(), NDJSONFraming())
        ),
        Path("view of some members", "json.loads", project(runtime), loads),
    ]
    with asyncio.Runner() as runner:

        def run(work: Callable[[], Awaitable[object]]) -> Work:
            async def once() -> None:
                await work()

            return lambda: runner.run(once())

        async def open_() -> tuple[Any, int, int, Any]:
            server = listening(runtime)
            return server, *await server.__aenter__()

        server, port, bare_port, bare = runner.run(open_())
        for name, path in (
            ("range", f"/range?t0=0&t1={TICKS - 1}"),
            ("catch-up, NDJSON", f"/ndjson?from_t=-1&limit={TICKS}"),
            ("catch-up, incremental", f"/incremental?from_t=-1&limit={TICKS}"),
        ):
            reading = run(partial(fetch, port, path))
            found.append(Path(name, "bare server", reading, _bare(runner, port, bare_port, bare, path)))

        async def registry() -> ReaderRegistry:
            live = Runtime(Settings(ring=100, flush_interval=0.005))
            live.start()
            live.bus.publish(LINES[0])
            made = ReaderRegistry(live)
            # Each is live when it has the newest tick.
            while not all(wire.size for wire in made.wires):  # noqa: ASYNC110 - their sizes are no event
                await asyncio.sleep(0.01)
            return made

        gathered = runner.run(registry())
        found.append(Path(f"flush rounds, {READERS} readers", "bare loop", run(gathered.flushes), gathered.bare))
        yield found
        runner.run(server.__aexit__(None, None, None))


def _bare(runner: asyncio.Runner, port: int, bare_port: int, bare: Any, path: str) -> Work:
    answer = runner.run(fetch(port, path))
    assert len(answer) > sum(map(len, LINES)), "not all ticks came"

    def work() -> None:
        bare.answer = answer
        runner.run(fetch(bare_port, "/"))

    return work


def spent(work: Work, times: int) -> float:
    """CPU seconds of so many runs."""
    began = time.process_time()
    for _ in range(times):
        work()
    return time.process_time() - began


def repeats(path: Path) -> tuple[int, int]:
    """How often the path, and how often its reference, run in about a thirtieth of a second, the waits included."""
    path.work()
    began = time.monotonic()
    path.work()
    took, bare = time.monotonic() - began, spent(path.reference, 1)
    return max(round(LENGTH / took), 1), max(round(LENGTH / max(bare, 1e-6)), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    args = parser.parse_args()
    with paths() as all_paths:
        times = {path.name: repeats(path) for path in all_paths}
        ratios: dict[str, list[float]] = {path.name: [] for path in all_paths}
        for _ in range(args.rounds):
            for path in all_paths:
                mine, bare = times[path.name]
                before = spent(path.reference, bare) / bare
                took = spent(path.work, mine) / mine
                ratios[path.name].append(took / ((before + spent(path.reference, bare) / bare) / 2))
    if args.json:
        print(json.dumps({name: {"median": statistics.median(r), "rounds": r} for name, r in ratios.items()}))
        return
    print(f"{'path':<26}{'against':<14}{'median':>8}{'smallest':>10}{'largest':>9}")
    for path in all_paths:
        found = ratios[path.name]
        middle = statistics.median(found)
        print(f"{path.name:<26}{path.against:<14}{middle:>8.2f}{min(found):>10.2f}{max(found):>9.2f}")


if __name__ == "__main__":
    main()
