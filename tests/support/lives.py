"""A gateway that is killed and started again: processes one after another, on one port and one directory of history."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from tests.support.process import LISTENING, Running
from tests.support.sockets import free_port


class Lives:
    """``tick-gateway serve --data DIR``, life after life.

    Args:
        directory: DIR; None: no ``--data``.
        module: what is run in place of ``tick_gateway``.

    Attributes:
        port: that of all of them.
        process: the present one, or the last.
        told: what they said on standard error, life by life, the present one left out.
    """

    def __init__(self, directory: Path | None, *options: str, module: str = "tick_gateway") -> None:
        self.directory = directory if directory is not None else Path()
        self.port = free_port()
        self.told: list[str] = []
        self._command = [
            sys.executable, "-m", module, "serve", "--host", "127.0.0.1", "--port", str(self.port),
            *(["--data", str(directory)] if directory is not None else []), *options,
        ]  # fmt: skip
        self.process: Running | None = None

    def begin(self) -> Running:
        """Start one, and do not wait for it."""
        self.process = Running(self._command)
        return self.process

    async def start(self) -> None:
        """Start one, and wait until it listens."""
        self.begin()
        await self.listening()

    async def listening(self) -> None:
        assert self.process is not None
        found = await asyncio.to_thread(self.process.stderr.find, LISTENING)
        assert found is not None, self.process.report()

    @property
    def said(self) -> str:
        """What the present one has said so far."""
        assert self.process is not None
        return self.process.stderr.text

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.process.send_signal(number)

    async def kill(self) -> str:
        """``kill -9``; returns what it had said."""
        self.signal(signal.SIGKILL)
        return await self.buried()

    async def buried(self) -> str:
        """Wait until it is gone, however it ends; returns what it had said, which is no traceback."""
        assert self.process is not None
        await asyncio.to_thread(self.process.wait)
        told = self.process.stderr.text
        self.told.append(told)
        assert "Traceback" not in told, told
        return told

    async def stop(self) -> str:
        """SIGTERM, which it has to answer well; returns what it had said."""
        assert self.process is not None
        code = await asyncio.to_thread(self.process.terminate)
        assert code == 0, self.process.report()
        return await self.buried()

    async def __aenter__(self) -> Lives:
        await self.start()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if self.process is None:
            return
        if error is not None:
            error.add_note(f"the gateway:\n{self.process.report()}")
            self.process.kill()
        elif self.process.process.poll() is None:
            await self.stop()
