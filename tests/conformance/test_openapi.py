"""/openapi.json tells of every route and every parameter, and is OpenAPI."""

from __future__ import annotations

import re
from typing import Any

from tick_gateway.params import TABLE
from tick_gateway.transports import TRANSPORTS

from .house import House

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
TYPES = {"string", "integer", "number", "boolean", "object", "array", "null"}


def _check_schema(schema: dict[str, Any]) -> None:
    assert set(schema) <= {"type", "minimum", "maximum", "enum", "pattern", "format", "properties", "required"}
    assert schema["type"] in TYPES
    assert set(schema.get("required", [])) <= set(schema.get("properties", {}))
    for inner in schema.get("properties", {}).values():
        _check_schema(inner)
    if "pattern" in schema:
        re.compile(schema["pattern"])


def _check_operation(path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    seen = set()
    for parameter in operation["parameters"]:
        assert parameter["in"] in ("query", "path")
        assert parameter["required"] is (parameter["in"] == "path"), "a path's parameters are required"
        _check_schema(parameter["schema"])
        seen.add((parameter["in"], parameter["name"]))
    assert len(seen) == len(operation["parameters"]), "each parameter once"
    assert {name for where, name in seen if where == "path"} == set(re.findall(r"{(\w+)}", path))
    assert operation["responses"]
    for status, response in operation["responses"].items():
        assert re.fullmatch(r"[1-5](\d\d|XX)", status)
        assert response["description"]
        for media_type, content in response.get("content", {}).items():
            assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+(; charset=utf-8)?", media_type)
            if "schema" in content:
                _check_schema(content["schema"])


async def test_it_is_openapi(house: House) -> None:
    response = await house.get("/openapi.json")
    assert response.headers["Content-Type"].startswith("application/json")
    described = await response.json()
    assert re.fullmatch(r"3\.1\.\d", described["openapi"])
    assert set(described["info"]) >= {"title", "version"}
    for path, item in described["paths"].items():
        assert path.startswith("/")
        assert item
        assert set(item) <= METHODS
        for operation in item.values():
            _check_operation(path, operation)


async def test_every_route_is_in_it(house: House) -> None:
    paths = (await house.json("/openapi.json"))["paths"]
    mounted = {
        (route.method, route.resource.canonical)
        for route in house.gateway.app.router.routes()
        if route.resource is not None and route.method not in ("HEAD", "OPTIONS")
    }
    assert {(method.upper(), path) for path, item in paths.items() for method in item} == mounted


async def test_every_parameter_is_in_it_wherever_it_is_read(house: House) -> None:
    paths = (await house.json("/openapi.json"))["paths"]
    readers = [transport.path for transport in TRANSPORTS]
    for path in [*readers, "/", "/stream", "/range", "/latest", "/ticks/{t}", "/meta", "/runs"]:
        told = {p["name"]: p for p in paths[path]["get"]["parameters"] if p["in"] == "query"}
        assert set(told) == {row.name for row in TABLE}
        assert all(parameter["description"] for parameter in told.values())


async def test_what_it_says_of_media_types_is_true(house: House) -> None:
    await house.publish_all(range(5))
    paths = (await house.json("/openapi.json"))["paths"]
    for path, item in paths.items():
        if "get" not in item or "{" in path or path.startswith("/ws/"):
            continue
        response = await house.get(path + ("?timeout=0" if path == "/poll" else ""))
        told, given = item["get"]["responses"]["200"]["content"], response.headers["Content-Type"]
        assert given in told or (given.partition(";")[0] in told and "event-stream" not in given), path
        response.close()
