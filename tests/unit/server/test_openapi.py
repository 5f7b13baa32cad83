"""/openapi.json tells of every route and every parameter, and is OpenAPI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support import needs
from tests.support.harness import OpenHarness
from tick_gateway.model.query import TABLE
from tick_gateway.server.routes import routes
from tick_gateway.transports import TRANSPORTS

from ...support.async_client import request
from ...support.harness import Harness

JSON = (
    "/meta", "/runs", "/segments", "/healthz", "/readyz", "/openapi.json", "/latest", "/ticks/3", "/incremental",
    "/incremental?from_t=A:1&stamp=1&batch=2", "/incremental?from_t=A:4", "/range?format=json", "/poll?last_t=A:1",
    "/poll?last_t=A:1&limit=3", "/poll?timeout=0&last_t=A:4", "/", "/latest?run=nobody", "/poll?limit=x",
)  # fmt: skip


def form(described: dict[str, Any], path: str, status: int, method: str = "get") -> dict[str, Any]:
    """The schema of a JSON answer, with all that it refers to."""
    name = path.partition("?")[0].replace("/ticks/3", "/ticks/{t}").replace("/runs/A/", "/runs/{run}/")
    content = described["paths"][name][method]["responses"][str(status)]["content"]
    return {"components": described["components"], **content["application/json"]["schema"]}


def check(value: object, schema: dict[str, Any]) -> None:
    needs.module("jsonschema").Draft202012Validator(schema).validate(value)


async def test_it_is_openapi(harness: Harness) -> None:
    response = await harness.get("/openapi.json")
    assert response.headers["Content-Type"].startswith("application/json")
    described = await response.json()
    needs.module("openapi_spec_validator").validate(described)
    operations = [operation for item in described["paths"].values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[a-z_]+", name) for name in names)
    assert all(operation["summary"] and "security" in operation for operation in operations)


async def test_it_tells_pages_of_other_origins_what_they_may_do(harness: Harness) -> None:
    described = await harness.json("/openapi.json")
    assert "Access-Control-Allow-Origin: *" in described["info"]["description"]
    told = {answer["500"]["description"] for item in described["paths"].values() for answer in responses(item)}
    assert all("internal: A fault of the gateway" in text for text in told)


def responses(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation["responses"] for operation in item.values()]


@pytest.mark.parametrize("target", JSON)
async def test_answers_have_the_form_that_it_says(harness: Harness, target: str) -> None:
    await harness.publish_all(range(5))
    described = await harness.json("/openapi.json")
    response = await harness.get(target, Accept="application/json")
    check(await response.json(), form(described, target, response.status))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/publish?run=A", b'{"t":9}'),
        ("/publish?run=A", b'{"t":3,"x":1}\nnonsense\n'),
        ("/publish", b""),
        ("/publish?run=-", b'{"t":9}'),
        ("/runs/A/end", b""),
        ("/runs/A/end?x=1", b""),
    ],
)
async def test_answers_to_publishers_have_the_form_that_it_says(harness: Harness, path: str, body: bytes) -> None:
    await harness.publish_all(range(5))
    described = await harness.json("/openapi.json")
    response = await request(harness.port, path, method="POST", body=body)
    check(await response.json(), form(described, path, response.status, "post"))


async def test_what_may_be_published_is_in_it(open_harness: OpenHarness) -> None:
    for token in ("", "secret"):
        harness = await open_harness(publish_token=token)
        described = await harness.json("/openapi.json")
        operation = described["paths"]["/publish"]["post"]
        assert set(operation["requestBody"]["content"]) == {"application/x-ndjson", "application/json"}
        assert operation["security"] == ([{"token": []}] if token else [])
        assert {"401", "403", "409", "413", "415", "422", "503"} <= set(operation["responses"])
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        for good in ({"t": 1}, [{"t": 1, "x": None}, {"t": 2}], []):
            check(good, {"components": described["components"], **schema})


async def test_streams_and_websockets_are_marked(harness: Harness) -> None:
    paths = (await harness.json("/openapi.json"))["paths"]
    marked = {path for path, item in paths.items() if item.get("get", {}).get("x-stream")}
    assert marked == {*(t.path for t in TRANSPORTS if t.kind == "stream"), "/", "/stream", "/ws/publish"}
    assert {path for path, item in paths.items() if item.get("get", {}).get("x-websocket")} == {
        "/ws/stream",
        "/ws/publish",
    }
    assert set(paths["/ws/stream"]["get"]["responses"]) >= {"101", "426"}


async def test_every_route_is_in_it(harness: Harness) -> None:
    paths = (await harness.json("/openapi.json"))["paths"]
    mounted = {
        (route.method, route.resource.canonical)
        for route in harness.gateway.app.router.routes()
        if route.resource is not None and route.method not in ("HEAD", "OPTIONS")
    }
    assert {(method.upper(), path) for path, item in paths.items() for method in item} == mounted


async def test_parameters_are_told_where_they_have_a_meaning(harness: Harness) -> None:
    described = await harness.json("/openapi.json")
    told: dict[str, set[str]] = {}
    for path, item in described["paths"].items():
        references = [p["$ref"] for p in item.get("get", {}).get("parameters", []) if "$ref" in p]
        told[path] = {reference.rpartition("/")[2] for reference in references}
    assert set(described["components"]["parameters"]) == {row.name for row in TABLE}
    assert set().union(*told.values()) == {row.name for row in TABLE}, "each has a meaning somewhere"
    assert {path for path, names in told.items() if "event" in names} == {"/sse", "/stream", "/"}
    assert {path for path, names in told.items() if "timeout" in names} == {"/poll"}
    assert {path for path, names in told.items() if "t0" in names} == {"/range"}
    assert {path for path, names in told.items() if "format" in names} == {"/incremental", "/range"}
    assert {path for path, names in told.items() if "heartbeat" in names} == {
        *(transport.path for transport in TRANSPORTS if transport.kind == "stream"),
        "/stream",
        "/",
    }
    assert told["/meta"] == told["/runs"] == told["/healthz"] == set()
    assert told["/ticks/{t}"] == {"run", "fields", "stamp"} and told["/segments"] == {"run"}


@pytest.mark.parametrize("name", [row.name for row in TABLE])
def test_every_kind_of_reading_that_a_parameter_names_is_one(name: str) -> None:
    kinds = {route.reads for route in routes()}
    assert set(next(row.on for row in TABLE if row.name == name)) <= kinds


async def test_statuses_that_are_seldom_seen(open_harness: OpenHarness, tmp_path: Path) -> None:
    """Every gateway of this suite compares the statuses that it gave with what is told, when it is closed."""
    harness = await open_harness(data=str(tmp_path), max_connections=1, publish_token="secret")
    await harness.publish_all(range(30))
    await harness.publish_all(range(3), "B")
    stored = "/range?run=A&t1=29"
    tag = (await harness.get(stored)).headers["ETag"]
    seen = {
        (await harness.get(target, **headers)).status
        for target, headers in (
            (stored, {"If_None_Match": tag}),
            (stored, {"Range": "bytes=0-9"}),
            (stored, {"Range": "bytes=99999999-"}),
            ("/sse", {"Last_Event_ID": "end"}),
            ("/meta", {"Accept_Encoding": "identity;q=0"}),
            ("/meta", {"Transfer_Encoding": "gzip, chunked"}),
            ("/ws/stream", {}),
            ("/publish", {}),
            ("/ndjson", {}),
            ("/ndjson", {}),
        )
    }
    seen.add((await request(harness.port, "/publish", method="POST", body=b"{}")).status)
    assert seen >= {200, 204, 206, 304, 401, 405, 406, 416, 426, 501, 503}
    assert len(harness.answered) > 10


async def test_what_it_says_of_media_types_is_true(harness: Harness) -> None:
    await harness.publish_all(range(5))
    paths = (await harness.json("/openapi.json"))["paths"]
    for path, item in paths.items():
        if "get" not in item or "{" in path or path.startswith("/ws/"):
            continue
        response = await harness.get(path + ("?timeout=0" if path == "/poll" else ""))
        told, given = item["get"]["responses"]["200"]["content"], response.headers["Content-Type"]
        assert given in told or (given.partition(";")[0] in told and "event-stream" not in given), path
        response.close()
