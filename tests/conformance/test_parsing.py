"""Every parameter parses on every route, and what does not parse gets 400 with its name, on WebSocket too."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.support.harness import OpenHarness
from tick_gateway.transports import TRANSPORTS

from ..support.async_client import Response
from ..support.harness import Harness

PATHS = [*(transport.path for transport in TRANSPORTS), "/stream", "/range", "/latest", "/ticks/3", "/meta", "/runs"]

GOOD = {
    "from_t": ["-1", "0", "9", "A:-1", "A:9", "A.b_c-d:3", "9007199254740991", "A:9007199254740991"],
    "last_t": ["0", "A:3"],
    "tail": ["0", "1", "1000000"],
    "since": ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+02:00", "2026-01-31 12:00:00-02:00"],
    "run": ["A"],
    "fields": ["", "x", "agents.id,agents.x", ",".join(f"f{n}" for n in range(64)), ".".join("abcdefghijklmnop")],
    "every": ["1", "1000"],
    "batch": ["1", "1000"],
    "stamp": ["0", "1"],
    "lag": ["wait", "skip"],
    "backlog": ["0", "100"],
    "limit": ["1", "100"],
    "speed": ["0.5", "1", "1000"],
    "hello": ["0", "1"],
    "event": ["tick", "A-1_b", "x" * 64],
    "format": ["json", "ndjson"],
    "timeout": ["0", "0.1"],
    "heartbeat": ["1", "2.5", "60"],
    "t0": ["0", "3"],
    "t1": ["3", "9007199254740991"],
    "Last-Event-ID": ["A:3", "3", "garbage", "", "A:-7", "no:run:3"],
    "lastEventId": ["A:3", "3", "garbage", "", "A:-7", "no:run:3"],
}

BAD = {
    "from_t": [
        "",
        "abc",
        "-2",
        "1.5",
        "1e3",
        "01",
        "+1",
        "A:",
        ":5",
        "A:-2",
        "A b:5",
        "A:B:5",
        "9007199254740992",
        "٣",
    ],
    "last_t": ["x"],
    "tail": ["", "-1", "1.0", "x", "٣"],
    "since": ["", "yesterday", "1700000000", "2026-01-31", "2026-13-01T00:00:00Z", "2026-01-31T25:00:00Z"],
    "run": ["", "-A", "A:1", "../A", "A" * 65, "é"],
    "fields": [",".join(f"f{n}" for n in range(65)), ".".join("abcdefghijklmnopq"), "a..b", ".a", "a."],
    "every": ["0", "-1", "1.5", "x", ""],
    "batch": ["0", "1001", "x"],
    "stamp": ["2", "true", ""],
    "lag": ["", "never", "WAIT"],
    "backlog": ["-1", "x"],
    "limit": ["0", "-1", "x"],
    "speed": ["0", "-1", "nan", "inf", "x", ""],
    "hello": ["2", "yes"],
    "event": ["", "a b", "a\nb", "x" * 65, "é", "hello", "gap", "reset", "end", "overloaded", "error", "open"],
    "format": ["xml", "JSON", ""],
    "timeout": ["-1", "x", "nan", "1e9"],
    "heartbeat": ["0", "-1", "x", "inf"],
    "t0": ["-1", "x"],
    "t1": ["-1", "x"],
}


@pytest.fixture
async def ready(open_harness: OpenHarness) -> Harness:
    harness = await open_harness()
    await harness.publish_all(range(10))
    return harness


async def _close(response: Response, status: int) -> None:
    """Let go of an answer of that status, without reading a stream to its end."""
    problem = (await response.read()).decode() if response.status not in (200, 101) else ""
    assert response.status == status, problem
    response.close()


@pytest.mark.parametrize("path", PATHS)
async def test_every_known_parameter_parses_on_every_route(ready: Harness, path: str) -> None:
    described = (await ready.json("/openapi.json"))["components"]["parameters"]
    assert set(described) == set(GOOD), "a parameter is not tried here"
    status = 101 if path == ready.paths["websocket"] else 200
    for name, values in GOOD.items():
        for value in values:
            wait = "&timeout=0" if path == ready.paths["longpoll"] and name != "timeout" else ""
            if path == ready.paths["incremental"] and value.endswith("9007199254740991") and name == "from_t":
                continue  # it waits for the tip
            response = await ready.ask(f"{path}?{name}={quote(value)}{wait}")
            nothing = path in ("/range", "/latest") and name in (
                "from_t", "last_t", "tail", "since", "Last-Event-ID", "lastEventId",
            )  # fmt: skip
            await _close(response, 404 if nothing and response.status == 404 else status)  # there may be no such tick


@pytest.mark.parametrize("path", PATHS)
async def test_what_does_not_parse_is_refused_by_name(ready: Harness, path: str) -> None:
    for name, values in BAD.items():
        for value in values:
            response = await ready.ask(f"{path}?{name}={quote(value)}")
            body = json.loads(await response.read())
            assert response.status == 400, f"{name}={value}: {response.status}"
            assert response.headers["Content-Type"].startswith("application/json")
            assert set(body) == {"error", "message", "parameter"}
            assert (body["error"], body["parameter"]) == ("bad_parameter", name)
            assert name in body["message"]


@pytest.mark.parametrize("path", PATHS)
async def test_what_contradicts_is_refused(ready: Harness, path: str) -> None:
    for query, error, parameter in (
        ("nonsense=1", "unknown_parameter", "nonsense"),
        ("From_t=1", "unknown_parameter", "From_t"),
        ("from_t=1&x", "unknown_parameter", "x"),
        ("every=2&every=2", "bad_parameter", "every"),
        ("from_t=1&from_t=1", "bad_parameter", "from_t"),
        ("from_t=1&last_t=1", "bad_parameter", "last_t"),
        ("from_t=1&tail=1", "bad_parameter", "tail"),
        ("from_t=1&since=2026-01-31T12:00:00Z", "bad_parameter", "since"),
        ("tail=1&since=2026-01-31T12:00:00Z", "bad_parameter", "since"),
        ("from_t=B:1&run=A", "bad_parameter", "run"),
        ("t0=5&t1=4", "bad_parameter", "t0"),
    ):
        response = await ready.ask(f"{path}?{query}")
        body = json.loads(await response.read())
        assert (query, response.status, body["error"], body["parameter"]) == (query, 400, error, parameter)


@pytest.mark.parametrize("path", ["/", "/segments", *PATHS])
@pytest.mark.parametrize("form", ["csv", "arrow"])
async def test_a_table_is_refused_where_there_is_none(ready: Harness, path: str, form: str) -> None:
    """Beside every other parameter, and in every way to ask: nobody waits for a table that does not come."""
    others = [f"{name}={quote(values[0])}" for name, values in GOOD.items() if name != "format"]
    for query in ("", *others, "limit=2&tail=1", "run=A&timeout=0", "t0=1&t1=3"):
        response = await ready.ask(f"{path}?{query}&format={form}".replace("?&", "?"))
        if path == "/range":
            await _close(response, response.status if form == "arrow" or response.status == 404 else 200)
            continue
        body = json.loads(await response.read())
        assert (query, response.status, body["parameter"]) == (query, 400, "format")
        assert "json and ndjson are accepted" in body["message"]
    for accept in ("text/event-stream", "application/json", "text/csv"):
        if path not in ("/", "/range"):
            assert (await ready.get(f"{path}?format={form}", Accept=accept)).status == 400


@pytest.mark.parametrize("path", ["/sse", "/stream", "/ndjson", "/poll", "/incremental"])
async def test_the_event_id_outranks_every_other_start(ready: Harness, path: str) -> None:
    for header, query in (
        ("A:3", ""),
        ("A:3", "from_t=A:7"),
        ("A:3", "tail=1"),
        ("A:3", "since=2020-01-01T00:00:00Z"),
        ("A:3", "Last-Event-ID=A:7"),
        ("3", "from_t=7"),
        ("", "Last-Event-ID=A:3&from_t=A:7"),
        ("", "from_t=A:3&Last-Event-ID="),
        ("", "lastEventId=A:3"),
        ("", "from_t=A:7&lastEventId=A:3"),
        ("", "lastEventId=A:7&tail=1&lastEventId=A:3"),
        ("A:3", "lastEventId=A:7"),
    ):
        headers = {"Last_Event_ID": header} if header else {}
        headers |= {"Accept": "text/event-stream"} if path == "/stream" else {}
        response = await ready.get(f"{path}?{query}", **headers)
        assert response.status == 200, await response.read()
        assert (header, query, (await _first_tick(path, response))["t"]) == (header, query, 4)
        response.close()


async def _first_tick(path: str, response: Response) -> dict[str, int]:
    tick: dict[str, int]
    if path == "/poll":
        tick = (await response.json())["data"]
        return tick
    if path == "/incremental":
        tick = (await response.json())[0]
        return tick
    async for line in response.lines():
        text = line.removeprefix(b"data: ")
        if text.startswith(b"{") and b'"notice"' not in text:
            tick = json.loads(text)
            return tick
    raise AssertionError("the stream ended without a tick")


@pytest.mark.parametrize("text", ["garbage", "A:x", "é:1", "A:-7", "99999999999999999999", "a:b:1", "x" * 4000])
async def test_an_event_id_that_does_not_parse_is_an_unknown_run(ready: Harness, text: str) -> None:
    """Never 400: EventSource would give up for ever."""
    targets = ("/sse", "/sse?run=A", f"/sse?Last-Event-ID={quote(text)}", f"/sse?run=A&lastEventId={quote(text)}")
    for target in targets:
        headers = {} if "vent" in target else {"Last_Event_ID": text}
        response = await ready.get(target, **headers)
        assert response.status == 200
        async for line in response.lines():
            if line.startswith(b"data: "):
                reset = json.loads(line.removeprefix(b"data: "))
                break
        assert reset == {"notice": "reset", "run": "A", "old": None, "complete": False}
        response.close()
