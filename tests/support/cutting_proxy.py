"""A network that fails: TCP proxies that cut connections at a chosen byte, or let none through for a while, or nothing,
or that forget connections without a word to anybody.

All run on one event loop in a thread of its own, so that a test that waits does not stop them.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, Self, TypeVar

PIECE = 499
"""Bytes that are passed on at a time, unless a test says otherwise."""

PACE = 0.001
"""Seconds from one piece to the next: a narrow line, on which most readers are done with a piece before the next."""

SEGMENT = 536
"""Bytes of a TCP segment of answers. The kernel's buffers grow with it: on loopback, one alone would hold megabytes."""

HEAD_END = b"\r\n\r\n"

T = TypeVar("T")


class CuttingProxy:
    """Leads to `Network.target`. Made by `Network.proxy`.

    The answers of all its connections are counted together. When the count reaches the next of `cuts`, exactly that
    many bytes have been let through, and every open connection is cut: an odd one in turn by closing it, an even one by
    a reset, as networks do either.
    """

    def __init__(self, network: "Network", cuts: Iterable[int]) -> None:
        self.port = 0
        self.cut = 0
        """How many times connections were cut so far."""
        self.passed = 0
        """Bytes of answers that were let through so far."""
        self.heads: list[str] = []
        """The head of each answer."""
        self.asked: list[str] = []
        """The head of each request that was answered, `asked[i]` by `heads[i]`; empty where it was no GET."""
        self._network = network
        self._cuts = sorted(cuts, reverse=True)
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http{'s' if self._network.tls else ''}://127.0.0.1:{self.port}{self._network.prefix}"

    async def serve(self) -> asyncio.Server:
        """Starts to listen, on a port that the system picks."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=self._network.tls)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def cut_after(self, size: int) -> None:
        """Cuts every open connection when so many more bytes of answers were let through."""
        self._network.call(self._cut_after(size))

    async def _cut_after(self, size: int) -> None:
        self._cuts.append(self.passed + size)

    def cut_all(self) -> None:
        """Cuts every open connection. On the loop only."""
        self.cut += 1
        for writer in self._open:
            if self.cut % 2:
                writer.close()
            else:
                writer.transport.abort()
        self._open.clear()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._network.held:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await self._network.connect()
        except OSError:  # between two gateways
            writer.transport.abort()
            return
        both = {writer, up_writer}
        self._open |= both
        age = self._network.age
        asked: list[str] = []
        asks = asyncio.ensure_future(self._asks(reader, up_writer, age, asked))
        head = b""
        with contextlib.suppress(OSError, asyncio.CancelledError):
            # Piece by piece, so that readers meet ends of reads everywhere: in a line, in an event, in a character.
            while data := await self._network.read(up_reader):
                if age < self._network.age:
                    continue
                if data.startswith(b"HTTP/1.1 "):  # answers begin reads: nobody asks for two at a time
                    head = b""
                if HEAD_END not in head:
                    head += data
                    if HEAD_END in head:
                        self.heads.append(head.partition(HEAD_END)[0].decode("latin-1"))
                        self.asked.append(asked.pop(0) if asked else "")
                if self._cuts and self.passed + len(data) >= self._cuts[-1]:
                    end = self._cuts.pop() - self.passed
                    self.passed += end
                    writer.write(data[:end])
                    self.cut_all()
                    break
                self.passed += len(data)
                writer.write(data)
                await writer.drain()
                if self._network.narrow:
                    await asyncio.sleep(PACE)
            if age < self._network.age:
                await asks  # the one side's end is not told to the other
        asks.cancel()
        for end_of_it in both:
            end_of_it.close()
        self._open -= both

    async def _asks(
        self, reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter, age: int, asked: list[str]
    ) -> None:
        prefix = self._network.prefix.encode()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if age < self._network.age:
                    continue
                if data.startswith(b"GET /"):  # requests begin reads, too
                    assert data.startswith(b"GET %b/" % prefix), data
                    data = b"GET " + data[len(b"GET ") + len(prefix) :]
                    asked.append(data.partition(HEAD_END)[0].decode("latin-1"))
                up_writer.write(data)
            up_writer.close()


class Network:
    """Proxies to one port. `with` ends them.

    Attributes:
        target: the port behind all of them; a gateway that is started anew has another.
        held: no connection gets through.
        narrow: it is slow, and hands over small pieces.
        piece: bytes of a piece, where it is narrow.
        tls: clients speak TLS to it, the target does not.
        prefix: the path below which the target is found, such as ``/sim``; other requests fail.
        age: how often connections were forgotten so far.
    """

    def __init__(
        self, target: int, *, narrow: bool = True, tls: ssl.SSLContext | None = None, prefix: str = ""
    ) -> None:
        self.target = target
        self.narrow, self.tls, self.prefix = narrow, tls, prefix
        self.piece = PIECE
        self.age = 0
        self.held = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._proxies: list[CuttingProxy] = []
        self._servers: list[asyncio.Server] = []

    def proxy(self, cuts: Iterable[int] = ()) -> CuttingProxy:
        """Opens one more way, which is cut after `cuts` bytes of answers, each counted from its beginning."""
        proxy = CuttingProxy(self, cuts)
        self._servers.append(self.call(proxy.serve()))
        self._proxies.append(proxy)
        return proxy

    def hold(self) -> None:
        """Cuts every connection and lets none through until `release`."""
        self.call(self._hold())

    def release(self) -> None:
        self.held = False

    def forget(self) -> None:
        """Passes nothing on any more on the connections that are open, and ends none of them; new ones work."""
        self._loop.call_soon_threadsafe(self._forget)

    def _forget(self) -> None:
        self.age += 1

    def stall(self) -> None:
        """Lets no byte of answers through until `flow`: as if every client had stopped reading."""
        self.call(self._stall())

    def flow(self) -> None:
        self._loop.call_soon_threadsafe(self._flows.set)

    async def _stall(self) -> None:
        self._flows.clear()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects to the target; where it is narrow, with small buffers: a gateway soon sees that nobody reads."""
        if not self.narrow:
            return await asyncio.open_connection("127.0.0.1", self.target)
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        connection.setblocking(False)
        try:
            await self._loop.sock_connect(connection, ("127.0.0.1", self.target))
        except BaseException:
            connection.close()
            raise
        return await asyncio.open_connection(sock=connection, limit=4_096)

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """Reads a piece, once pieces flow."""
        data = await reader.read(self.piece if self.narrow else 1 << 16)
        await self._flows.wait()
        return data

    async def _hold(self) -> None:
        self.held = True
        for proxy in self._proxies:
            proxy.cut_all()

    async def _close(self) -> None:
        await self._hold()
        for server in self._servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs something on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
