"""Range requests: which bytes a request asks for, and the heads of the answers."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from tests.support.harness import Harness
from tests.support.stored_ticks import COUNT, harness
from tick_gateway.server.byte_ranges import begin_answer, requested

__all__ = ["harness"]


@pytest.mark.parametrize("query", ["", "&format=json", "&fields=x", "&batch=7", "&every=3&limit=40", "&stamp=1"])
async def test_length_and_bytes_of_a_range(harness: Harness, query: str) -> None:
    target = f"/range?run=A&t0=3&t1={COUNT - 100}{query}"
    response = await harness.get(target)
    assert response.headers["Accept-Ranges"] == "bytes"
    body = await response.read()
    assert len(body) == int(response.headers["Content-Length"])
    for first, last in ((0, 0), (5, 4000), (9000, 9001), (0, len(body) + 5), (len(body) - 1, len(body) - 1)):
        part = await harness.get(target, Range=f"bytes={first}-{last}")
        expected = body[first : last + 1]
        if expected:
            assert (part.status, await part.read()) == (206, expected)
            assert part.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{len(body)}"


async def test_who_asks_for_bytes_in_another_way_gets_all_or_nothing(harness: Harness) -> None:
    target = "/range?run=A&t0=3&t1=80"
    whole = await harness.get(target)
    tag, body = whole.headers["ETag"], await whole.read()
    for asked in ("bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,5-9", "lines=0-1", "bytes=a-b"):
        response = await harness.get(target, Range=asked)
        assert (response.status, await response.read()) == (200, body), asked
    for condition, status in ((tag, 206), ('"other"', 200), ("Sat, 28 Nov 2026 08:00:00 GMT", 200)):
        response = await harness.get(target, Range="bytes=1-2", If_Range=condition)
        assert response.status == status
        await response.read()
    beyond = await harness.get(target, Range=f"bytes={len(body)}-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(body)}")
    digits = await harness.get(target, Range="bytes=" + "9" * 5000 + "-")
    assert (digits.status, await digits.read()) == (200, body)
    assert beyond.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("bytes=0-0", (0, 1)),
        ("bytes=0-99", (0, 100)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=-0", (100, 100)),
        ("BYTES = 1 - 2", (1, 3)),
        ("bytes=100-", (100, 100)),
        ("bytes=500-600", (500, 500)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=1-2,4-5", None),
        ("lines=1-2", None),
        ("bytes=+1-2", None),
        ("bytes=1-\u0662", None),
        (f"bytes={'9' * 19}-", None),
    ],
)
def test_which_bytes_a_header_asks_for(header: str, expected: tuple[int, int] | None) -> None:
    """What is no range of bytes counts as none; one that begins behind the end is empty, which becomes a 416."""
    assert requested(make_mocked_request("GET", "/", headers={"Range": header}), 100, '"tag"') == expected


@pytest.mark.parametrize(
    ("method", "condition", "some"),
    [
        ("GET", None, True),
        ("GET", '"tag"', True),
        ("GET", '"other"', False),
        ("GET", 'W/"tag"', False),
        ("HEAD", None, False),
    ],
)
def test_when_bytes_may_be_asked_for(method: str, condition: str | None, some: bool) -> None:
    headers = {"Range": "bytes=1-2"} | ({"If-Range": condition} if condition else {})
    assert (requested(make_mocked_request(method, "/", headers=headers), 100, '"tag"') is not None) == some


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 400))
def test_the_head_tells_the_bytes_that_follow(first: int, last: int, size: int) -> None:
    request = make_mocked_request("GET", "/", headers={"Range": f"bytes={first}-{last}"})
    response, part = begin_answer(request, size, {"ETag": '"tag"'})
    assert response.content_length is None or response.content_length == part.end - part.begin
    if response.status == 206:
        assert response.headers["Content-Range"] == f"bytes {part.begin}-{part.end - 1}/{size}"
        assert 0 <= part.begin < part.end <= size
    elif response.status == 416:
        assert first >= size and response.headers["Content-Range"] == f"bytes */{size}"
    else:
        assert (response.status, part) == (200, (0, size)) and last < first
