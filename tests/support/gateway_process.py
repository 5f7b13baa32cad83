"""Processes that a test starts, talks to and ends: a gateway as its users start it, and clients of any language.

Every wait is on a condition: a line that was printed, a pipe that was closed, a process that ended. The timeouts are
only there so that a failure ends. A process is ended by its own id.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]

PATIENCE = 60.0
"""Seconds that a wait may last. Generous: what is slow on a busy machine is not wrong."""

Line = TypeVar("Line", str, bytes)

LISTENING = re.compile(r"http://(?:127\.0\.0\.1|localhost):(\d+)/")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now; all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def free_port() -> int:
    """A port of loopback that nobody has now."""
    return free_ports(1)[0]


class Lines:
    """Lines that come in over time, from whichever thread, and that a test waits for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._closed = False

    @property
    def lines(self) -> list[str]:
        with self._changed:
            return list(self._lines)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def more(self, count: int, timeout: float = PATIENCE) -> list[str]:
        """Waits for more than `count` lines and gives those after the first `count`. Empty: no more came."""
        self.wait(lambda lines: len(lines) > count, timeout)
        with self._changed:
            return self._lines[count:]

    def add(self, line: str) -> None:
        """Takes a line, without its end."""
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()

    def close(self) -> None:
        """No more lines will come: nobody waits any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait(self, done: Callable[[Sequence[str]], bool], timeout: float = PATIENCE) -> bool:
        """Waits until `done(lines)` holds. False: no more lines come, or the time was up, and it does not hold."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not done(self._lines):
                left = deadline - time.monotonic()
                if self._closed or left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def find(self, pattern: str | re.Pattern[str], timeout: float = PATIENCE) -> re.Match[str] | None:
        """Waits for a line in which `pattern` is found. None: it never came."""
        wanted = re.compile(pattern)
        seen = 0
        found: re.Match[str] | None = None

        def look(lines: Sequence[str]) -> bool:
            nonlocal seen, found
            while seen < len(lines) and found is None:
                found = wanted.search(lines[seen])
                seen += 1
            return found is not None

        self.wait(look, timeout)
        return found


class Output(Lines):
    """The lines that came out of a pipe so far. A thread reads them, so that the process never waits for the test."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__()
        self._pipe = pipe
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def join(self, timeout: float = PATIENCE) -> None:
        """Waits until the process has closed the pipe and all that it wrote is here."""
        self._thread.join(timeout)

    def _read(self) -> None:
        with self._pipe:
            for line in self._pipe:
                self.add(line.decode("utf-8", "replace").rstrip("\r\n"))
        self.close()


class Running:
    """A child process with both its outputs read. `with` ends it."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        stdin: bool = False,
    ) -> None:
        """Starts `command`; `env` is added to the environment, less the settings that a user has in theirs."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("TICK_GATEWAY_")}
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**mine, "PYTHONUNBUFFERED": "1", **(env or {})},
            cwd=cwd,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self.stdout = Output(self.process.stdout)
        self.stderr = Output(self.process.stderr)

    def feed(self, lines: Iterable[str]) -> None:
        """Writes lines to the standard input of a process that was started with `stdin`."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.process.stdin.flush()

    def close_stdin(self) -> None:
        """Ends the process's standard input; again has no effect."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it ended before it had read everything
                self.process.stdin.close()

    def wait(self, timeout: float = PATIENCE) -> int:
        """Waits until the process ends by itself and gives its exit code."""
        code = self.process.wait(timeout)
        self.stdout.join()
        self.stderr.join()
        return code

    def terminate(self) -> int:
        """Asks the process to end and gives its exit code; one that does not end within `PATIENCE` fails the test."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.wait()
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends the process at once, and in any case."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def report(self) -> str:
        """Gives what the process printed, for the message of a failed assertion."""
        printed = f"stdout:\n{self.stdout.text[-4000:]}\n--- stderr:\n{self.stderr.text[-4000:]}"
        return f"--- exit code {self.process.poll()}, {printed}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close_stdin()
        with contextlib.suppress(subprocess.TimeoutExpired):  # asked first: a browser ends its own children
            self.process.terminate()
            self.process.wait(10)
        self.kill()


class GatewayProcess(Running):
    """A gateway in a process of its own: `with GatewayProcess("serve") as gateway: ... gateway.url`.

    At the end of the `with` it is sent SIGTERM and has to end with code 0, without ever having shown a traceback.
    """

    def __init__(
        self,
        command: str = "serve",
        *options: str,
        env: Mapping[str, str] | None = None,
        stdin: bool = False,
        files: int | None = None,
        shell: str = "",
    ) -> None:
        """Starts it on a port that the system picks, on loopback only, and waits until it listens.

        `files`: how many file descriptors it may have, at most. `shell`: what a POSIX shell does before it starts it.
        """
        shell = f"ulimit -n {files}" if files is not None else shell
        limit = ["sh", "-c", f'{shell}; exec "$@"', "sh"] if shell else []
        given = [] if "--port" in options else ["--port", "0"]
        given += [] if "--host" in options else ["--host", "127.0.0.1"]
        whole = [*limit, sys.executable, "-m", "tick_gateway", command, *given, *options]
        super().__init__(whole, env=env, stdin=stdin)
        found = self.stderr.find(LISTENING)
        if found is None:
            self.kill()
            raise AssertionError(f"the gateway never said where it listens\n{self.report()}")
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"
        """Without a slash at its end: paths are appended to it."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            super().__exit__(kind, error, at)
            error.add_note(f"the gateway:\n{self.report()}")
            return
        self.close_stdin()
        code = self.terminate()
        assert code == 0, f"SIGTERM was answered with exit code {code}\n{self.report()}"
        assert "Traceback" not in self.stderr.text, self.report()


class RestartableGateway:
    """``tick-gateway serve --data DIR``: processes one after another, on one port and one directory of history.

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

    async def __aenter__(self) -> RestartableGateway:
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


def publish(url: str, ndjson_lines: Iterable[str], *, run: str | None = None) -> dict[str, Any]:
    """Publishes ticks with one POST and gives the gateway's counts; a refusal is an `AssertionError`.

    Returns when the gateway has taken them: what reads afterwards finds them.
    """
    with Publisher(url, run=run) as publisher:
        return publisher.publish(ndjson_lines)


class Publisher:
    """Publishes over one connection, POST by POST."""

    def __init__(self, url: str, *, run: str | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
        self._headers = {"Content-Type": "application/x-ndjson"} | ({"Tick-Run": run} if run else {})

    def publish(self, ndjson_lines: Iterable[str]) -> dict[str, Any]:
        """Publishes ticks with one POST, as `publish` does."""
        body = "".join(f"{line}\n" for line in ndjson_lines).encode()
        self._connection.request("POST", "/publish", body, self._headers)
        response = self._connection.getresponse()
        answer = response.read().decode()
        assert response.status == 200, f"POST /publish was answered {response.status}: {answer}"
        counts: dict[str, Any] = json.loads(answer)
        return counts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def resident(pid: int) -> int:
    """Bytes of memory that a process holds (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak(pid: int) -> int:
    """Bytes of memory that a process held at most (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def difference(got: Sequence[Line], wanted: Sequence[Line]) -> str:
    """Says in a few words where rows of lines part: pytest's own account of long ones fills a log. Empty: nowhere."""
    if got == wanted:
        return ""
    at = next((i for i, (one, other) in enumerate(zip(got, wanted, strict=False)) if one != other), None)
    if at is None:
        at = min(len(got), len(wanted))
    pairs = ([line[:120] for line in lines[at : at + 3]] for lines in (got, wanted))
    return "line {} of {} (wanted {}): got {}, wanted {}".format(at, len(got), len(wanted), *pairs)
