"""Answers that are one JSON value, errors among them, and headers that are lists."""

from __future__ import annotations

import json

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from tick_gateway.errors import (
    GatewayError,
    NotAllowed,
    NotAWebSocket,
    NotFound,
    Overloaded,
    ParameterError,
    TooManyViews,
)
from tick_gateway.http.responses import error_reply, header_list, json_reply


@pytest.mark.parametrize(
    ("lines", "expected"), [([], ""), (["gzip"], "gzip"), (["gzip, zstd", "br"], "gzip, zstd, br"), (["", "x"], ", x")]
)
def test_a_header_on_any_number_of_lines_is_one_list(lines: list[str], expected: str) -> None:
    headers = CIMultiDict([("accept-encoding", line) for line in lines])
    assert header_list(make_mocked_request("GET", "/", headers=headers), "Accept-Encoding") == expected


def test_json_is_compact_and_ends_its_line() -> None:
    response = json_reply({"a": [1, None]}, status=201, headers={"Cache-Control": "no-store"})
    assert (response.text, response.status) == ('{"a":[1,null]}\n', 201)
    assert (response.content_type, response.headers["Cache-Control"]) == ("application/json", "no-store")


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (GatewayError("x"), {}),
        (NotFound("x"), {}),
        (ParameterError("limit", "x"), {}),
        (NotAllowed("x", 403), {}),
        (NotAllowed("x", 401), {"WWW-Authenticate": "Bearer"}),
        (NotAWebSocket("x"), {"Upgrade": "websocket", "Connection": "Upgrade"}),
        (Overloaded(), {"Retry-After": "5"}),
        (TooManyViews(3), {"Retry-After": "5"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_has_the_headers_of_its_status(error: GatewayError, headers: dict[str, str]) -> None:
    response = error_reply(error)
    assert response.status == error.status and json.loads(response.text or "") == error.as_dict()
    own = {name: value for name, value in response.headers.items() if name != "Content-Type"}
    assert own == headers | {"Cache-Control": "no-store"}
