"""More readers than file descriptors: ``python -m tests.perf.descriptors --readers 1200 --files 1024``.

A gateway process with history that may have so many descriptors and no more, a publisher, and readers of the three
streams in turn. Prints how many were let in and how many refused. Those that were let in have to get every tick, those
that were not the answer of their protocol; history has to hold every tick, and ``/healthz`` to answer throughout.
Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from tests.perf.herd import more_files
from tests.perf.readers import KIND_NAMES, KINDS
from tests.support.gateway_process import PATIENCE, GatewayProcess, Publisher

TICK = re.compile(rb'"t":(\d+),"u"')
REFUSED = {
    "ws": re.compile(rb"HTTP/1\.1 101 .*\x88.\x03\xf5", re.DOTALL),  # a close frame, code 1013
    "sse": re.compile(rb"HTTP/1\.1 200 .*\r\n\r\nretry: \d{5,}\nevent: overloaded\n", re.DOTALL),
    "ndjson": re.compile(rb"HTTP/1\.1 503 .*Retry-After: \d+\r\n", re.DOTALL),
}


class Reader:
    """One reader of a stream, and the ticks that it got."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.ticks: list[int] = []
        self.refused: bool | None = None  # None: it is not known yet
        self.news = asyncio.Event()

    async def read(self, port: int) -> None:
        """Connect, and read to the end."""
        path, headers = KINDS[self.kind]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path}?from_t=run:-1 HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        rest = b""
        try:
            while data := await reader.read(1 << 16):
                rest += data
                found = [*TICK.finditer(rest)]
                self.ticks += [int(match[1]) for match in found]
                if found:
                    self.refused, rest = False, rest[found[-1].end() :]
                    self.news.set()
        except ConnectionError:
            rest = b"reset"
        finally:
            writer.close()
        if self.refused is None:
            assert REFUSED[self.kind].match(rest), (self.kind, rest)
            self.refused = True
        self.news.set()

    async def until(self, t: int) -> None:
        """Return when it was refused, or has got a tick."""
        while not self.refused and (not self.ticks or self.ticks[-1] < t):
            self.news.clear()
            await self.news.wait()


@dataclass
class Figures:
    """What came of it: readers by kind."""

    let_in: Counter[str]
    refused: Counter[str]
    ticks: int
    log: str

    def __str__(self) -> str:
        return f"let in: {dict(self.let_in)}, refused: {dict(self.refused)}; {self.ticks} ticks"


async def play(readers: int, files: int) -> Figures:
    """See the head of this module; whatever is not as it should be raises AssertionError."""
    with (
        tempfile.TemporaryDirectory() as name,
        GatewayProcess("serve", "--data", str(Path(name) / "history"), files=files) as gateway,
        Publisher(gateway.url, run="run") as publisher,
    ):
        t = 0

        def publish(count: int = 10) -> None:
            nonlocal t
            answer = publisher.publish([f'{{"t":{t + i},"u":{t + i}}}' for i in range(count)])
            assert answer["stored"], answer
            t += count
            assert json.loads(_get(gateway.url, "/healthz"))["status"] == "ok"

        await asyncio.to_thread(publish)
        registry = [Reader(KIND_NAMES[i % len(KIND_NAMES)]) for i in range(readers)]
        reading = [asyncio.create_task(one.read(gateway.port)) for one in registry]
        async with asyncio.timeout(PATIENCE):
            while any(one.refused is None for one in registry):
                await asyncio.to_thread(publish)
                _fail_early(reading)
            for _ in range(5):
                await asyncio.to_thread(publish)
            await asyncio.gather(*(one.until(t - 1) for one in registry))
        _fail_early(reading)
        let_in = [one for one in registry if not one.refused]
        assert all(one.ticks == list(range(t)) for one in let_in), "a tick is lost, or came twice"
        stored = _get(gateway.url, "/range?run=run").splitlines()
        assert [json.loads(line)["t"] for line in stored] == list(range(t)), "history does not hold every tick"
        refused = readers - len(let_in)
        assert f"tick_gateway_connections_refused_total {refused:.1f}" in _get(gateway.url, "/metrics")
        log = gateway.stderr.text
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    kinds = Counter(one.kind for one in let_in)
    return Figures(kinds, Counter(one.kind for one in registry if one.refused), t, log)


def _get(url: str, path: str) -> str:
    with urlopen(url + path, timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
        return text


def _fail_early(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--readers", type=int, default=1200)
    parser.add_argument("--files", type=int, default=1024)
    args = parser.parse_args()
    more_files()
    print(asyncio.run(play(args.readers, args.files)))


if __name__ == "__main__":
    main()
