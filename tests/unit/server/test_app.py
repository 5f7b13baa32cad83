"""What the log says of faults of the gateway's own: once, however often a client asks for them, and nothing that the
client made up."""

from __future__ import annotations

from typing import NoReturn

import pytest
from aiohttp import web

from tests.support.harness import Harness
from tick_gateway.errors import Damaged
from tick_gateway.server import status


def fail(_: object) -> NoReturn:
    raise ZeroDivisionError("a fault")


async def test_a_route_that_fails(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(status, "rate", fail)
    async with Harness() as harness:
        for _ in range(5):
            response = await harness.get("/meta")
            assert (response.status, (await response.json())["error"]) == (500, "internal")
        harness.answered.clear()  # no description tells of it
    (record,) = caplog.records
    assert record.getMessage() == "GET /meta failed" and record.exc_info


@pytest.mark.parametrize(("kind", "told"), [(Damaged, "an answer broke off: block 7 is damaged"), (KeyError, "")])
async def test_an_answer_that_breaks_off(kind: type[Exception], told: str, caplog: pytest.LogCaptureFixture) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        raise kind("block 7 is damaged")

    harness = Harness()
    harness.gateway.app.router.add_get("/half", break_off)
    async with harness:
        for _ in range(5):
            response = await harness.get("/half")
            with pytest.raises(EOFError):
                await response.read()
        harness.answered.clear()
    (record,) = caplog.records
    assert record.getMessage() == (told or "a request from 127.0.0.1 failed") and bool(record.exc_info) is not bool(
        told
    )


async def test_a_path_that_is_not_there(harness: Harness) -> None:
    body = await harness.json("/nothing/here", 404)
    assert (body["error"], set(body)) == ("not_found", {"error", "message"})
