"""Standard input and output without blocking the event loop.

Input is read in a thread, because nothing else works for every kind of file. Output to a pipe is written only as far as
the pipe accepts it, so a reader that stalls does not block the loop, and one that goes away is noticed at once, even
between ticks.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
import threading
from collections.abc import AsyncGenerator
from typing import Final

_READ_BYTES: Final = 1 << 18
_READ_AHEAD: Final = 2  # pieces
_PIPE_BYTES: Final = 4096  # POSIX: a pipe that select calls writable takes so many without blocking


async def chunks(fd: int) -> AsyncGenerator[bytes, None]:
    """The data from a file descriptor, in pieces of any size, to its end. Only a few pieces are read ahead."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(_READ_AHEAD)

    def read() -> None:
        while room.acquire():
            try:
                data = os.read(fd, _READ_BYTES)
            except OSError:  # a terminal that hung up; closed by the parent process
                data = b""
            try:
                loop.call_soon_threadsafe(queue.put_nowait, data)
            except RuntimeError:  # the loop is closed: nobody needs it any more
                return
            if not data:
                return

    # A daemon: a read that never returns must not keep the process from ending.
    threading.Thread(target=read, name="standard input", daemon=True).start()
    while data := await queue.get():
        yield data
        room.release()


class Output:
    """A file descriptor for output.

    Attributes:
        closed: set when the reader of the pipe has gone.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._is_pipe = os.name == "posix" and stat.S_ISFIFO(os.fstat(fd).st_mode)
        self.closed = asyncio.Event()
        if self._is_pipe:
            # The write end of a pipe never becomes readable, but its error state, no reader left, counts as that.
            asyncio.get_running_loop().add_reader(fd, self._look)

    def _look(self) -> None:
        poll = select.poll()
        poll.register(self._fd, 0)
        if poll.poll(0):
            self.closed.set()
        asyncio.get_running_loop().remove_reader(self._fd)

    async def write(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            BrokenPipeError: the reader has gone.
            OSError: the disk is full, and the like.
        """
        view = memoryview(data)
        while view:
            if self._is_pipe and not select.select((), (self._fd,), (), 0)[1]:
                await self._writable()
            try:
                view = view[os.write(self._fd, view[:_PIPE_BYTES] if self._is_pipe else view) :]
            except BlockingIOError:  # another process that shares the terminal made it non-blocking
                await self._writable()

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(self._fd)
