"""A process of readers: many connections of one case, on plain sockets.

Each checked connection is read tick by tick: what came, what is missing, what came again, and how old it was. The
others only drain; the kernel drops their data without a copy (tcp(7), MSG_TRUNC).
"""

from __future__ import annotations

import contextlib
import heapq
import selectors
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Final

from ..client.tls import Secured, reason
from .decoders import AnswerError
from .exchange import Answer, RequestBuilder, TickCounter
from .network import Namespace, enter
from .processes import set_up_child
from .stats import Histogram

_OPENING: Final = 16  # connections that are being opened at the same time
_TELL_SECONDS: Final = 0.25
_READ_BYTES: Final = 1 << 18
_DROP: Final = getattr(socket, "MSG_TRUNC", 0)
_NAP_SECONDS: Final = 0.25  # the longest that a look at the pipe waits


@dataclass(frozen=True, slots=True)
class ReadJob:
    """The job of a process of readers.

    Attributes:
        namespace: the network that they are in.
        address: family, and what ``connect`` takes.
        run, after: the position that they begin with.
        clients: connections; the first ``checked`` of them are read tick by tick.
        every: as in the view, so that ticks left out are not missed.
        pause: seconds after which a pull that was answered with nothing asks again.
        until: the tick at which they are done, where that is known already.
        tls: how the gateway is spoken to over https; None: it is http.
    """

    namespace: Namespace | None
    address: tuple[int, tuple[str, int]]
    requests: RequestBuilder
    run: str
    after: int
    clients: int
    checked: int
    every: int
    pause: float
    until: int | None = None
    tls: Secured | None = None


@dataclass(slots=True)
class ReadCounts:
    """The counts of a process of readers so far.

    Attributes:
        begun: every connection has its first tick (those that only drain: its answer's head), or failed.
        done: every checked connection has the last tick, or failed.
        coding: how the answers were encoded.
        ticks, lost, repeated, bytes: over all checked connections; bytes in both directions.
        behind: ticks that are still to come.
        cut: connections that failed; problem: what the first of them met.
        latency, first_tick: see ``Outcome``. reached: nanoseconds from opening a connection to the last tick on it.
    """

    begun: bool = False
    done: bool = False
    coding: str = ""
    ticks: int = 0
    lost: int = 0
    repeated: int = 0
    bytes: int = 0
    behind: int = 0
    cut: int = 0
    problem: str = ""
    latency: Histogram = field(default_factory=Histogram)
    first_tick: Histogram = field(default_factory=Histogram)
    reached: list[int] = field(default_factory=list)

    def merge(self, other: ReadCounts) -> None:
        """Add what another process saw."""
        self.begun, self.done = self.begun and other.begun, self.done and other.done
        self.coding, self.problem = self.coding or other.coding, self.problem or other.problem
        self.ticks += other.ticks
        self.lost += other.lost
        self.repeated += other.repeated
        self.bytes += other.bytes
        self.behind += other.behind
        self.cut += other.cut
        self.latency.merge(other.latency)
        self.first_tick.merge(other.first_tick)
        self.reached += other.reached


class LoadReader:
    """One reader: a connection."""

    __slots__ = (
        "_answer",
        "_connected",
        "_pool",
        "_sock",
        "_started",
        "begun",
        "bytes",
        "checked",
        "counter",
        "reached",
    )

    def __init__(self, pool: ReaderPool, checked: bool) -> None:
        self.checked = checked
        self.begun = False
        self.bytes = 0
        self.reached = 0
        job = pool.job
        self.counter = TickCounter(job.after, job.every)
        self._pool = pool
        self._connected = False
        self._answer: Answer | None = None
        family, address = job.address
        self._started = time.perf_counter_ns()
        self._sock = socket.socket(family)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.connect_ex(address)
        pool.selector.register(self._sock, selectors.EVENT_WRITE, self)

    def ready(self) -> None:
        """The socket is ready for the next step.

        Raises:
            OSError, AnswerError: the connection failed.
        """
        if not self._connected:
            if error := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, "cannot connect")
            self._connected = True
            if self._pool.job.tls is not None:
                self._sock = self._pool.job.tls.wrap(self._sock, handshake=False)
            self._begin()
        elif self._answer is None:
            self._begin()
        elif self.begun and not self.checked:
            # What is dropped need not be deciphered either: past TLS, which a checked connection reads through.
            if not socket.socket.recv_into(self._sock, self._pool.buffer, len(self._pool.buffer), _DROP):
                raise AnswerError("the gateway closed the connection")
        else:
            self._read(self._sock.recv(_READ_BYTES))

    def _begin(self) -> None:
        """Go on with the handshake of TLS, where there is one; behind it, ask."""
        awaited = selectors.EVENT_READ
        try:
            if isinstance(self._sock, ssl.SSLSocket):
                self._sock.do_handshake()
            self.ask(f"{self._pool.job.run}:{self._pool.job.after}")
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:
            awaited = selectors.EVENT_WRITE
        self._pool.selector.modify(self._sock, awaited, self)

    def ask(self, position: str) -> None:
        """Send a request for what comes after a position."""
        request = self._pool.job.requests.request(position)
        self._sock.sendall(request)
        self.bytes += len(request)
        self._answer = Answer(self._pool.job.requests, self.counter)

    def _read(self, data: bytes) -> None:
        if not data:
            raise AnswerError("the gateway closed the connection")
        self.bytes += len(data)
        answer, pool = self._answer, self._pool
        assert answer is not None, "nothing is read before it was asked for"
        came = self.counter.ticks
        answer.feed(data, time.time_ns())
        for reply in answer.replies():
            self._sock.sendall(reply)
            self.bytes += len(reply)
        pool.coding = pool.coding or answer.coding
        if not self.begun and (self.counter.ticks if self.checked else answer.head is not None):
            self.begun = True
            pool.first_tick.add(time.perf_counter_ns() - self._started)
        if pool.until is not None and not self.reached and self.counter.next > pool.until:
            self.reached = time.perf_counter_ns() - self._started
        if answer.position:
            if self.counter.ticks == came and pool.job.pause:
                pool.later(self, answer.position)
            else:
                self.ask(answer.position)

    def close(self) -> None:
        """Close the socket; further calls have no effect."""
        if self._sock.fileno() >= 0:
            with contextlib.suppress(KeyError):
                self._pool.selector.unregister(self._sock)
            # Reset instead of closed: thousands of them leave no port behind in TIME_WAIT.
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._sock.close()


class ReaderPool:
    """All connections of one process.

    Attributes:
        until: the last tick that they have to get, as soon as it is known.
        coding: how answers are encoded, as soon as one has come.
    """

    def __init__(self, job: ReadJob, pipe: Pipe) -> None:
        self.job, self.until = job, job.until
        self.selector = selectors.DefaultSelector()
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self.coding = ""
        self.first_tick = Histogram()
        self._pipe = pipe
        self._alive: dict[LoadReader, None] = {}
        self._all: list[LoadReader] = []
        self._opening: set[LoadReader] = set()
        self._later: list[tuple[float, int, LoadReader, str]] = []  # pulls that wait, by when they ask again
        self._asked = 0
        self._cut, self._problem = 0, ""
        self._told = (False, False)

    def later(self, connection: LoadReader, position: str) -> None:
        """Send the next request after the pause."""
        self._asked += 1
        heapq.heappush(self._later, (time.monotonic() + self.job.pause, self._asked, connection, position))

    def run(self) -> None:
        """Read until the other end of the pipe says stop, or is gone."""
        told = time.monotonic()
        self.selector.register(self._pipe, selectors.EVENT_READ, None)
        while True:
            self._open()
            wait = self._later[0][0] - time.monotonic() if self._later else _NAP_SECONDS
            for key, _ in self.selector.select(min(max(wait, 0), _NAP_SECONDS)):
                if isinstance(key.data, LoadReader):
                    self._work(key.data)
                elif not self._obey():
                    self._end()
                    return
            now = time.monotonic()
            while self._later and self._later[0][0] <= now:
                _, _, connection, position = heapq.heappop(self._later)
                if connection in self._alive:
                    self._work(connection, position)
            if now - told >= _TELL_SECONDS or self._state() != self._told:
                told = now
                self._tell()

    def _open(self) -> None:
        while len(self._all) < self.job.clients and len(self._opening) < _OPENING:
            connection = LoadReader(self, len(self._all) < self.job.checked)
            self._all.append(connection)
            self._alive[connection] = None
            self._opening.add(connection)

    def _work(self, connection: LoadReader, position: str = "") -> None:
        try:
            if position:
                connection.ask(position)
            else:
                connection.ready()
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except (OSError, AnswerError) as error:
            self._cut += 1
            self._problem = self._problem or reason(error)
            self._alive.pop(connection, None)
            self._opening.discard(connection)
            connection.close()
        if connection.begun:
            self._opening.discard(connection)

    def _obey(self) -> bool:
        """Read a command from the pipe: the last tick, or to stop (False)."""
        try:
            command = self._pipe.recv()
        except (EOFError, OSError):
            return False
        if command is None:
            return False
        self.until = command
        return True

    def _state(self) -> tuple[bool, bool]:
        begun = len(self._all) == self.job.clients and not self._opening
        waited = (one for one in self._alive if one.checked)
        return begun, begun and self.until is not None and all(one.counter.next > (self.until or 0) for one in waited)

    def _tell(self) -> None:
        self._told = self._state()
        checked = [one for one in self._all if one.checked]
        counts = ReadCounts(*self._told, self.coding, cut=self._cut, problem=self._problem, first_tick=self.first_tick)
        for one in checked:
            counts.ticks += one.counter.ticks
            counts.lost += one.counter.lost
            counts.repeated += one.counter.repeated
            counts.bytes += one.bytes
            counts.latency.merge(one.counter.latency)
            if self.until is not None:
                counts.behind += max(self.until - one.counter.next + self.job.every, 0) // self.job.every
            if one.reached:
                counts.reached.append(one.reached)
        with contextlib.suppress(OSError):  # nobody listens any more: the next look at the pipe finds that out
            self._pipe.send(counts)

    def _end(self) -> None:
        self._tell()
        for connection in self._all:
            connection.close()


def read(job: ReadJob, pipe: Pipe) -> None:
    """The main function of a process of readers: sends ``ReadCounts`` now and then, and at the end."""
    set_up_child()
    if job.namespace is not None:
        enter(job.namespace)
    ReaderPool(job, pipe).run()
