"""``kill -9`` of a gateway with history, again and again: ``python -m tests.perf.history_kill --kills 20 --rate 500``.

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
import hashlib
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import history_files
from tests.support.async_client import close_all, request
from tests.support.events import Ledger
from tests.support.gateway_process import RestartableGateway, Running, difference
from tests.support.harness import tick
from tests.support.reconnecting import ReconnectingReaders
from tests.support.requests import ask, range_of

RUN = "killed"
FIRST = 3  # a run need not begin at 0
SMALL = ("--ring", "200", "--block-bytes", "8k", "--segment-bytes", "8k", "--block-age", "0.5", "--fsync", "never")
_BEAT = 0.02  # seconds between two writes to the publisher


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
        self._random = random.Random(seed)
        self._gateway = RestartableGateway(directory, *options, module=module)
        publish = ["publish", f"127.0.0.1:{self._gateway.port}", "--run", RUN, "--retry"]
        self._publisher = Running([sys.executable, "-m", "tick_gateway", *publish], stdin=True)
        self._feeder = Feeder(self._publisher, rate, seed)
        self._sealed: dict[Path, str] = {}  # what was in them when they were sealed

    async def run(self, kills: int) -> Figures:
        begun = time.monotonic()
        feeding = asyncio.create_task(self._feeder.run())
        try:
            async with self._gateway:
                first = await request(self._gateway.port, "/poll?timeout=60")
                assert first.status == 200 and (await first.json())["t"] == FIRST
                async with ReconnectingReaders(self._gateway.port, RUN) as readers:
                    for _ in range(kills):
                        await asyncio.sleep(self._random.uniform(0.1, self._life))
                        await self._kill(readers)
                        if feeding.done():
                            feeding.result()
                    self._feeder.over.set()
                    await feeding
                    await self._end(readers)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            close_all()
            self._publisher.kill()
        self.figures.seconds = time.monotonic() - begun
        return self.figures

    async def _kill(self, readers: ReconnectingReaders) -> None:
        """Kill the gateway, see what is left, start the next one, and let everybody in again."""
        readers.up.clear()
        self._gateway.signal(signal.SIGKILL)
        self._publisher.process.send_signal(signal.SIGSTOP)
        lagged = await self._buried()
        await readers.away()
        self._look_at_files(recovered=False)
        self._gateway.begin()
        if self._random.random() < 0.3:
            await asyncio.sleep(self._random.uniform(0.0, 0.5))
            self._gateway.signal(signal.SIGKILL)
            await self._buried()
            self.figures.early += 1
            self._gateway.begin()
        await self._gateway.listening()
        self._look_at_files(recovered=True)
        await self._look_at_history(readers.newest, lagged)
        self._publisher.process.send_signal(signal.SIGCONT)
        readers.up.set()

    async def _buried(self) -> bool:
        """Wait until the gateway is gone; returns whether live went on without the disk in its life."""
        self.figures.kills += 1
        lags = (await self._gateway.buried()).count("live goes on without it")
        self.figures.lags += lags
        return lags > 0

    def _look_at_files(self, *, recovered: bool) -> None:
        """Sealed segments (``recovered``: all of them) are whole zstd files, and never change again."""
        paths = history_files.segments(self._gateway.directory, RUN)
        paths = paths if recovered else paths[:-1]
        history_files.whole(*paths)
        for path in paths[:-1]:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert self._sealed.setdefault(path, digest) == digest, f"{path.name} has changed since it was sealed"
        assert set(self._sealed) <= set(paths) or not recovered, "a sealed segment is gone"
        self.figures.segments = len(paths)

    async def _look_at_history(self, seen: int, lagged: bool) -> None:
        """History is every tick up to a tip, and no client has ``seen`` one beyond it."""
        health = await ask(self._gateway.port, "/healthz")
        assert health["status"] == "ok", health
        have, gap = await range_of(self._gateway.port, RUN)
        wanted = self._feeder.lines[: len(have)]
        assert have == wanted and gap is None, (difference(have, wanted), gap)
        kept = json.loads(have[-1])["t"]
        lost = self._feeder.ledger.between(RUN, kept, seen)
        assert not lost or lagged, f"ticks {lost[:10]} were seen by a client, and history has none after {kept}"
        self.figures.lost += len(lost)

    async def _end(self, readers: ReconnectingReaders) -> None:
        """The simulation is over: the publisher ends well, everybody comes to the last tick, and so did history."""
        code = await asyncio.to_thread(self._publisher.wait)
        assert code == 0, self._publisher.report()
        ledger, wanted = self._feeder.ledger, self._feeder.lines
        await readers.reach(ledger.tip[1])
        have, gap = await range_of(self._gateway.port, RUN)
        assert have == wanted and gap is None, (difference(have, wanted), gap)
        for name, notices in readers.check(ledger).items():
            assert not notices, f"{name} was told {notices[:5]}"
        self.figures.visits = {client.name: client.visits for client in readers.clients}
        readers.up.clear()
        await self._gateway.stop()
        self._look_at_files(recovered=True)
        have = history_files.lines(self._gateway.directory, RUN)
        assert have == wanted, difference(have, wanted)
        self.figures.ticks = len(wanted)


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
        patient: the gateway takes no busy machine for a slow disk (see ``tests.perf.patient``).
        life: seconds that a gateway has at most.

    Raises:
        AssertionError: a promise was broken.
    """

    async def run() -> Figures:
        module = "tests.perf.patient" if patient else "tick_gateway"
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
