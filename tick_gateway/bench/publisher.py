"""The bench's own ticks: a flock, of a given size, each with the moment at which it was published.

``{"t":T,"ts":NANOSECONDS,"agents":[…]}``: ``ts`` comes right after ``t``, so that readers find both without reading the
rest. They are sent to ``POST /publish`` as one NDJSON body per job, from a process of their own.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection as Pipe
from typing import Final

import orjson

from ..client.tls import Secured, reason
from ..sources.boids import Flock, padded
from .decoders import AnswerError, BodyDecoder, parse_head
from .network import Namespace, enter
from .processes import set_up_child

_AGENT_BYTES: Final = 58
_MOST_AGENTS: Final = 400  # larger ticks are filled up with noise
_CYCLE_BYTES: Final = 4 << 20  # ticks repeat after this: far beyond a compressor's window
_CYCLE_TICKS: Final = 4000
_HEAD_BYTES: Final = len('{"t":1000,"ts":1700000000000000000}')
_BURST: Final = 64  # ticks in one chunk, when publishing as fast as possible
_NAP_SECONDS: Final = 0.0005


@dataclass(frozen=True, slots=True)
class PublishJob:
    """What to publish: ticks ``first`` to ``first + count - 1`` of a run. ``rate`` a second; 0: as fast as possible."""

    run: str
    first: int
    count: int
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class JobReport:
    """The result: seconds from the first to the last tick, and what went wrong (empty: nothing)."""

    count: int
    seconds: float
    problem: str = ""


@cache
def bodies(size: int) -> list[bytes]:
    """What follows ``ts`` in each tick, with its line break, for ticks of about ``size`` bytes."""
    room = size - _HEAD_BYTES
    flock = Flock(agents=min(max(room // _AGENT_BYTES, 1), _MOST_AGENTS), seed=1)
    count = min(max(_CYCLE_BYTES // max(size, 1), 16), _CYCLE_TICKS)
    ticks = (flock.step() for _ in range(count))
    lines = [orjson.dumps({k: v for k, v in padded(tick, room).items() if k != "t"}) for tick in ticks]
    return [b"," + line[1:] + b"\n" for line in lines]


class LoadPublisher:
    """Sends ticks to one gateway.

    Args:
        address: family, and what ``connect`` takes.
        host, base: for the request; what the gateway is mounted under.
        patience: seconds that one write or read may last.
        tls: how it is spoken to over https; None: it is http.
    """

    def __init__(
        self,
        address: tuple[int, tuple[str, int]],
        host: str,
        base: str,
        token: str,
        size: int,
        patience: float,
        tls: Secured | None = None,
    ) -> None:
        self._address, self._patience, self._tls = address, patience, tls
        self._bodies = bodies(size)
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._head = (
            f"POST {base}/publish HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-ndjson\r\n{authorization}"
            "Transfer-Encoding: chunked\r\nConnection: close\r\nTick-Run: "
        )

    def publish(self, job: PublishJob) -> JobReport:
        """Publish, and wait for the answer.

        Raises:
            OSError, AnswerError: the connection failed.
        """
        with self._connect() as sock:
            sock.sendall(f"{self._head}{job.run}\r\n\r\n".encode())
            began = time.perf_counter()
            try:
                for due in paced(job):
                    lines = b"".join([self._line(t) for t in due])
                    sock.sendall(b"%x\r\n%s\r\n" % (len(lines), lines))
                took = time.perf_counter() - began
                sock.sendall(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                took = time.perf_counter() - began  # refused before the end: the answer says why
            return JobReport(job.count, took, _problem(sock))

    def _connect(self) -> socket.socket:
        family, address = self._address
        sock = socket.socket(family)
        try:
            sock.settimeout(self._patience)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock if self._tls is None else self._tls.wrap(sock)
        except BaseException:
            sock.close()
            raise

    def _line(self, t: int) -> bytes:
        return b'{"t":%d,"ts":%d%s' % (t, time.time_ns(), self._bodies[t % len(self._bodies)])


def paced(job: PublishJob) -> Iterator[range]:
    """Numbers of ticks as they come due."""
    sent, last = job.first, job.first + job.count
    began = time.perf_counter()
    while sent < last:
        upto = sent + _BURST
        if job.rate:
            upto = min(job.first + 1 + int((time.perf_counter() - began) * job.rate), upto)
        if upto > sent:
            yield range(sent, min(upto, last))
            sent = min(upto, last)
        else:
            time.sleep(_NAP_SECONDS)


def _problem(sock: socket.socket) -> str:
    """Read the answer; returns what went wrong, or empty."""
    data = b""
    while (found := parse_head(data)) is None:
        if not (more := sock.recv(1 << 16)):
            raise AnswerError("the gateway closed the publisher's connection")
        data += more
    head, rest = found
    body, text = BodyDecoder(head), b""
    text += body.feed(rest)
    while not body.ended and (more := sock.recv(1 << 16)):
        text += body.feed(more)
    if head.status == 200:
        return ""
    try:
        return f"publishing was answered {head.status}: {json.loads(text)['message']}"
    except (ValueError, KeyError, TypeError):
        return f"publishing was answered {head.status}"


def serve(publisher: LoadPublisher, namespace: Namespace | None, pipe: Pipe) -> None:
    """The main function of a publishing process: receives jobs, sends reports."""
    set_up_child()
    if namespace is not None:
        enter(namespace)
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            done = publisher.publish(job)
        except (OSError, AnswerError) as error:
            done = JobReport(0, 0.0, f"the publisher lost the gateway: {reason(error)}")
        pipe.send(done)
