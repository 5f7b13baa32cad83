"""The index of a body: when it is made, what is kept of the body meanwhile, and within which bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.harness import Harness
from tests.support.stored_ticks import COUNT, harness
from tick_gateway.server import ranges
from tick_gateway.server.body_index import BodyIndexCache
from tick_gateway.server.one_shot_reads import BODY_INDEXES_KEY
from tick_gateway.server.ranges import BodyPart, Range, SeekPoint

__all__ = ["harness"]


def use(harness: Harness, monkeypatch: pytest.MonkeyPatch, indexes: BodyIndexCache) -> None:
    """Let the gateway keep these. (An application that was started takes no new values.)"""
    monkeypatch.setitem(harness.gateway.app._state, BODY_INDEXES_KEY, indexes)


async def test_a_long_view_is_not_made_twice_but_where_its_length_is_asked_for(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tick_gateway.server.ranges.LONG_BYTES", 30_000)
    view, plain = "/range?run=A&t0=3&t1=800&fields=x", "/range?run=A&t0=3&t1=800"
    streamed = await harness.get(view)
    assert "Content-Length" not in streamed.headers
    body = await streamed.read()
    assert "Content-Length" in (await harness.get(plain)).headers, "whose blocks tell their sizes"
    head = await harness.get(view, method="HEAD")
    assert int(head.headers["Content-Length"]) == len(body)
    again = await harness.get(view)
    assert (int(again.headers["Content-Length"]), await again.read()) == (len(body), body)


@pytest.mark.parametrize("query", ["fields=x", "format=json&batch=7", "format=csv", "stamp=1&limit=300"])
async def test_what_is_made_for_a_range_is_made_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """Whoever asks for it, at the same time and later, for all of it, its length or parts."""
    made: list[int] = []
    for name in ("_rendered", "_tabulated"):
        make = getattr(ranges, name)

        def counted(wanted: Range, seek_point: SeekPoint, make: Any = make) -> AsyncIterator[BodyPart]:
            made.append(seek_point.offset)
            found: AsyncIterator[BodyPart] = make(wanted, seek_point)
            return found

        monkeypatch.setattr(ranges, name, counted)
    use(harness, monkeypatch, BodyIndexCache(chunk_bytes=5000))
    target = f"/range?run=A&t0=3&t1={COUNT - 100}&{query}"
    bodies_ = [await one.read() for one in await asyncio.gather(*(harness.get(target) for _ in range(5)))]
    size = int((await harness.get(target, method="HEAD")).headers["Content-Length"])
    assert {len(body) for body in bodies_} == {size} and len(set(bodies_)) == 1
    for first, last in ((0, 10), (4990, 5010), (size - 9000, size - 1)):
        part = await harness.get(target, Range=f"bytes={first}-{last}")
        assert await part.read() == bodies_[0][first : last + 1]
    assert made == [0]


async def test_a_body_without_room_for_a_copy_is_made_again(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies stay within their bound; what has none, or lost it while it was sent, comes all the same."""
    indexes = BodyIndexCache(copy_bytes=8_000, chunk_bytes=4_000)
    use(harness, monkeypatch, indexes)
    expected: dict[str, bytes] = {}
    for t0 in range(3, 500, 100):
        target = f"/range?run=A&t0={t0}&t1=800&fields=x,name&format=json"
        expected[target] = await (await harness.get(target)).read()
        assert [one["t"] for one in json.loads(expected[target])] == list(range(t0, 801))
        assert indexes.copies.bytes == sum(copy.bytes for copy in indexes.copies.values()) <= 8_000
    assert 0 < len(indexes.copies) < len(expected)
    for target, body in expected.items():
        assert await (await harness.get(target)).read() == body
        assert await (await harness.get(target, Range="bytes=7000-9999")).read() == body[7000:10000]
    no_room = BodyIndexCache(copy_bytes=300)
    use(harness, monkeypatch, no_room)
    body = await (await harness.get("/range?run=A&t0=9&t1=800&fields=x&format=json")).read()
    assert len(json.loads(body)) == 792 and len(no_room.copies) == no_room.copies.bytes == 0


@pytest.mark.parametrize("target", ["/range", "/range?run=A", "/range?t1=50", f"/range?run=A&t1={COUNT + 10}"])
async def test_what_may_change_has_no_length(harness: Harness, target: str) -> None:
    response = await harness.get(target, Range="bytes=0-5")
    assert response.status == 200
    assert "Content-Length" not in response.headers and "Accept-Ranges" not in response.headers
    await response.read()
