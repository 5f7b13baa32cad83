"""The memory of a gateway that reads files which are small and become large: ``python -m tests.perf.file_memory``.

Files of zstd of some kilobytes hold hundreds of megabytes: valid ticks, one line, ticks as large as they may be, with a
checksum, with the largest window (which comes on top), in a frame that is still open; and the same as plain text. Each
is brought by `tick-gateway import`, and followed by `serve --tail`: with and without `--data`, there from the beginning
and appearing later, and then read from its beginning by several at once. Prints the largest resident set (``VmHWM``) of
each process, in MB, and how long it took. Loopback only; ends by itself. Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import zstandard

from tests.support.gateway_process import LISTENING, PATIENCE, Running
from tests.support.requests import ask

MOST_MB = 150
LOOK_SECONDS = 0.02
WAYS = ("import", "tail", "tail, read", "tail, later", "tail with data", "tail with data, later")
READERS = 3


def ticks(count: int, size: int) -> Iterator[bytes]:
    """Lines of ticks of so many bytes."""
    for t in range(count):
        yield b'{"t":%d,"pad":"%s"}\n' % (t, b"x" * (size - 30))


def one_line(size: int) -> Iterator[bytes]:
    """A line of so many bytes, and a tick behind it."""
    yield b'{"t":0,"pad":"'
    for _ in range(size // 1_000_000):
        yield b"y" * 1_000_000
    yield b'"}\n{"t":1}\n'


class Case:
    """A file: its name, its content, and the last tick in it."""

    def __init__(
        self,
        content: Callable[[], Iterator[bytes]],
        last: int,
        *,
        name: str = "a.jsonl.zst",
        ended: bool = True,
        **how: object,
    ):
        self.content = content
        self.last = last
        self.name = name
        self._ended = ended  # the frame is; else its writer goes on
        self._how = how

    def write(self, folder: Path) -> Path:
        path = folder / self.name
        with path.open("wb") as file:
            if self.name.endswith(".zst"):
                writer = zstandard.ZstdCompressor(**self._how).stream_writer(file, closefd=False)  # type: ignore[arg-type]
                for piece in self.content():
                    writer.write(piece)
                writer.flush(zstandard.FLUSH_FRAME if self._ended else zstandard.FLUSH_BLOCK)
            else:
                file.writelines(self.content())
        return path


def cases(share: float = 1.0) -> dict[str, Case]:
    """All kinds of files; ``share``: of the full size."""
    count, size = int(300 * share), int(600_000_000 * share)
    wide = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    return {
        "ticks of 1 MB": Case(lambda: ticks(count, 1_000_000), count - 1),
        "the same with a checksum": Case(lambda: ticks(count, 1_000_000), count - 1, write_checksum=True),
        "ticks of 10 bytes": Case(lambda: ticks(count * 3000, 40), count * 3000 - 1),
        "a window of 128 MiB": Case(lambda: ticks(count, 1_000_000), count - 1, compression_params=wide),
        "the same, still open": Case(lambda: ticks(count, 1_000_000), count - 1, compression_params=wide, ended=False),
        "one line": Case(lambda: one_line(size), 1),
        "one line, plain": Case(lambda: one_line(size), 1, name="a.jsonl"),
        "ticks of 8 MB": Case(lambda: ticks(count // 8, 8_380_000), count // 8 - 1),
    }


def peak(pid: int) -> int:
    """The largest resident set of a process so far, bytes; 0: it is over."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def read_all(port: int) -> None:
    """Read everything, and keep none of it."""
    with urlopen(f"http://127.0.0.1:{port}/range", timeout=4 * PATIENCE) as answer:
        while answer.read(1 << 16):
            continue


async def measure(case: Case, way: str) -> int:
    """The largest resident set of a process that reads a file in a way, bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder, away, data = Path(name) / "files", Path(name) / "away", Path(name) / "history"
        folder.mkdir()
        away.mkdir()
        path = case.write(away)
        later = way.endswith("later")
        if not later:
            path.rename(folder / case.name)
        kept = ["--data", str(data)] if "data" in way or way == "import" else []
        arguments = ["import", str(folder)] if way == "import" else ["serve", "--port", "0", "--tail", str(folder)]
        with Running([sys.executable, "-m", "tick_gateway", *arguments, *kept]) as running:
            pid, most = running.process.pid, 0
            if way == "import":
                while (now := peak(pid)) and running.process.poll() is None:
                    most = max(most, now)
                    await asyncio.sleep(LOOK_SECONDS)
                return most
            listening = await asyncio.to_thread(running.stderr.find, LISTENING)
            assert listening is not None, running.report()
            if later:
                path.rename(folder / case.name)
            async with asyncio.timeout(4 * PATIENCE):
                while True:
                    if (await ask(int(listening[1]), "/meta"))["tip"] == case.last:
                        break
                    await asyncio.sleep(LOOK_SECONDS)
            if way.endswith("read"):
                await asyncio.gather(*(asyncio.to_thread(read_all, int(listening[1])) for _ in range(READERS)))
            return peak(pid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the full size")
    arguments = parser.parse_args()
    for what, case in cases(arguments.share).items():
        for way in WAYS:
            began = time.monotonic()
            most = asyncio.run(measure(case, way)) / 1e6
            told = "" if most < MOST_MB else f"  more than {MOST_MB}"
            print(f"{what:26} {way:22} {most:6.0f} MB {time.monotonic() - began:6.1f} s{told}", flush=True)


if __name__ == "__main__":
    main()
