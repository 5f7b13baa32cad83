"""A gateway in the test's own process and loop, with aiohttp's client before it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from tick_gateway import Gateway

Client = TestClient[web.Request, web.Application]


class Serving(NamedTuple):
    gateway: Gateway
    client: Client

    @property
    def port(self) -> int:
        port = self.client.server.port
        assert port is not None
        return port

    @property
    def session(self) -> ClientSession:
        return self.client.session

    async def post(self, body: Any, *, status: int = 200, path: str = "/publish", **headers: str) -> dict[str, Any]:
        """POST a body; `headers` have _ for -. Returns the answer, whose status has to be `status`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(path, data=body, headers=named) as response:
            answer: dict[str, Any] = await response.json()
            assert response.status == status, answer
            return answer

    async def get(self, path: str, *, status: int = 200) -> Any:
        async with self.client.get(path) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def ticks(self, run: str | None = None) -> list[bytes]:
        """Everything that can be read of a run, byte for byte."""
        async with self.client.get("/range", params={"run": run} if run else {}) as response:
            assert response.status == 200, await response.text()
            return (await response.read()).splitlines()


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Serving]:
    gateway = Gateway(**settings)
    server = TestServer(gateway.app, host="127.0.0.1")
    await server.start_server(auto_decompress=False)  # as the gateway's own server has it
    async with TestClient(server) as client:
        yield Serving(gateway, client)
