"""Bodies of pulls: made and compressed once, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from tick_gateway.delivery.response_cache import ResponseCache
from tick_gateway.history.threads import ReadingThreads
from tick_gateway.model.view import View
from tick_gateway.wire.codings import CODINGS


def test_long_keys_count_in_what_is_kept() -> None:
    cache = ResponseCache(ReadingThreads(), 100_000)
    for number in range(100):
        key = ("incremental", None, View(fields=(f"{number}" + "x" * 7000,)), False)
        asyncio.run(cache.get(key, lambda: b"[]", None, 2))
    made = cache.made
    asyncio.run(cache.get(key, lambda: b"[]", None, 2))
    assert cache.made == made
    assert len(cache._kept) <= 14


async def test_large_bodies_are_not_made_before_it_is_their_turn_to_be_compressed() -> None:
    """A crowd whose clients all ask for something else would hold as many of them as it has clients."""

    class Held:
        async def run(self, call: Callable[..., bytes], *args: Any) -> bytes:
            await go_on.wait()
            return call(*args)

    def make() -> bytes:
        return b"x" * 100_000

    cache, go_on, gzip = ResponseCache(cast(ReadingThreads, Held())), asyncio.Event(), CODINGS.make("gzip", 6)
    asked = [asyncio.create_task(cache.get(number % 20, make, gzip, 100_000)) for number in range(40)]
    for _ in asked:
        await asyncio.sleep(0)
    assert cache.made == 4
    assert (await cache.get("small", lambda: b"x" * 1000, gzip, 1000))[1] == "gzip", "it waits for none of them"
    assert len((await cache.get("plain", make, None, 100_000))[0]) == 100_000
    go_on.set()
    assert len({body for body, _ in await asyncio.gather(*asked)}) == 1
    assert (cache.made, cache.compressed) == (22, 21)
