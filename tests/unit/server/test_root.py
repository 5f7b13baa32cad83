"""One address for everybody: what / and /stream are is decided by what a request accepts."""

from __future__ import annotations

import json

import pytest

from tests.support.harness import Harness, tick
from tick_gateway.transports import TRANSPORTS


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("application/json", "application/json"),
        ("*/*", "application/x-ndjson"),
        (None, "application/x-ndjson"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/plain", "application/x-ndjson"),
        ("text/event-stream", "text/event-stream"),
    ],
)
async def test_who_asks_decides_what_the_root_is(harness: Harness, accept: str | None, media_type: str) -> None:
    await harness.publish_all(range(5))
    headers = {"Accept": accept} if accept else {}
    response = await harness.get("/?tail=2&limit=2", **headers)
    assert response.status == 200
    assert response.headers["Content-Type"].partition(";")[0] == media_type
    assert "Accept" in response.headers["Vary"]
    body = await response.read()
    if media_type == "application/json":
        assert set(json.loads(body)["transports"]) == {transport.name for transport in TRANSPORTS}
    elif media_type != "text/html":
        assert tick("A", 3) in body
        assert tick("A", 4) in body


async def test_a_browser_gets_the_page_whatever_its_parameters(harness: Harness) -> None:
    response = await harness.get("/?nonsense=1&every=0", Accept="text/html")
    assert response.status == 200
    assert b"<html" in await response.read()


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/event-stream", "text/event-stream; charset=utf-8"),
        ("text/event-stream, */*", "text/event-stream; charset=utf-8"),
        ("*/*", "application/x-ndjson"),
        ("text/html", "application/x-ndjson"),
        (None, "application/x-ndjson"),
    ],
)
async def test_who_asks_decides_what_the_stream_is(harness: Harness, accept: str | None, media_type: str) -> None:
    headers = {"Accept": accept} if accept else {}
    response = await harness.get("/stream", **headers)
    assert response.headers["Content-Type"] == media_type


async def test_the_description_links_to_what_tells_more(harness: Harness) -> None:
    links = json.loads(await (await harness.get("/", Accept="application/json")).read())["links"]
    assert set(links) == {"meta", "runs", "range", "latest", "openapi.json"}
    for name, link in links.items():
        assert link == f"http://127.0.0.1:{harness.port}/{name}"
