"""A reader of each transport with aiohttp, as a user writes it: a run's ticks from its beginning."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

Read = Callable[[aiohttp.ClientSession, str, int], Awaitable[list[Any]]]


async def read_websocket(session: aiohttp.ClientSession, url: str, count: int) -> list[Any]:
    async with session.ws_connect(f"{url}/ws/stream?from_t=-1&limit={count}", max_msg_size=0) as ws:
        got = [json.loads(message.data) async for message in ws if message.type is aiohttp.WSMsgType.TEXT]
    return [tick for tick in got if "t" in tick]


async def read_sse(session: aiohttp.ClientSession, url: str, count: int) -> list[Any]:
    async with session.get(f"{url}/sse?from_t=-1&limit={count}") as answer:
        text = (await answer.read()).decode()
    events = [dict(line.split(": ", 1) for line in event.split("\n") if ": " in line) for event in text.split("\n\n")]
    return [json.loads(event["data"]) for event in events if "data" in event and "event" not in event]


async def read_ndjson(session: aiohttp.ClientSession, url: str, count: int) -> list[Any]:
    async with session.get(f"{url}/ndjson?from_t=-1&limit={count}") as answer:
        got = [json.loads(line) for line in (await answer.read()).splitlines() if line]
    return [tick for tick in got if "t" in tick]


async def read_poll(session: aiohttp.ClientSession, url: str, count: int) -> list[Any]:
    got: list[Any] = []
    position = "-1"
    while len(got) < count:
        async with session.get(f"{url}/poll", params={"last_t": position, "limit": "7", "timeout": "10"}) as answer:
            body = await answer.json()
        got += body.get("ticks", [])
        position = body["position"] or position  # null: nothing was published yet
    return got[:count]


async def read_incremental(session: aiohttp.ClientSession, url: str, count: int) -> list[Any]:
    got: list[Any] = []
    position = "-1"
    while len(got) < count:
        async with session.get(f"{url}/incremental", params={"from_t": position, "limit": "11"}) as answer:
            ticks = await answer.json()
            position = answer.headers.get("Tick-Next", position)
        got += ticks
        if not ticks:  # this transport does not wait: look again when a tick has come
            await session.get(f"{url}/poll", params={"last_t": position, "timeout": "10"})
    return got[:count]


READERS: dict[str, Read] = {
    "websocket": read_websocket,
    "sse": read_sse,
    "ndjson": read_ndjson,
    "poll": read_poll,
    "incremental": read_incremental,
}
