"""The HTTP clients that users have read finished and live streams, in every coding that they ask for by themselves.

Each is used in its plainest way, by a program in `readers`. All streams of a client go on at the same time: those of a
run that is over, from history and memory; and those of a run that goes on, whose next tick is published when the client
has shown the last one, until it ends, and the gateway after it. A stream is whole where the client's library finds
nothing wrong with its end.
"""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.support import needs
from tests.support.blocking_client import port_of
from tests.support.cutting_proxy import Network
from tests.support.gateway_process import PATIENCE, Publisher, Running, difference, publish
from tick_gateway import Gateway

READERS = Path(__file__).parent / "readers"
GZIP, ZSTD, PLAIN, ITSELF = "gzip", "zstd", "identity", "-"

DONE, LIVE = 300, 12
"""Ticks of the run that is over, and of the one that goes on."""


@dataclass(frozen=True)
class Client:
    """A client, and what it is seen to do.

    Attributes:
        name: for the test; the first word is its program's.
        kind: what its program is told to read with.
        asks: for which of the gateway's codings it asks by itself.
        takes: which it decodes where it is told to ask for them; None: those.
        one_frame: in zstd, it reads one frame, so that the gateway sends it no streams in it.
        whole: it hands out an answer when all of it is there.
    """

    name: str
    kind: str
    asks: tuple[str, ...] = ()
    takes: tuple[str, ...] | None = None
    one_frame: bool = False
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.name}-{self.kind}"

    @property
    def codings(self) -> tuple[str, ...]:
        return (ITSELF, PLAIN, *(self.asks if self.takes is None else self.takes))

    def command(self, folder: Path) -> list[str]:
        """What starts its program, which is compiled to `folder`, up to its jobs. Where something is missing, it ends
        the test."""
        if self.name == "go":
            return [needs.go_program(READERS / "reader.go", folder), self.kind]
        if self.name == "java":
            return [*needs.java_program(READERS / "Reader.java", folder), self.kind]
        if self.name.startswith("node"):
            needs.node_packages()
            return [needs.node_release(int(self.name.removeprefix("node"))), str(needs.JS / "reader.mjs"), self.kind]
        if self.name == "python":
            needs.module(self.kind.partition("-")[0])
        else:
            needs.program(self.name)
        return [sys.executable, "-m", "tests.interop.readers.reader", self.kind]


BACKPORT = (ZSTD,) if sys.version_info >= (3, 14) or (find_spec("backports") and find_spec("backports.zstd")) else ()
"""What some clients in Python ask for by themselves where they find a decoder."""

CLIENTS = (
    Client("go", "net/http", (GZIP,), ()),
    Client("java", "HttpClient", (), (GZIP,)),
    Client("java", "URLConnection", (), (GZIP,)),
    Client("node18", "fetch", (GZIP,)),
    Client("node20", "fetch", (GZIP,)),
    Client("node22", "fetch", (GZIP,)),
    Client("node24", "fetch", (GZIP,), (GZIP, ZSTD), one_frame=True),
    Client("node20", "got", (GZIP,)),
    Client("node24", "got", (GZIP, ZSTD), one_frame=True),
    Client("node24", "got-whole", (GZIP, ZSTD), one_frame=True, whole=True),
    Client("node18", "axios", (GZIP,)),
    Client("node24", "axios", (GZIP,)),
    Client("node24", "axios-whole", (GZIP,), whole=True),
    Client("python", "urllib3", (GZIP, *BACKPORT)),
    Client("python", "requests", (GZIP, *BACKPORT)),
    Client("python", "requests-whole", (GZIP, *BACKPORT), whole=True),
    Client("python", "httpx", (GZIP, ZSTD)),
    Client("python", "aiohttp", (GZIP, *BACKPORT)),
    Client("curl", "curl", (GZIP, ZSTD)),
    Client("curl", "curl-plain"),
    Client("wget", "wget", (), (GZIP,)),
)


@dataclass(frozen=True)
class Stream:
    """An address, and when its answer ends: at once, with the run, or with the gateway."""

    path: str
    ends: str = "at once"

    @property
    def pull(self) -> bool:
        return self.path.startswith(("/range", "/incremental"))

    @property
    def live(self) -> bool:
        return self.ends != "at once"


STREAMS = (
    *(
        stream
        for path in ("/ndjson", "/sse")
        for stream in (
            Stream(f"{path}?run=done&from_t=done:-1"),
            Stream(f"{path}?from_t=done:-1&limit={DONE}"),
            Stream(f"{path}?run=live&from_t=live:-1", "with the run"),
            Stream(f"{path}?from_t=live:-1", "with the gateway"),
        )
    ),
    Stream("/range?run=done"),
    Stream("/range?run=done&format=ndjson"),
    Stream(f"/incremental?from_t=done:-1&limit={DONE}"),
)


@dataclass
class Job:
    """One stream, asked for in one coding: the lines that the client showed, and how it ended."""

    stream: Stream
    coding: str
    lines: list[str] = field(default_factory=list)
    end: str = ""

    @property
    def ticks(self) -> list[str]:
        if self.lines and self.lines[0].startswith("["):
            ticks = "".join(self.lines).removeprefix("[").removesuffix("]").split(',{"t"')
            return [ticks[0], *(f'{{"t"{tick}' for tick in ticks[1:])]
        return [line for raw in self.lines if (line := raw.removeprefix("data: ")).startswith('{"t"')]

    def has(self, t: int) -> bool:
        return any(line.startswith((f'{{"t": {t},', f'data: {{"t": {t},')) for line in self.lines[-4:])


class Reading:
    """What a client's program says of its jobs."""

    def __init__(self, running: Running, jobs: list[Job]) -> None:
        self._running, self._jobs = running, jobs
        self._seen = 0

    def until(self, condition: Callable[[], bool]) -> bool:
        """Reads on until a condition holds. False: no more comes."""
        while not condition():
            more = self._running.stdout.more(self._seen)
            if not more:
                return False
            self._seen += len(more)
            for line in more:
                at = next(i for i, character in enumerate(line) if not character.isdigit())
                job = self._jobs[int(line[:at])]
                if line[at] == "|":
                    job.lines.append(line[at + 1 :])
                else:
                    job.end = line[at:]
        return True


def tick(t: int) -> str:
    """As it is published. Some of its characters many readers of lines take for ends of lines; these come escaped."""
    text = "Zürich, 東京, 🐦, \u0085, \u2028, \u2029"
    return json.dumps({"t": t, "text": text, "x": [t * 0.1 + i for i in range(20)]}, ensure_ascii=False)


def shown(t: int) -> str:
    return re.sub("[\u0085\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", tick(t))


def live_through(client: Client, command: list[str], folder: Path) -> tuple[list[Job], list[tuple[str, str]]]:
    """Lets a client read all streams; returns its jobs, and the heads of requests and answers, in the jobs' order."""
    jobs = [Job(stream, coding) for stream in STREAMS for coding in client.codings]
    gateway = Gateway.in_thread(host="127.0.0.1", port=0, data=folder / "history", block_bytes=8192, ring=50)
    url = f"http://127.0.0.1:{port_of(gateway)}"
    with gateway, Network(port_of(gateway), narrow=False) as network:
        for start in range(0, DONE, 50):
            publish(url, map(tick, range(start, start + 50)), run="done")
        proxy = network.proxy()
        arguments = []
        for ident, job in enumerate(jobs):  # an address's heartbeat tells the request of the job, too
            arguments += [str(ident), job.coding, f"{proxy.url}{job.stream.path}&heartbeat={1000 + ident}"]
        with Publisher(url, run="live") as publisher, Running([*command, *arguments]) as running:
            publisher.publish([tick(0)])
            reading = Reading(running, jobs)
            live = [job for job in jobs if job.stream.live]
            for t in range(LIVE):
                if not client.whole:
                    all_have = reading.until(lambda t=t: all(job.has(t) or job.end for job in live))  # type: ignore[misc]
                    assert all_have, f"tick {t} is not shown: {[job for job in live if not job.has(t)]}"
                if t + 1 < LIVE:
                    publisher.publish([tick(t + 1)])
            ended = reading.until(lambda: all(job.end for job in jobs if not job.stream.live))
            if client.whole:
                ended &= reading.until(lambda: len(proxy.heads) >= len(jobs)) or len(proxy.heads) >= len(jobs)
            with urlopen(Request(f"{url}/runs/live/end", method="POST"), timeout=PATIENCE):
                pass
            ended &= reading.until(lambda: all(job.end for job in jobs if job.stream.ends == "with the run"))
            gateway.close("shutdown")
            ended &= reading.until(lambda: all(job.end for job in jobs))
            assert ended, f"{[job for job in jobs if not job.end]} did not end\n{running.report()}"
        asked = {head.split("heartbeat=")[1].split()[0]: (head, answer)
                 for head, answer in zip(proxy.asked, proxy.heads, strict=True)}  # fmt: skip
        return jobs, [asked[str(1000 + ident)] for ident in range(len(jobs))]


def header(head: str, name: str) -> str:
    found = (line.partition(":")[2].strip() for line in head.split("\r\n") if line.lower().startswith(f"{name}:"))
    return next(found, "")


def preferred(client: Client, job: Job) -> str:
    """The coding that an answer is to come in."""
    liked = {ITSELF: client.asks, PLAIN: ()}.get(job.coding, (job.coding,))
    order = (ZSTD, GZIP) if job.stream.pull else (GZIP,) if client.one_frame else (GZIP, ZSTD)
    return next((coding for coding in order if coding in liked), "")


def faults_of(client: Client, job: Job, asked: str, answered: str) -> list[str]:
    """What is wrong with what a client made of a stream."""
    faults = []
    if job.end != ".":
        faults.append(f"it ended with {job.end!r}")
    if parted := difference(job.ticks, [shown(t) for t in range(LIVE if job.stream.live else DONE)]):
        faults.append(parted)
    if not job.stream.pull and '"notice":"end"' not in "".join(job.lines[-3:]):
        faults.append(f"it ends with {job.lines[-3:]}, without a notice")
    asks = {part.partition(";")[0].strip() for part in header(asked, "accept-encoding").split(",")} & {GZIP, ZSTD}
    if job.coding == ITSELF and asks != set(client.asks):
        faults.append(f"by itself it asks for {header(asked, 'accept-encoding')!r}")
    if header(answered, "content-encoding") != preferred(client, job):
        faults.append(f"it is answered in {header(answered, 'content-encoding')!r}, not {preferred(client, job)!r}")
    return faults


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where programs lie that were compiled."""
    return tmp_path_factory.mktemp("built")


@pytest.mark.usefixtures("no_traceback")
@pytest.mark.parametrize("client", CLIENTS, ids=str)
def test_every_tick(client: Client, built: Path, tmp_path: Path) -> None:
    jobs, heads = live_through(client, client.command(built), tmp_path)
    faults = {}
    for job, (asked, answered) in zip(jobs, heads, strict=True):
        if found := faults_of(client, job, asked, answered):
            faults[f"{job.stream.path} ({job.coding})"] = found
    assert not faults
