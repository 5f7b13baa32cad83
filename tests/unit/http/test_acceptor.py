"""Accepting by hand: while descriptors are free, some a turn; those that came late are closed unless they ask."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web

from tick_gateway.access.file_descriptors import Descriptors
from tick_gateway.http import acceptor
from tick_gateway.http.acceptor import Acceptor

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Free:
    """Descriptors as the test says."""

    def __init__(self) -> None:
        self.readers = self.answers = 1 << 20
        self.is_free = True
        self.told: list[str] = []
        self.late = False

    def free(self, probe: int) -> bool:
        return self.is_free

    def scarce(self, transport: object) -> bool:
        return self.late

    def tell(self, sentence: str) -> None:
        self.told.append(sentence)


@asynccontextmanager
async def serving(descriptors: Free) -> AsyncIterator[tuple[Acceptor, int]]:
    """An application that answers, on a socket of the loopback."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    sock = socket.create_server(("127.0.0.1", 0))
    site = Acceptor(runner, sock, cast(Descriptors, descriptors), 128)
    await site.start()
    try:
        yield site, sock.getsockname()[1]
    finally:
        await site.stop()
        await runner.cleanup()


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    answer = await reader.readuntil(b"here")
    writer.close()
    return answer


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE_SECONDS", 0.01)


async def test_many_at_once_are_all_answered() -> None:
    async with asyncio.timeout(30), serving(Free()) as (site, port):
        assert site.name == f"http://127.0.0.1:{port}"
        answers = await asyncio.gather(*(ask(port) for _ in range(40)))
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


async def test_who_comes_while_none_are_free_waits_and_is_answered() -> None:
    descriptors = Free()
    descriptors.is_free = False
    async with asyncio.timeout(30), serving(descriptors) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        for _ in range(10):
            await asyncio.sleep(0)
        descriptors.is_free = True
        assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_the_last_ones_are_told_and_accepted_later() -> None:
    descriptors = Free()
    descriptors.answers = 0  # each that is accepted takes from what is kept for files
    async with asyncio.timeout(30), serving(descriptors) as (_, port):
        await asyncio.gather(ask(port), ask(port))
        assert descriptors.told and "kept for history" in descriptors.told[0]


async def test_a_late_connection_that_asks_for_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_LATE_SECONDS", 0.05)
    descriptors = Free()
    descriptors.late = True
    async with asyncio.timeout(30), serving(descriptors) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"", "it was closed"
        writer.close()


async def test_one_that_asks_in_time_is_answered() -> None:
    descriptors = Free()
    descriptors.late = True
    async with asyncio.timeout(30), serving(descriptors) as (_, port):
        assert (await ask(port)).startswith(b"HTTP/1.1 200")


class Failing:
    """A listening socket whose accept() fails with each of these in turn, then as one that nobody waits at."""

    def __init__(self, sock: socket.socket, *errors: int) -> None:
        self._sock = sock
        self._errors = [OSError(number, "failed") for number in errors]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def accept(self) -> Any:
        raise self._errors.pop(0) if self._errors else BlockingIOError


@pytest.mark.parametrize(
    ("errors", "told"),
    [((errno.ECONNABORTED, errno.EPROTO), 0), ((errno.EMFILE,), 1), ((errno.ECONNABORTED, errno.ENFILE), 1)],
)
async def test_connections_that_are_gone_are_passed_over_and_others_wait(errors: tuple[int, ...], told: int) -> None:
    descriptors = Free()
    async with serving(descriptors) as (site, _):
        site._sock = cast(socket.socket, Failing(site._sock, *errors))
        site._accept()
        assert len(descriptors.told) == told
        assert all("connections wait to be accepted: failed" in why for why in descriptors.told)
