"""Reads with every good, bad and odd parameter and header, while history grows, rotates and is retained away:
``python -m tests.perf.odd_reads --requests 3000``.

Prints how many of which answers came; raises where one is a 500, is no HTTP, does not hold what it says, or looks
whole and is not. Less than a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import io
import json
import tempfile
import zlib
from collections import Counter
from random import Random
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import zstandard

from tests.support.async_client import Response, request
from tests.support.harness import Harness

READERS = 8
ARGUMENTS = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
ARGUMENTS.add_argument("--requests", type=int, default=3000)
ARGUMENTS.add_argument("--seed", type=int, default=1)
SETTINGS: dict[str, Any] = {
    "ring": 60, "block_bytes": 4000, "segment_bytes": 6000, "retain_bytes": 60_000, "history_cache": 100_000,
    "fsync": "never",
}  # fmt: skip

_ODD = ["", "-1", "1e3", "9" * 20, "9007199254740992", "+1", " 1", "a", "\0", "٣", "NaN", "A:5", "nope:3", ":", "é"]
_GOOD = {
    "t0": ["0", "100", "350"], "t1": ["50", "250", "380"], "run": ["A"], "format": ["json", "ndjson", "csv", "arrow"],
    "fields": ["x", "a.b", "a.c.b,é", "nope", "t", ""], "every": ["1", "3"], "batch": ["1", "7"], "stamp": ["1", "0"],
    "limit": ["1", "10", "9999"], "tail": ["0", "10", "9999"], "from_t": ["5", "A:300"],
    "since": ["2020-01-01T00:00:00Z"],
}  # fmt: skip
_MORE = {
    "fields": [",", "a..b", "x" * 3000, ",".join(map(str, range(65)))], "run": ["B", "A/../B", "x" * 65],
    "since": ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9-23:59", "2026-02-30T00:00:00Z"], "nope": ["1"],
    "lag": ["skip", "x"], "speed": ["0"], "timeout": ["0", "x"], "lastEventId": ["A:7", "x"], "event": ["error"],
}  # fmt: skip
_BAD = {name: [*_GOOD.get(name, ()), *_MORE.get(name, ()), *_ODD] for name in {*_GOOD, *_MORE}}
_HEADERS = {
    "Range": [
        "bytes=0-0", "bytes=0-", "bytes=-0", "bytes=-1", "bytes=-999999999", "bytes=5-2", "bytes=0-1,5-9",
        "bytes=999999999-", "bytes=" + "9" * 18 + "-", "bytes=0-" + "9" * 30, "bytes=", "bytes=-", "Bytes=1-5",
        "lines=0-1", "bytes 0-1", "bytes= 1 - 5", "bytes=100-2000", "",
    ],
    "Accept-Encoding": ["gzip", "zstd", "gzip, zstd", "identity;q=0", "*;q=0", "br", "zstd;q=x", ", ,"],
    "Accept": ["*/*", "application/json", "application/x-ndjson", "text/event-stream", "\xff"],
    "If-None-Match": ["*", '"x"', 'W/"x", "y"', ",", '"'],
    "If-Range": ['"x"', 'W/"x"', "Sat, 28 Nov 2026 08:00:00 GMT"],
    "User-Agent": ["node", "got (x)"],
}  # fmt: skip
_PATHS = [
    *["/range"] * 8, "/latest", "/ticks/5", "/ticks/-1", "/ticks/é", "/runs", "/segments", "/incremental",
    "/segments/A/x", "/segments/A/..%2fB", *["segment"] * 5,
]  # fmt: skip


class Attack:
    """Readers of one gateway.

    Attributes:
        answers: how many came, by path and status.
    """

    def __init__(self, harness: Harness, random: Random) -> None:
        self.answers: Counter[str] = Counter()
        self._harness = harness
        self._random = random
        self._tags: list[str] = []
        self._files: list[str] = ["/segments/A/0000000000000000.jsonl.zst"]
        self._t = 0

    async def run(self, requests: int) -> None:
        """Send so many requests, and publish meanwhile."""
        await self._publish(400)
        left = iter(range(requests))
        readers = [asyncio.ensure_future(self._read(left)) for _ in range(READERS)]
        while not all(reader.done() for reader in readers):
            await self._publish(self._random.randint(1, 20))
            listed = (await self._harness.json("/segments"))["segments"]
            self._files = ["/" + one["path"] for one in listed]
        await asyncio.gather(*readers)

    async def _publish(self, count: int) -> None:
        for t in range(self._t, self._t + count):
            own = {f"k{t % 5}": t, "a": [{"b": t, "c": [1, {"b": 2}]}, 3], "é": None, "s": f"n{t * 7919 % 1000}"}
            self._harness.gateway.publish({"t": t, "x": t / 2} | own, run="A")
        self._t += count
        await self._harness.runtime.history.settled()
        await self._harness.settle()

    async def _read(self, left: Any) -> None:
        for _ in left:
            target, headers = self._made_up()
            method = self._random.choice(["GET"] * 6 + ["HEAD"])
            told = f"{method} {target} {headers}"
            response = await request(self._harness.port, target, method=method, headers=headers)
            path = urlsplit(target).path
            self.answers[f"{path.rpartition('/')[0] or path} {response.status}"] += 1
            assert response.status < 500, told
            if "ETag" in response.headers:
                self._tags = [*self._tags[-9:], response.headers["ETag"]]
            if method == "HEAD":
                response.close()
                continue
            try:
                body = b"".join([piece async for piece in response.coded()])
            except (
                asyncio.IncompleteReadError,
                ConnectionError,
            ):  # retained away, and does not look whole
                self.answers["broken off"] += 1
                continue
            response.close()
            try:
                check(target, response, body)
            except Exception as error:
                raise AssertionError(f"{told}: {response.status} {dict(response.headers)} {body[:200]!r}") from error

    def _made_up(self) -> tuple[str, dict[str, str]]:
        random = self._random
        path = random.choice(_PATHS)
        path = random.choice(self._files) if path == "segment" else quote(path, safe="/%")
        values = _GOOD if random.random() < 0.6 else _BAD
        names = random.sample(sorted(values), random.randint(0, 4))
        pairs = [(name, random.choice(values[name])) for name in names]
        if random.random() < 0.6:  # of what never changes
            pairs = [("run", "A"), ("t1", "380"), *(pair for pair in pairs if pair[0] not in ("run", "t1"))]
        headers = {name: random.choice(some) for name, some in _HEADERS.items() if random.random() < 0.25}
        for name in ("If-None-Match", "If-Range"):
            if self._tags and name in headers and random.random() < 0.5:
                headers[name] = random.choice(self._tags)
        query = "&".join(f"{name}={quote(value, safe=':')}" for name, value in pairs)
        return path + (f"?{query}" if query else ""), headers


def check(target: str, response: Response, body: bytes) -> None:
    """Whether an answer is what it says."""
    size = response.headers.get("Content-Length")
    assert size is None or response.status in (204, 304) or int(size) == len(body)
    if response.status == 206:
        first, last = response.headers["Content-Range"].removeprefix("bytes ").partition("/")[0].split("-")
        assert int(last) - int(first) + 1 == len(body)
        return
    coding = response.headers.get("Content-Encoding")
    if coding == "zstd":
        body = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()
    elif coding == "gzip":
        body = zlib_whole(body)
    if response.status >= 400 and response.status != 416:
        assert json.loads(body)["message"]
    if response.status != 200:
        return
    path = urlsplit(target).path
    asked = {name: found[-1] for name, found in parse_qs(urlsplit(target).query, keep_blank_values=True).items()}
    if path == "/range":
        numbers = numbers_of(response.headers["Content-Type"], body)
        every = int(asked.get("every") or 1)
    elif path.startswith("/segments/"):
        lines = zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read().splitlines()
        numbers, every = [json.loads(line)["t"] for line in lines], 1
    else:
        json.loads(body) if response.headers["Content-Type"].startswith("application/json") else body.splitlines()
        return
    if numbers and "Tick-Gap" not in response.headers:
        assert numbers == list(range(numbers[0], numbers[-1] + 1, every)), "each once"
    assert numbers == sorted(set(numbers))


def numbers_of(media_type: str, body: bytes) -> list[int]:
    """The numbers of the ticks in a range."""
    if media_type.startswith("text/csv"):
        return [int(row["t"]) for row in csv.DictReader(io.StringIO(body.decode(), newline=""))]
    if media_type.startswith("application/vnd.apache.arrow"):
        import pyarrow

        return [int(t) for t in pyarrow.ipc.open_stream(body).read_all().column("t").to_pylist()]
    items = json.loads(body) if media_type == "application/json" else [json.loads(line) for line in body.splitlines()]
    return [one["t"] for item in items for one in (item if isinstance(item, list) else [item])]


def zlib_whole(body: bytes) -> bytes:
    """What one gzip member holds, all of which is there."""
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    found = stream.decompress(body)
    assert stream.eof and not stream.unused_data
    return found


async def main() -> None:
    args = ARGUMENTS.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        async with Harness(data=directory, **SETTINGS) as harness:
            attack = Attack(harness, Random(args.seed))
            await attack.run(args.requests)
    for answer, count in sorted(attack.answers.items()):
        print(f"{count:6} {answer}")


if __name__ == "__main__":
    asyncio.run(main())
