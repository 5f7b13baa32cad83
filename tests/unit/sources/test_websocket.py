"""/ws/publish: a tick a message, acknowledged group by group."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.support.serving import Serving, serving

WebSocket = aiohttp.ClientWebSocketResponse


@pytest.fixture
async def gateway() -> AsyncIterator[Serving]:
    async with serving(max_tick=1000) as found:
        yield found


async def connect(gateway: Serving, path: str = "/ws/publish", **headers: str) -> WebSocket:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gateway.session.ws_connect(gateway.client.make_url(path), headers=named)


async def answers(ws: WebSocket, until: int) -> list[dict[str, Any]]:
    """What the gateway answers, up to the acknowledgement of `until`."""
    found: list[dict[str, Any]] = []
    while not found or found[-1].get("ack") != until:
        found.append(json.loads(await ws.receive_str()))
    return found


async def closed(ws: WebSocket) -> tuple[int | None, str | None]:
    """The close code and reason; answers before it are passed over."""
    while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
        continue
    assert message.type is aiohttp.WSMsgType.CLOSE, message
    return message.data, message.extra


async def test_what_is_acknowledged_can_be_read(gateway: Serving) -> None:
    ws = await connect(gateway, Tick_Run="one")
    sent = 0
    for burst in (1, 1, 50, 3, 300):
        for _ in range(burst):
            sent += 1
            await ws.send_str(f'{{"t":{sent}}}')
        acked = 0
        while acked < sent:
            ((name, t),) = json.loads(await ws.receive_str()).items()
            assert name == "ack" and acked < t <= sent
            acked = t
            assert (await gateway.get("/meta"))["tip"] >= acked
    assert await gateway.ticks("one") == [b'{"t":%d}' % t for t in range(1, sent + 1)]
    await ws.close()


async def test_text_and_binary_are_the_same(gateway: Serving) -> None:
    ws = await connect(gateway)
    await ws.send_str(' {"t":1,\n"x":"é"}\n')
    await ws.send_bytes('{"t":2,"x":"é"}'.encode())
    await answers(ws, 2)
    assert await gateway.ticks() == ['{"t":1, "x":"é"}'.encode(), '{"t":2,"x":"é"}'.encode()]


async def test_errors_name_the_tick_and_the_stream_goes_on(gateway: Serving) -> None:
    ws = await connect(gateway, "/ws/publish?run=one")
    refused = ["nonsense", "[]", '{"t":-1}', '{"t":1.5}', '{"t":1,"x":2}', '{"t":0}', '{"t":2,"x":NaN}']
    refused.append('{"t":3,"x":"%s"}' % ("x" * 1000))
    for text in ['{"t":1}', *refused, '{"t":2}']:
        await ws.send_str(text)
    found = await answers(ws, 2)
    errors = [answer for answer in found if "error" in answer]
    assert [(e["error"], e["t"], e["number"]) for e in errors] == [
        ("malformed", None, 2),
        ("malformed", None, 3),
        ("malformed", -1, 4),
        ("malformed", None, 5),
        ("conflict", 1, 6),
        ("out_of_order", 0, 7),
        ("malformed", None, 8),
        ("too_big", None, 9),
    ]
    assert all(error["message"] for error in errors)
    assert found.index({"ack": 2}) > found.index(errors[-1])  # everything before an ack was answered before it
    assert await gateway.ticks() == [b'{"t":1}', b'{"t":2}']


async def test_a_burst_of_errors_is_answered_whole(gateway: Serving) -> None:
    ws = await connect(gateway)

    async def send() -> None:
        for number in range(5000):
            await ws.send_str(f"bad {number}")
        await ws.send_str('{"t":7}')

    sending = asyncio.create_task(send())
    found = await answers(ws, 7)
    await sending
    assert [answer["number"] for answer in found[:-1]] == list(range(1, 5001))


async def test_what_was_not_acknowledged_is_sent_again(gateway: Serving) -> None:
    first = await connect(gateway, Tick_Run="one")
    for t in range(100):
        await first.send_str(f'{{"t":{t}}}')
    assert first._response.connection is not None and first._response.connection.transport is not None
    first._response.connection.transport.abort()  # without a word, whatever was on its way
    again = await connect(gateway, Tick_Run="one")
    for t in range(120):
        await again.send_str(f'{{"t":{t}}}')
    found = await answers(again, 119)
    assert not [answer for answer in found if "error" in answer]
    assert await gateway.ticks("one") == [b'{"t":%d}' % t for t in range(120)]


async def test_a_duplicate_is_acknowledged(gateway: Serving) -> None:
    ws = await connect(gateway, Tick_Run="one")
    for t in (1, 2, 3):
        await ws.send_str(f'{{"t":{t}}}')
    await answers(ws, 3)
    await ws.send_str('{"t":2}')
    assert await answers(ws, 2) == [{"ack": 2}]
    assert (await gateway.get("/meta"))["tip"] == 3


async def test_a_run_that_was_superseded_is_closed(gateway: Serving) -> None:
    ws = await connect(gateway, Tick_Run="one")
    await ws.send_str('{"t":1}')
    await answers(ws, 1)
    await gateway.post(b'{"t":1}', Tick_Run="two")
    await ws.send_str('{"t":2}')
    told = json.loads(await ws.receive_str())
    assert (told["error"], told["t"]) == ("run_closed", 2)
    await ws.send_str('{"t":1}')  # stored: a duplicate still
    assert await answers(ws, 1) == [{"ack": 1}]


async def test_without_a_name_a_simulation_may_start_over(gateway: Serving) -> None:
    ws = await connect(gateway)
    for t in (5, 6, 5, 6, 7):
        await ws.send_str(f'{{"t":{t}}}')
    await answers(ws, 7)
    runs = (await gateway.get("/runs"))["runs"]
    assert [(run["first"], run["last"], run["ended"]) for run in runs] == [(5, 6, True), (5, 7, False)]


async def test_what_is_far_too_large_closes_the_connection(gateway: Serving) -> None:
    ws = await connect(gateway)
    await ws.send_str('{"t":1}')
    await ws.send_str("x" * 5000)
    code, _ = await closed(ws)
    assert code == 1009
    assert await gateway.ticks() == [b'{"t":1}']


@pytest.mark.parametrize(("path", "parameter"), [("?run=a%20b", "run"), ("?rum=a", "rum"), ("?run=a&run=b", "run")])
async def test_bad_parameters(gateway: Serving, path: str, parameter: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await connect(gateway, "/ws/publish" + path)
    assert caught.value.status == 400
    assert (await gateway.get("/ws/publish" + path, status=400))["parameter"] == parameter


async def test_a_request_that_is_no_handshake(gateway: Serving) -> None:
    assert (await gateway.get("/ws/publish", status=426))["error"] == "not_a_websocket"


async def test_shutdown_acknowledges_what_was_taken_and_says_goodbye(gateway: Serving) -> None:
    publishers = [await connect(gateway, Tick_Run="one") for _ in range(3)]
    for t, ws in enumerate(publishers):
        await ws.send_str(f'{{"t":{t}}}')
        await answers(ws, t)
    async with gateway.client.get("/ndjson?tail=1") as reader:
        while json.loads(await reader.content.readline()) != {"t": 2}:
            continue
        await publishers[0].send_str('{"t":3}')
        while (await gateway.get("/meta"))["tip"] != 3:
            continue
        stopping = asyncio.create_task(gateway.client.server.close())
        assert await answers(publishers[0], 3) == [{"ack": 3}]
        for ws in publishers:
            assert await closed(ws) == (1001, "shutdown")
        await stopping
        assert json.loads(await reader.content.readline()) == {"t": 3}  # what was acknowledged reached the readers
        assert json.loads(await reader.content.readline())["reason"] == "shutdown"
    assert not gateway.gateway.runtime._publishers


async def test_shutdown_answers_an_endless_post(gateway: Serving) -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while True:
            yield await pieces.get()

    publishing = asyncio.create_task(gateway.post(body(), status=503, Tick_Run="one"))
    pieces.put_nowait(b'{"t":0}\n{"t":1}\n{"t":2')
    while (await gateway.get("/meta"))["tip"] != 1:
        continue
    await gateway.client.server.close()
    answer = await publishing
    assert (answer["error"], answer["accepted"], answer["tip"]) == ("shutdown", 2, 1)
    assert not gateway.gateway.runtime._publishers
