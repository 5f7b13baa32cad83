"""What transports share: the parameters of a request, whether there is room, and in which coding it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tick_gateway import Gateway
from tick_gateway.delivery.encoder import Variant
from tick_gateway.errors import NotAcceptable, NotFound, Overloaded, ParameterError, TooManyViews
from tick_gateway.model.view import View
from tick_gateway.runtime import Runtime
from tick_gateway.transports import TRANSPORTS
from tick_gateway.transports.base import (
    acceptable,
    check_identity,
    check_run,
    first_frame_only,
    live_coding,
    pull_coding,
    query_of,
    refusal,
)
from tick_gateway.wire.ndjson import NDJSONFraming

WHOLE = Variant(NDJSONFraming(), View())


@dataclass(frozen=True)
class Member:
    """A session, for the registry of readers."""

    variant: Variant


def request(target: str = "/", **headers: str) -> web.Request:
    return make_mocked_request("GET", target, headers={name.replace("_", "-"): text for name, text in headers.items()})


def runtime(**settings: Any) -> Runtime:
    return Gateway(**settings).runtime


@pytest.mark.parametrize("name", ["csv", "arrow"])
def test_tables_are_refused_where_there_are_none(name: str) -> None:
    assert query_of(request(f"/range?format={name}"), tables=True).format == name
    with pytest.raises(ParameterError, match="for /range alone"):
        query_of(request(f"/sse?format={name}"))


def test_the_header_is_a_position() -> None:
    assert str(query_of(request("/sse?tail=5", Last_Event_ID="A:7")).start) == "A:7"


def test_a_run_that_is_not_known() -> None:
    found = runtime()
    check_run(found, query_of(request("/sse")))
    with pytest.raises(NotFound):
        check_run(found, query_of(request("/sse?run=A")))


@pytest.mark.parametrize(
    ("accept", "agent", "live", "pull"),
    [
        ("", "", "", ""),
        ("gzip, deflate, br, zstd", "Mozilla/5.0", "gzip", "zstd"),
        ("zstd", "Mozilla/5.0", "zstd", "zstd"),
        ("zstd", "node", "", "zstd"),
        ("zstd, gzip", "undici", "gzip", "zstd"),
        ("br", "", "", ""),
    ],
)
def test_the_coding_of_a_stream_and_of_an_answer_that_ends(accept: str, agent: str, live: str, pull: str) -> None:
    found, asked = runtime(), request(Accept_Encoding=accept, User_Agent=agent)
    made = live_coding(asked, found), pull_coding(asked, found)
    assert [coding.name if coding is not None else "" for coding in made] == [live, pull]


def test_without_compression_there_is_no_coding() -> None:
    found, asked = runtime(compression=0), request(Accept_Encoding="gzip")
    assert live_coding(asked, found) is None and pull_coding(asked, found) is None


@pytest.mark.parametrize(
    ("agent", "one"), [("node", True), ("got (https://x)", True), ("nodejs-like", False), ("", False)]
)
def test_clients_that_read_one_frame(agent: str, one: bool) -> None:
    assert first_frame_only(request(User_Agent=agent)) == one


def test_who_refuses_bytes_as_they_are_gets_them_compressed() -> None:
    found = runtime()
    asked = request(Accept_Encoding="gzip, identity;q=0")
    response = acceptable(asked, found, web.Response(body=b"x" * 100))
    assert isinstance(response, web.Response) and response.headers["Content-Encoding"] == "gzip"
    for other in (web.Response(status=404, body=b"x"), web.Response(headers={"Content-Encoding": "zstd"}, body=b"x")):
        assert acceptable(asked, found, other) is other and other.body == b"x"
    plain = web.Response(body=b"x")
    assert acceptable(request(Accept_Encoding="gzip"), found, plain) is plain and plain.body == b"x"


def test_what_comes_as_it_is_alone_is_refused_to_who_takes_none() -> None:
    check_identity(request(Accept_Encoding="gzip"))
    with pytest.raises(NotAcceptable):
        check_identity(request(Accept_Encoding="gzip, identity;q=0"))


def test_there_is_room_until_there_is_none() -> None:
    assert refusal(request(), runtime(), WHOLE) is None
    full = runtime()
    full.draining = True
    assert isinstance(refusal(request(), full, WHOLE), Overloaded)
    views = runtime(max_views=1)
    views.fanout.registry.admit(cast(Any, Member(WHOLE._replace(view=View(fields=("y",))))))
    found = refusal(request(), views, WHOLE._replace(view=View(fields=("x",))))
    assert isinstance(found, TooManyViews) and views.fanout.registry.refused == 1
    assert refusal(request(), views, WHOLE) is None, "whole ticks cost nothing more"


@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda transport: transport.name)
def test_each_says_of_itself_what_routes_and_docs_need(transport: Any) -> None:
    assert transport.kind in ("stream", "pull") and transport.path.startswith("/")
    assert transport.summary and "/" in transport.media_type
