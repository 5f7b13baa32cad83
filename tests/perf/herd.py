"""What a crowd may do at once: ``python -m tests.perf.herd --clients 1000``.

Four scenes, each with a gateway process of its own: the run changes under all readers; all reconnect at once with old
positions; ticks of 1 MB; readers of which half never read. Each prints how many ticks were lost, repeated or out of
order, how long the gateway's loop stood still at most, and its resident memory. Loopback only; ends by itself.

Where all reconnect, the gateway is stopped on purpose until they have knocked, as after a restart: the stall that is
printed includes that time, ``own`` does not (see ``watched``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.perf.readers import KIND_NAMES, Reader, knock
from tick_gateway.http.listen import loop_factory

PATIENCE = 120.0  # seconds that a scene may wait for its readers
MB = 1 << 20


@dataclass
class Figures:
    """What a scene came to. ``stall`` and ``own`` in seconds, ``grown`` and ``rss`` in bytes."""

    scene: str
    readers: int
    ticks: int
    lost: int = 0
    repeated: int = 0
    notices: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    stall: float = 0.0
    own: float = 0.0
    rss: int = 0
    grown: int = 0

    def __str__(self) -> str:
        told = ", ".join(f"{count} {name}" for name, count in sorted(self.notices.items())) or "none"
        return (
            f"{self.scene}: {self.readers} readers, {self.ticks} ticks: lost {self.lost}, repeated {self.repeated}, "
            f"notices: {told}; {self.seconds:.1f} s; longest stall {self.stall * 1e3:.0f} ms "
            f"(own {self.own * 1e3:.0f} ms); memory {self.rss / MB:.0f} MB (grown by {self.grown / MB:.0f})"
        )


class PublishedGateway:
    """A gateway process, a publisher's connection to it, and the ticks that were published."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process, self.port = process, port
        self.published = 0
        self.readers: list[Reader] = []
        self._run, self._t = "", -1
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def figures(self) -> dict[str, Any]:
        """Of the gateway, since this was asked for last."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(b"\n")
        found: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return found

    async def publish(self, count: int, size: int, run: str) -> None:
        """So many ticks of about ``size`` bytes, in one POST."""
        if run != self._run:
            self._run, self._t = run, -1
        lines = []
        for _ in range(count):
            self._t += 1
            lines.append(b'{"t":%d,"u":%d,"x":"%s"}\n' % (self._t, self.published, b"x" * size))
            self.published += 1
        body = b"".join(lines)
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        head = f"POST /publish?run={run} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        writer.write(body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        told = json.loads(await reader.readexactly(length))
        assert told["accepted"] == count, told

    async def enter(
        self, count: int, query: Callable[[int], str], first: Callable[[int], int], *, idle: int = 0, herd: bool = False
    ) -> None:
        """Let so many readers in, of all kinds in turn; ``idle`` of them never read.

        Args:
            first: the first tick that each has to get.
            herd: the gateway stands still until all have knocked, as after a restart.
        """
        if herd:
            self._process.send_signal(signal.SIGSTOP)
        knocking = [
            asyncio.ensure_future(knock(self.port, KIND_NAMES[i % len(KIND_NAMES)], query(i), first(i), i < idle))
            for i in range(count)
        ]
        await asyncio.wait(knocking, timeout=5)  # where the system lets fewer wait to be accepted, the rest comes later
        if herd:
            self._process.send_signal(signal.SIGCONT)
        self.readers = await asyncio.gather(*knocking)
        await asyncio.gather(*(reader.begun for reader in self.readers))

    async def all_have_all(self) -> None:
        """Returns when every reader that reads has the newest tick; after PATIENCE in any case."""
        waiting = [reader.reach(self.published) for reader in self.readers if not reader.idle]
        await asyncio.wait([asyncio.ensure_future(each) for each in waiting], timeout=PATIENCE)


@asynccontextmanager
async def published_gateway(**settings: Any) -> AsyncIterator[PublishedGateway]:
    command = [sys.executable, "-m", "tests.perf.watched", json.dumps(settings)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        found = PublishedGateway(process, int(await process.stdout.readline()))
        yield found
        for reader in found.readers:
            reader.close()
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 30)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def measured(scene: str, found: PublishedGateway, play: Callable[[], Awaitable[None]]) -> Figures:
    """Play a scene, and count."""
    before = await found.figures()
    start = time.monotonic()
    await play()
    seconds, after = time.monotonic() - start, await found.figures()
    figures = Figures(scene, len(found.readers), found.published, seconds=seconds)
    figures.stall, figures.own, figures.rss = after["stall"], after["own"], after["rss"]
    figures.grown = after["rss"] - before["rss"]
    for reader in found.readers:
        if not reader.idle:
            figures.lost += reader.lost + max(found.published - reader.next, 0)
            figures.repeated += reader.repeated
            for name in reader.notices:
                figures.notices[name] = figures.notices.get(name, 0) + 1
    return figures


async def change_of_run(clients: int) -> Figures:
    """The simulation starts over, three times, under everybody's feet."""
    async with published_gateway() as found:
        await found.publish(1, 1000, "run-0")
        await found.enter(clients, lambda _: "hello=1&from_t=run-0:-1", lambda _: 0)
        await found.all_have_all()

        async def play() -> None:
            for run in range(1, 4):
                await found.publish(50, 1000, f"run-{run}")
            await found.all_have_all()

        return await measured("change of run", found, play)


async def reconnect(clients: int) -> Figures:
    """All come back at once, each with a position of its own, while ticks go on."""
    async with published_gateway() as found:
        for _ in range(10):
            await found.publish(100, 1000, "run")

        async def play() -> None:
            await found.enter(
                clients, lambda i: f"hello=1&from_t=run:{i * 7 % 900 - 1}", lambda i: i * 7 % 900, herd=True
            )
            for _ in range(20):
                await found.publish(5, 1000, "run")
            await found.all_have_all()

        return await measured("reconnect", found, play)


async def large_ticks(clients: int) -> Figures:
    """Ticks of 1 MB to everybody."""
    async with published_gateway() as found:
        await found.publish(1, 1000, "run")
        await found.enter(clients, lambda _: "hello=1&from_t=run:-1", lambda _: 0)
        await found.all_have_all()

        async def play() -> None:
            for _ in range(6):
                await found.publish(2, MB, "run")
                await found.all_have_all()

        return await measured("ticks of 1 MB", found, play)


async def half_never_reads(clients: int) -> Figures:
    """Half of the readers never read, and what is published would fill any memory."""
    async with published_gateway(ring_bytes=8 * MB, encoded_bytes=4 * MB) as found:
        await found.publish(1, 1000, "run")
        await found.enter(clients, lambda _: "hello=1&from_t=run:-1", lambda _: 0, idle=clients // 2)
        await found.all_have_all()

        async def play() -> None:
            for _ in range(25):
                await found.publish(50, 20_000, "run")
                await found.all_have_all()

        return await measured("half never read", found, play)


SCENES: dict[str, Callable[[int], Awaitable[Figures]]] = {
    "run": change_of_run,
    "reconnect": reconnect,
    "large": large_ticks,
    "idle": half_never_reads,
}


def more_files() -> None:
    """Let this process and the gateway that it starts have as many connections as the system allows."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=1000, help="readers; a fiftieth of them for ticks of 1 MB")
    parser.add_argument("--scene", choices=[*SCENES, "all"], default="all")
    args = parser.parse_args(arguments)
    more_files()
    for name, scene in SCENES.items():
        if args.scene in (name, "all"):
            clients = max(args.clients // 50, 20) if name == "large" else args.clients

            async def play(scene: Callable[[int], Awaitable[Figures]] = scene, clients: int = clients) -> Figures:
                return await scene(clients)

            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                print(runner.run(play()), flush=True)


if __name__ == "__main__":
    main()
