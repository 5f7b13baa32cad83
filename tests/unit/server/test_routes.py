"""The table of routes: what follows from a row, and from a transport."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from aiohttp import web

from tests.support.async_client import request
from tests.support.harness import Harness, OpenHarness
from tick_gateway.errors import GatewayError
from tick_gateway.http.route import Route
from tick_gateway.model.query import TABLE as PARAMETERS
from tick_gateway.runtime import Runtime
from tick_gateway.server import routes as table
from tick_gateway.server.openapi import HEADERS, SCHEMAS
from tick_gateway.server.routes import routes
from tick_gateway.transports import TRANSPORTS

KINDS = {kind for row in PARAMETERS for kind in row.on} | {"meta", ""}


@pytest.mark.parametrize("route", routes(), ids=lambda route: f"{route.method} {route.path}")
def test_a_row_names_what_there_is(route: Route) -> None:
    assert route.reads in KINDS
    assert route.schema in SCHEMAS or not route.schema
    assert set(route.headers) <= set(HEADERS)
    assert all(issubclass(error, GatewayError) for error in route.refuses)
    assert route.summary and not route.summary.endswith(".")


def test_no_path_and_no_name_stands_twice() -> None:
    found = routes()
    assert len({(route.method, route.path) for route in found}) == len({route.name for route in found}) == len(found)


def test_publishing_is_closed_to_web_pages_and_all_else_is_open() -> None:
    assert {route.path for route in routes() if not route.open} == {"/publish", "/ws/publish", "/runs/{run}/end"}


@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda transport: transport.name)
def test_a_transport_is_a_route(transport: object) -> None:
    (kept,) = (one for one in TRANSPORTS if one is transport)
    renamed = replace(kept, name="other-name", path="/elsewhere")
    (route,) = (route for route in routes((renamed,)) if route.path == "/elsewhere")
    assert (route.name, route.handler, route.method) == ("read_other_name", kept.handler, "GET")
    assert route.stream == (kept.kind == "stream") and route.websocket == (101 in kept.statuses)


async def answer(_: web.Request, runtime: Runtime) -> web.StreamResponse:
    return web.json_response({"settings": runtime.settings.ring})


async def test_a_new_row_is_all_that_a_new_route_needs(
    open_harness: OpenHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Route("GET", "/answer", answer, "answer", "of everything", linked=True, headers=("Tick-Run",))
    monkeypatch.setattr(table, "_FIXED", (*table._FIXED, row))
    harness: Harness = await open_harness(ring=42)
    got = await harness.get("/answer")
    assert await got.json() == {"settings": 42} and got.headers["Access-Control-Allow-Origin"] == "*"
    head = await request(harness.port, "/answer", method="HEAD")
    assert head.status == 200 and head.headers["Content-Length"] == got.headers["Content-Length"]
    preflight = await request(harness.port, "/answer", method="OPTIONS")
    assert preflight.status == 204 and "GET" in preflight.headers["Allow"]
    refused = await request(harness.port, "/answer", method="POST", body=b"")
    assert refused.status == 405 and refused.headers["Access-Control-Allow-Origin"] == "*"
    operation = (await harness.json("/openapi.json"))["paths"]["/answer"]["get"]
    assert (operation["operationId"], operation["summary"]) == ("answer", "of everything")
    assert set(operation["responses"]["200"]["headers"]) == {"Tick-Run"}
    described = json.loads(await (await harness.get("/", Accept="application/json")).read())
    assert described["links"]["answer"].endswith("/answer")
    assert "did you mean /answer?" in (await harness.json("/answr", 404))["message"]
