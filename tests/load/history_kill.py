"""``kill -9`` of a gateway with history, again and again: ``python -m tests.load.history_kill --kills 20 --rate 500``.

``tick-gateway publish`` feeds ``tick-gateway serve --data DIR``, clients of every transport read along and come back at
their positions, and the gateway is killed at random moments, some of them while it starts. Blocks and segments are
small, so that kills hit their ends, and memory holds next to nothing, so that who comes back is served from disk.

After each kill the publisher is held back while the next gateway is asked what it has: that must be every tick up to at
least the newest that any client had seen. In the end every client has every tick once and in order, byte for byte, and
so has history. Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from tests.conformance.events import End, Event, Ledger, Tick
from tests.conformance.house import tick
from tests.conformance.raw import Closed, Refused, Response, close_all, request
from tests.conformance.reader import Reader
from tests.conformance.readers import FLAVOURS
from tests.conformance.streams import NDJSONReader
from tests.process import LISTENING, Running

RUN = "killed"
FIRST = 3  # a run need not begin at 0
PATIENCE = 60.0  # seconds that a wait may last, so that a failure ends
SMALL = ("--ring", "200", "--block-bytes", "8k", "--segment-bytes", "8k", "--block-age", "0.5", "--fsync", "never")
_BEAT = 0.02  # seconds between two writes to the publisher


class ZstdReader(NDJSONReader):
    """Takes NDJSON as a row of zstd frames."""

    async def _open(self) -> None:
        response = await request(self.port, self.target, headers={"Accept-Encoding": "zstd"}, small=self.small)
        if response.status != 200:
            raise Refused(response)
        assert response.headers["Content-Encoding"] == "zstd"
        self._named(_Decoded(response))


class _Decoded(Response):
    """A response whose body is decoded as it comes."""

    def __init__(self, coded: Response) -> None:
        self.__dict__.update(coded.__dict__)
        self._coded = coded

    async def pieces(self) -> AsyncIterator[bytes]:
        decoder = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
        async for piece in self._coded.pieces():
            yield decoder.decompress(piece)
        self.ended = self._coded.ended


def _reader(name: str, port: int) -> Reader:
    start: dict[str, object] = {"from_t": f"{RUN}:-1"}
    if name == "ndjson-zstd":
        return ZstdReader(port, "/ndjson", start)
    kind = FLAVOURS[name]
    paths = {"websocket": "/ws/stream", "longpoll": "/poll"}
    return kind(port, paths.get(kind.transport, f"/{kind.transport}"), start)


CLIENTS = ("websocket", "websocket-browser", "sse", "ndjson", "ndjson-zstd", "longpoll", "incremental")


class Client:
    """A reader that comes back for as long as it takes.

    Attributes:
        events: all that it was given, over all connections.
        newest: the newest tick among them.
        away: it has noticed that the gateway is gone, and waits for the next.
        visits: connections it had.
    """

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.events: list[Event] = []
        self.newest = -1
        self.away = asyncio.Event()
        self.visits = 0
        self._reader = _reader(name, port)
        self._goal = 1 << 62, asyncio.Event()

    async def follow(self, up: asyncio.Event) -> None:
        """Read along whenever the gateway is ``up``."""
        while True:
            await up.wait()
            self.away.clear()
            with contextlib.suppress(Closed, OSError, EOFError):  # killed: it comes back
                await (self._reader.again() if self.visits else self._reader.connect())
                self.visits += 1
                while True:
                    event = await self._reader.next()
                    self.events.append(event)
                    self.newest = event.t if isinstance(event, Tick) else self.newest
                    if self.newest >= self._goal[0]:
                        self._goal[1].set()
            self._reader.close()
            self.away.set()
            if up.is_set():
                await asyncio.sleep(0.01)  # nobody listens there yet, or no longer

    async def reach(self, t: int) -> None:
        """Wait until it was given a tick, or one behind it."""
        self._goal = t, asyncio.Event()
        if self.newest < t:
            await self._goal[1].wait()


class Feeder:
    """The simulation: lines into ``tick-gateway publish``, and the ledger of them."""

    def __init__(self, publisher: Running, rate: float, seed: int) -> None:
        self.ledger = Ledger()
        self.over = asyncio.Event()  # set: the simulation ends
        self._publisher = publisher
        self._rate = rate
        self._random = random.Random(seed)

    async def run(self) -> None:
        t, begun, fed = FIRST, time.monotonic(), 0
        while not self.over.is_set():
            lines: list[str] = []
            for _ in range(int((time.monotonic() - begun) * self._rate) + 1 - fed):
                pad = self._random.randbytes(self._random.choice((10, 50, 200))).hex()  # does not compress to nothing
                data = tick(RUN, t)[:-1] + f',"pad":"{pad}"}}'.encode()
                self.ledger.note(RUN, t, data)
                lines.append(data.decode())
                t += self._random.choice((1, 1, 1, 1, 5))
            fed += len(lines)
            await asyncio.to_thread(self._publisher.feed, lines)
            await asyncio.sleep(_BEAT)
        await asyncio.to_thread(self._publisher.close_stdin)

    @property
    def lines(self) -> list[bytes]:
        return list(self.ledger.runs[RUN].values())


@dataclass
class Figures:
    """What a play came to. ``kept``: how many ticks were in history after each kill; ``lags``: how often live went on
    without the disk, where what a client saw may be lost; ``lost``: such ticks."""

    kills: int = 0
    early: int = 0  # of those, while the gateway started
    ticks: int = 0
    segments: int = 0
    lags: int = 0
    lost: int = 0
    visits: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({self.early} while it started), {self.ticks} ticks in {self.segments} segments, "
            f"connections {self.visits}; live went on without the disk {self.lags} times, with {self.lost} ticks lost "
            f"that a client had seen; {self.seconds:.1f} s"
        )


class Play:
    """One gateway's lives on one directory."""

    def __init__(
        self, directory: Path, *, rate: float, seed: int, module: str, options: Sequence[str], life: float
    ) -> None:
        self.figures = Figures()
        self._life = life
        self._directory = directory
        self._random = random.Random(seed)
        self._port = _free_port()
        self._command = [
            sys.executable, "-m", module, "serve", "--host", "127.0.0.1", "--port", str(self._port),
            "--data", str(directory), *options,
        ]  # fmt: skip
        self._gateway = Running(self._command)
        self._up = asyncio.Event()
        publish = [sys.executable, "-m", "tick_gateway", "publish", f"127.0.0.1:{self._port}", "--run", RUN, "--retry"]
        self._publisher = Running(publish, stdin=True)
        self._feeder = Feeder(self._publisher, rate, seed)
        self._clients = [Client(name, self._port) for name in CLIENTS]
        self._sealed: dict[Path, str] = {}  # what was in them when they were sealed

    async def run(self, kills: int) -> Figures:
        begun = time.monotonic()
        feeding = asyncio.create_task(self._feeder.run())
        following: list[asyncio.Task[None]] = []
        try:
            await self._listening()
            first = await request(self._port, "/poll?timeout=60")
            assert first.status == 200 and (await first.json())["t"] == FIRST
            following = [asyncio.create_task(client.follow(self._up)) for client in self._clients]
            self._up.set()
            for _ in range(kills):
                await asyncio.sleep(self._random.uniform(0.1, self._life))
                await self._kill(feeding, *following)
            self._feeder.over.set()
            await self._watch(feeding, *following)
            await self._end(following)
        finally:
            for task in (feeding, *following):
                task.cancel()
            await asyncio.gather(feeding, *following, return_exceptions=True)
            close_all()
            self._publisher.kill()
            self._gateway.kill()
        self.figures.seconds = time.monotonic() - begun
        return self.figures

    async def _kill(self, *tasks: asyncio.Task[None]) -> None:
        """Kill the gateway, see what is left, start the next one, and let everybody in again."""
        self._up.clear()
        self._gateway.process.send_signal(signal.SIGKILL)
        self._publisher.process.send_signal(signal.SIGSTOP)
        lagged = await self._buried()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(client.away.wait() for client in self._clients))
        for task in tasks:
            if task.done():
                task.result()  # what is wrong with a client is told here
        self._look_at_files(recovered=False)
        self._gateway = Running(self._command)
        if self._random.random() < 0.3:
            await asyncio.sleep(self._random.uniform(0.0, 0.5))
            self._gateway.process.send_signal(signal.SIGKILL)
            self.figures.early += 1
            await self._buried()
            self._gateway = Running(self._command)
        await self._listening()
        self._look_at_files(recovered=True)
        await self._look_at_history(lagged)
        self._publisher.process.send_signal(signal.SIGCONT)
        self._up.set()

    async def _buried(self) -> bool:
        """Wait until the gateway is gone; returns whether live went on without the disk in its life."""
        self.figures.kills += 1
        await asyncio.to_thread(self._gateway.wait)
        told = self._gateway.stderr.text
        assert "Traceback" not in told, told
        lags = told.count("live goes on without it")
        self.figures.lags += lags
        return lags > 0

    def _look_at_files(self, *, recovered: bool) -> None:
        """Sealed segments (``recovered``: all of them) are whole zstd files, and never change again."""
        paths = self._paths if recovered else self._paths[:-1]
        if paths:
            self._zstd("-tq", *paths)
        for path in paths[:-1]:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert self._sealed.setdefault(path, digest) == digest, f"{path.name} has changed since it was sealed"
        assert set(self._sealed) <= set(paths) or not recovered, "a sealed segment is gone"
        self.figures.segments = len(paths)

    @property
    def _paths(self) -> list[Path]:
        return sorted((self._directory / RUN).glob("*.jsonl.zst"))

    @staticmethod
    def _zstd(*arguments: str | Path) -> bytes:
        done = subprocess.run(["zstd", *arguments], capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def _look_at_history(self, lagged: bool) -> None:
        """History is every tick up to a tip that no client stood beyond."""
        assert (await self._ask("/healthz"))["status"] == "ok", await self._ask("/healthz")
        have = await self._history()
        wanted = self._feeder.lines[: len(have)]
        assert have == wanted, _difference(have, wanted)
        seen = max(client.newest for client in self._clients)
        kept = json.loads(have[-1])["t"]
        lost = self._feeder.ledger.between(RUN, kept, seen)
        assert not lost or lagged, (
            f"ticks {lost[:10]} were seen by a client and are not in history, whose tip is {kept}"
        )
        self.figures.lost += len(lost)

    async def _history(self) -> list[bytes]:
        response = await request(self._port, f"/range?run={RUN}")
        assert response.status == 200
        assert "Tick-Gap" not in response.headers, response.headers
        return (await response.read()).splitlines()

    async def _end(self, following: list[asyncio.Task[None]]) -> None:
        """The simulation is over: the publisher ends well, everybody comes to the last tick, and so did history."""
        code = await asyncio.to_thread(self._publisher.wait)
        assert code == 0, self._publisher.report()
        wanted = self._feeder.lines
        tip = self._feeder.ledger.tip[1]
        await self._watch(asyncio.gather(*(client.reach(tip) for client in self._clients)), *following)
        have = await self._history()
        assert have == wanted, _difference(have, wanted)
        for client in self._clients:
            events = [event for event in client.events if not isinstance(event, End)]
            self._feeder.ledger.check(events, after=(RUN, -1))
            notices = [event for event in events if type(event).__name__ in ("Gap", "Reset")]
            assert not notices, f"{client.name} was told {notices[:5]}"
            self.figures.visits[client.name] = client.visits
        self._up.clear()
        assert await asyncio.to_thread(self._gateway.terminate) == 0, self._gateway.report()
        assert "Traceback" not in self._gateway.stderr.text, self._gateway.report()
        self._look_at_files(recovered=True)
        assert self._zstd("-dcq", *self._paths).splitlines() == wanted, "the files are not what was published"
        self.figures.ticks = len(wanted)

    async def _watch(self, wanted: asyncio.Future[Any], *others: asyncio.Future[None]) -> None:
        """Wait for one thing; what goes wrong elsewhere meanwhile is raised here."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait((wanted, *others), return_when=asyncio.FIRST_COMPLETED)
            for other in others:
                if other.done():
                    other.result()
            await wanted

    async def _listening(self) -> None:
        found = await asyncio.to_thread(self._gateway.stderr.find, LISTENING)
        assert found is not None, self._gateway.report()

    async def _ask(self, target: str) -> dict[str, object]:
        response = await request(self._port, target)
        answer: dict[str, object] = await response.json()
        assert response.status == 200, answer
        return answer


def _difference(have: Sequence[bytes], wanted: Sequence[bytes]) -> str:
    at = next((i for i, (one, other) in enumerate(zip(have, wanted, strict=False)) if one != other), len(wanted))
    return f"history has {len(have)} ticks, {len(wanted)} were published; they part at {at}: {have[at : at + 2]!r:.300}"


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def play(
    directory: Path,
    kills: int,
    rate: float,
    seed: int,
    *,
    patient: bool,
    options: Sequence[str] = SMALL,
    life: float = 1.2,
) -> Figures:
    """Play it, and return what it came to.

    Args:
        patient: the gateway takes no busy machine for a slow disk (see ``tests.load.patient``).
        life: seconds that a gateway has at most.

    Raises:
        AssertionError: a promise was broken.
    """

    async def run() -> Figures:
        module = "tests.load.patient" if patient else "tick_gateway"
        return await Play(directory, rate=rate, seed=seed, module=module, options=options, life=life).run(kills)

    return asyncio.run(run())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=float, default=500.0, help="ticks per second")
    parser.add_argument("--seed", type=int, default=None, help="of sizes, holes and moments; default: a new one")
    parser.add_argument("--plain", action="store_true", help="tick-gateway itself, which goes on without a slow disk")
    args = parser.parse_args(arguments)
    seed = random.randrange(1 << 32) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(play(Path(folder), args.kills, args.rate, seed, patient=not args.plain), flush=True)


if __name__ == "__main__":
    main()
