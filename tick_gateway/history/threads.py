"""Threads for reading and compressing: work that waits for the disk, or would block the loop.

They are started in advance, and do not use ``concurrent.futures``: once a script's main thread has ended, Python starts
no new threads and its pools refuse work, while a simulation in another thread and its readers may continue for hours.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, TypeVar

_READERS: Final = 2
_CLOSE_SECONDS: Final = 0.5  # an idle thread ends at once, one that waits for the disk may never

_Result = TypeVar("_Result")
_Job = tuple[Callable[[], None], Callable[[Exception | None], None]]


class ReadingThreads:
    """Runs jobs for an archive (see ``archive.Elsewhere``) and calls for coroutines.

    Args:
        count: number of threads.
        name: prefix of their names.
    """

    def __init__(self, count: int = _READERS, name: str = "tick-gateway-read") -> None:
        self._count, self._name = count, name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()  # None ends a thread
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def start(self) -> None:
        """Use this thread's running loop."""
        self._loop = asyncio.get_running_loop()
        for number in range(self._count):
            thread = threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Accept no more jobs, drop those that wait, and end the threads; one that waits for the disk is left
        behind."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        stop = time.monotonic() + _CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(stop - time.monotonic(), 0.0))

    def __call__(self, job: Callable[[], None], done: Callable[[Exception | None], None]) -> None:
        if self._closed:
            raise RuntimeError("the threads that read are closed")
        self._jobs.put((job, done))

    async def run(self, call: Callable[..., _Result], *args: object) -> _Result:
        """Call a function on one of the threads, and wait for its result or exception."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        found: list[_Result] = []

        def done(problem: Exception | None) -> None:
            if future.done():  # nobody waits any more
                return
            if problem is not None:
                future.set_exception(problem)
            else:
                future.set_result(None)

        self(lambda: found.append(call(*args)), done)
        await future
        return found[0]

    def _work(self) -> None:
        assert self._loop is not None
        while (taken := self._jobs.get()) is not None and not self._closed:
            job, done = taken
            problem: Exception | None = None
            try:
                job()
            except Exception as error:  # passed to the loop, which decides what it means
                problem = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(done, problem)
            del job, done, taken  # so that nothing is kept until the next job
