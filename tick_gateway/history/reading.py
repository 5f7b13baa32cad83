"""Threads that read: what waits for the disk runs on them, and calls back on the loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

_READERS: Final = 2


class ReadingThreads:
    """Runs jobs for an archive (see ``archive.Elsewhere``)."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Take this thread's running loop."""
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="tick-gateway-read")

    def close(self) -> None:
        """Take no more jobs, and forget those that wait; one that runs is not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def __call__(self, job: Callable[[], None], done: Callable[[Exception | None], None]) -> None:
        assert self._pool is not None and self._loop is not None, "start() comes first"
        loop = self._loop

        def work() -> None:
            problem: Exception | None = None
            try:
                job()
            except Exception as error:  # told on the loop, where it is decided what it means
                problem = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(done, problem)

        self._pool.submit(work)
