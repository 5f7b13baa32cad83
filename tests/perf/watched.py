"""A gateway process that watches its own loop: ``python -m tests.perf.watched '{"ring": 1000}'``.

A stall is measured inside, by a timer that comes late. On a busy machine the loop also stands still while other
processes run: ``own`` counts only what the loop's thread computed meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tick_gateway import Gateway, Settings
from tick_gateway.cli.process_tuning import tune_process
from tick_gateway.http.listen import Server, loop_factory, open_socket

WATCH_SECONDS = 0.005


class Watchdog:
    """The longest that a loop stood still, and how much of it its own thread computed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.stall = self.own = 0.0
        self._plan()

    def _plan(self) -> None:
        self._due, self._computed = self._loop.time() + WATCH_SECONDS, time.thread_time()
        self._loop.call_at(self._due, self._check)

    def _check(self) -> None:
        late, own = self._loop.time() - self._due, time.thread_time() - self._computed
        self.stall, self.own = max(self.stall, late), max(self.own, min(late, own))
        self._plan()


def serve(settings: dict[str, Any]) -> None:
    """A gateway as ``tick-gateway serve`` has it; answers each line of standard input with figures, ends with it."""

    async def main() -> None:
        gateway = Gateway.of(Settings(host="127.0.0.1", port=0, **settings))
        server = Server(gateway.app, gateway.settings, gateway.runtime.descriptors)
        await server.start(open_socket(gateway.settings))
        tune_process()
        watchdog, loop, over = Watchdog(), asyncio.get_running_loop(), asyncio.Event()
        print(server.port, flush=True)

        def answer() -> None:
            rss = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            print(json.dumps({"stall": watchdog.stall, "own": watchdog.own, "rss": rss}), flush=True)
            watchdog.stall = watchdog.own = 0.0

        def listen() -> None:
            for _ in sys.stdin:
                loop.call_soon_threadsafe(answer)
            loop.call_soon_threadsafe(over.set)

        threading.Thread(target=listen, daemon=True).start()
        await over.wait()
        await server.stop()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]) if sys.argv[1:] else {})
