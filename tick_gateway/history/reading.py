"""Threads that read: what waits for the disk runs on them, and calls back on the loop.

They are started before they are needed, and are no thread pool of ``concurrent.futures``: once a script's main thread
has ended, Python lets nobody start a thread any more, and its pools refuse work, while a simulation in another thread
and its readers may go on for hours.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

_READERS: Final = 2
_CLOSE_SECONDS: Final = 0.5  # a thread that waits for a job ends at once, one that waits for the disk may never

_Job = tuple[Callable[[], None], Callable[[Exception | None], None]]


class ReadingThreads:
    """Runs jobs for an archive (see ``archive.Elsewhere``)."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()  # None: a thread ends
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def start(self) -> None:
        """Take this thread's running loop."""
        self._loop = asyncio.get_running_loop()
        for number in range(_READERS):
            thread = threading.Thread(target=self._work, name=f"tick-gateway-read-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Take no more jobs, forget those that wait, and end the threads; one that the disk holds up is left behind."""
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

    def _work(self) -> None:
        assert self._loop is not None
        while (taken := self._jobs.get()) is not None and not self._closed:
            job, done = taken
            problem: Exception | None = None
            try:
                job()
            except Exception as error:  # told on the loop, where it is decided what it means
                problem = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(done, problem)
            del job, done, taken  # what they hold is not kept until the next one comes
