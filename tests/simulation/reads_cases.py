"""Random requests to every reading route, and the check of their answers against the model.

A case is a route, its parameters and a coding. ``Difference`` tells what was asked, where, and how the answer differs.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from typing import Any, Final
from urllib.parse import urlencode

from tests.simulation.reads_model import Ask, Change, Expected, Over, Pull, Shown, Tick, Told, World, shown
from tests.simulation.reads_worlds import START, Place
from tests.support import events
from tests.support.async_client import Refused, Response, elements, members, request
from tests.support.readers.registry import FLAVOURS
from tests.support.readers.streams import DeflatedReader

PATIENCE: Final = 20.0  # seconds that an answer may take
CODINGS: Final = ("", "gzip", "zstd", "identity", "gzip;q=0.5, zstd;q=0.4", "*")
PULLS: Final = ("/range", "/latest", "/ticks", "/incremental", "/poll")
STREAMS: Final = (
    ("/ndjson", "ndjson"), ("/ndjson", "ndjson-gzip"), ("/ndjson", "ndjson-zstd"), ("/ndjson", "ndjson-http1.0"),
    ("/", "ndjson"), ("/stream", "ndjson-zstd"), ("/stream", "sse"), ("/stream", "sse-gzip"),
    ("/sse", "sse"), ("/sse", "sse-gzip"), ("/sse", "sse-zstd"),
    ("/ws/stream", "websocket"), ("/ws/stream", "websocket-deflate"), ("/ws/stream", "websocket-alone"),
    ("/ws/stream", "websocket-browser"),
)  # fmt: skip
_FIELDS: Final = ("", "x", "agents.x", "agents.id,agents.pos.lat", "t", "nothing", "agents,agents.x", "none,s.y,pad")


Options = tuple[tuple[str, float, tuple[object, ...]], ...]


class Difference(AssertionError):
    """An answer is not what the model says."""


@dataclass(frozen=True)
class Case:
    """A request."""

    route: str
    flavour: str
    parameters: dict[str, str]
    ask: Ask
    refused: int = 0  # the status that it has to get; 0: it is served

    def __str__(self) -> str:
        return f"{self.route}?{urlencode(self.parameters)} [{self.flavour or 'identity'}]"


# ---- what is asked ----


def cases(random: Random, world: World) -> Iterator[Case]:
    """Requests without end."""
    while True:
        stream = random.random() < 0.5
        route, flavour = random.choice(STREAMS) if stream else (random.choice(PULLS), random.choice(CODINGS))
        yield _case(random, world, route, flavour)


def _case(random: Random, world: World, route: str, flavour: str) -> Case:
    parameters: dict[str, str] = {}
    ask = _start(random, world, parameters, poll=route == "/poll")
    ask = _view(random, parameters, ask)
    if random.random() < 0.4:
        ask = replace(ask, limit=random.choice((1, 2, 5, 30, 1000)))
        parameters["limit"] = str(ask.limit)
    options: Options = (
        ("backlog", 0.15, (0, 1, 3, 50)), ("lag", 0.2, ("wait", "skip")), ("hello", 0.2, (0, 1)),
        ("event", 0.15, ("tick", "a-b_C")), ("format", 0.3, ("json", "ndjson")), ("heartbeat", 0.1, (1, 3600)),
        ("speed", 0.1, (1_000_000, "999999.5")),
    )  # fmt: skip
    for name, chance, values in options:
        if random.random() < chance:
            parameters[name] = str(random.choice(values))
    ask = replace(ask, skip=parameters.get("lag") == "skip")
    if flavour == "websocket-browser":
        parameters["hello"] = "1"  # it cannot know the run otherwise
    if "backlog" in parameters:
        ask = replace(ask, backlog=int(parameters["backlog"]))
    if route == "/poll":
        parameters["timeout"] = "0.5" if _waits(world, ask) else "0"
    if route == "/range" and random.random() < 0.1:
        parameters["format"] = "csv"
    if route == "/range" or random.random() < 0.05:
        ask = _bounds(random, world, parameters, ask)
    if route == "/ticks":
        route = f"/ticks/{_number(random, world, world.runs.get(ask.run or '', world.newest).id)}"
    return _spoilt(random, world, Case(route, flavour, parameters, ask))


def _waits(world: World, ask: Ask) -> bool:
    """Whether its position lies beyond the tip of a run that goes on, so that a poll waits before it is reset."""
    if not isinstance(ask.start, tuple) or (run := world.runs.get(ask.start[0])) is None:
        return False
    return not run.over and ask.start[1] > run.tip


def _number(random: Random, world: World, run: str) -> int:
    """A number that may be a tick's, or near one, or far away."""
    published = [tick.t for tick in world.runs[run].ticks]
    tip = published[-1]
    number = random.choice((*published, *published, 0, 0, tip, tip, tip + 1, tip + 5, 2**53 - 1))
    return min(max(0, number + _near(random)), 2**53 - 1)


def _near(random: Random) -> int:
    return random.choice((0, 0, 0, -1, 1))


def _start(random: Random, world: World, parameters: dict[str, str], *, poll: bool) -> Ask:
    ask = Ask()
    run = random.choice(list(world.runs))
    if random.random() < 0.35:
        ask = replace(ask, run=run)
        parameters["run"] = run
    match random.choice(("from_t", "from_t", "bare", "tail", "since", "none", "event id", "unknown")):
        case "from_t":
            t = _number(random, world, run) if random.random() < 0.9 else -1
            ask = replace(ask, start=(run, t))
            parameters["last_t" if poll or random.random() < 0.2 else "from_t"] = f"{run}:{t}"
        case "bare":
            t = _number(random, world, ask.run or world.newest.id) if random.random() < 0.9 else -1
            ask = replace(ask, start=t)
            parameters["last_t" if poll else "from_t"] = str(t)
        case "tail":
            ask = replace(ask, tail=random.choice((0, 1, 2, 5, 50, 1000)))
            parameters["tail"] = str(ask.tail)
        case "since":
            ats = [tick.at for one in world.runs.values() for tick in one.ticks]
            at = random.choice((*ats, START - 1, ats[-1] + 10**9)) + _near(random)
            ask = replace(ask, since=at)
            moment = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds")
            parameters["since"] = moment.replace("+00:00", random.choice(("Z", "+00:00")))
        case "event id":
            parameters |= {"tail": "3"} if random.random() < 0.3 else {}
            text = random.choice(("nonsense", f"{run}:{_number(random, world, run)}"))
            ask = replace(ask, start=("-", -1) if text == "nonsense" else (run, int(text.rpartition(":")[2])))
            parameters["Last-Event-ID"] = text
        case "unknown":
            parameters.pop("run", None)
            ask = Ask(start=("gone", 7))
            parameters["from_t"] = "gone:7"
    return ask


def _view(random: Random, parameters: dict[str, str], ask: Ask) -> Ask:
    if random.random() < 0.35:
        parameters["fields"] = random.choice(_FIELDS)
        ask = replace(ask, fields=tuple(path for path in parameters["fields"].split(",") if path))
    if random.random() < 0.3:
        ask = replace(ask, every=random.choice((1, 2, 3, 7, 1000)))
        parameters["every"] = str(ask.every)
    if random.random() < 0.3:
        parameters["batch"] = str(random.choice((1, 2, 3, 10, 1000)))
    if random.random() < 0.25:
        parameters["stamp"] = random.choice("01")
        ask = replace(ask, stamp=parameters["stamp"] == "1")
    return ask


def _bounds(random: Random, world: World, parameters: dict[str, str], ask: Ask) -> Ask:
    run = ask.start[0] if isinstance(ask.start, tuple) and ask.start[0] in world.runs else ask.run or world.newest.id
    low, high = sorted((_number(random, world, run), _number(random, world, run)))
    if random.random() < 0.7:
        ask = replace(ask, t0=low)
        parameters["t0"] = str(low)
    if random.random() < 0.7:
        ask = replace(ask, t1=high)
        parameters["t1"] = str(high)
    return ask


def _spoilt(random: Random, world: World, case: Case) -> Case:
    """Now and then, a request that has to be refused."""
    parameters = dict(case.parameters)
    if random.random() > 0.03:
        return case
    match random.choice(("unknown run", "unknown name", "no number", "two starts", "bounds")):
        case "unknown run":
            return Case(case.route, case.flavour, {"run": "nobody"}, case.ask, 404)
        case "unknown name":
            parameters["nonsense"] = "1"
        case "no number":
            parameters["limit"] = "0"
        case "two starts":
            parameters = {"tail": "1", "from_t": "1"}
        case _:
            parameters |= {"t0": "5", "t1": "4"}
    return Case(case.route, case.flavour, parameters, case.ask, 400)


# ---- what is answered ----


async def run(place: Place, case: Case) -> None:
    """Ask, and compare.

    Raises:
        Difference: the answer is another one.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            if case.refused:
                await _refused(place, case)
            elif case.flavour in FLAVOURS:
                await _stream(place, case)
            else:
                await _pull(place, case)
    except Difference as error:
        raise Difference(f"{place.name}: {case}\n  {error}") from error
    except TimeoutError as error:
        raise Difference(f"{place.name}: {case}\n  no whole answer within {PATIENCE:g} s") from error
    except Exception as error:
        raise Difference(f"{place.name}: {case}\n  {type(error).__name__}: {error}") from error


def _same(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise Difference(f"{what}: {str(found)[:600]}\n  expected: {str(expected)[:600]}")


async def _get(place: Place, case: Case, target: str | None = None) -> Response:
    headers = {"Accept-Encoding": case.flavour} if case.flavour and case.flavour not in FLAVOURS else {}
    if target is None:
        target = f"{case.route}?{urlencode(case.parameters)}" if case.parameters else case.route
    return await request(place.harness.port, target, headers=headers)


async def _refused(place: Place, case: Case) -> None:
    if case.route == "/ws/stream":
        target = f"{case.route}?{urlencode(case.parameters)}"
        opening = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        response = await request(place.harness.port, target, headers=opening | {"Sec-WebSocket-Key": "0" * 22 + "=="})
    else:
        response = await _get(place, case)
    body = await response.read()
    _same(response.status, case.refused, f"status, with {body!r:.200}")
    if not json.loads(body)["message"]:
        raise Difference("an error without a message")


# ---- streams ----


async def _stream(place: Place, case: Case) -> None:
    expected, ends = place.world.stream(case.ask)
    ticks = sum(isinstance(one, Shown) for one in expected)
    if not ends and ticks:  # so that it ends, and nothing can come behind unseen
        ask = replace(case.ask, limit=ticks)
        case = replace(case, ask=ask, parameters=case.parameters | {"limit": str(ticks)})
        expected, ends = place.world.stream(ask)
    kind = FLAVOURS[case.flavour]
    reader = kind(place.harness.port, case.route, case.parameters)
    try:
        await reader.connect()
        if ends:
            found = await reader.rest()
            if not reader.ended:
                raise Difference(f"the stream broke off behind {found[-3:]}")
        else:
            hello = reader.parameters.get("hello") == "1"
            sure = sum(not isinstance(one, Told) or one.sure for one in expected) + hello
            found = [await reader.next() for _ in range(sure)]
        if isinstance(reader, DeflatedReader) and ticks and not reader.socket.compressed:
            raise Difference("nothing came compressed")
    except Refused as refused:
        raise Difference(f"refused with {refused.response.status}") from None
    finally:
        reader.close()
    if reader.parameters.get("hello") == "1":
        _hello(place, found, case)
    _compare(case, [one for one in found if not isinstance(one, events.Hello)], expected)
    _messages(found, int(case.parameters.get("batch", "0")))


def _hello(place: Place, found: Sequence[events.Event], case: Case) -> None:
    if not found or not isinstance(hello := found[0], events.Hello):
        raise Difference(f"no hello, but {found[:1]}")
    begin = place.world.begin(case.ask, oldest=False)
    run = place.world.runs[begin.told[0].run if begin.told else begin.run]
    _same(hello, events.Hello(run.id, run.first, run.tip), "hello")


def _messages(found: Sequence[events.Event], batch: int) -> None:
    """No message holds more than was asked for, nor ticks from before and behind a notice."""
    sizes: dict[int, int] = {}
    for one in found:
        if isinstance(one, events.Tick):
            sizes[one.message] = sizes.get(one.message, 0) + 1
    if sizes and max(sizes.values()) > max(batch, 1):
        raise Difference(f"a message of {max(sizes.values())} ticks")


def _compare(case: Case, found: Sequence[events.Event], expected: Sequence[Expected]) -> None:
    at, gapped = 0, False
    for want in expected:
        got = found[at] if at < len(found) else None
        try:
            took = _event(case, got, want, gapped)
        except Difference as error:
            raise Difference(f"event {at} of {len(found)}: {error}") from None
        at += took
        gapped = (took and isinstance(want, Told)) or (gapped and not isinstance(want, Change))
    if at < len(found):
        raise Difference(f"{len(found) - at} events more than expected: {found[at : at + 3]}")


def _event(case: Case, got: events.Event | None, want: Expected, gapped: bool) -> bool:
    """Compare two; returns whether the one was the other (else it need not come)."""
    match want:
        case Shown(run, tick):
            if not isinstance(got, events.Tick) or (got.run, got.t) != (run, tick.t):
                raise Difference(f"{got}\n  expected tick {run}:{tick.t}")
            _payload(case.ask, run, tick, got.data)
        case Told():
            fits = (
                isinstance(got, events.Gap)
                and got.run == want.run
                and want.after[0] <= got.after <= want.after[1]
                and (got.next is None if want.next is None else got.next is not None)
                and (want.next is None or want.next[0] <= (got.next or 0) <= want.next[1])
            )
            if not fits and want.sure:
                raise Difference(f"{got}\n  expected {want}")
            return fits
        case Change(run, old, complete):
            complete = not gapped if complete is None else complete
            _same(got, events.Reset(run, None if old == "-" else old, complete), "reset")
        case Over(reason, run, t):
            _same(got, events.End(reason, f"{run}:{t}"), "end")
    return True


def _payload(ask: Ask, run: str, tick: Tick, data: bytes) -> None:
    if not ask.fields and not ask.stamp:
        _same(data, tick.data, "bytes")
        return
    _same(json.loads(data), shown(ask, run, tick), f"tick {tick.t}")
    if not ask.fields:
        _same(members(data.decode())["data"].encode(), tick.data, "stamped bytes")


# ---- answers ----


async def _pull(place: Place, case: Case) -> None:
    if case.route.startswith("/ticks/"):
        await _one(place, case, _tick(place, case))
    elif case.route == "/latest":
        await _one(place, case, None if _nowhere(place, case) else place.world.latest(case.ask))
    elif case.route == "/range":
        await _range(place, case)
    else:
        await _answer(place, case)


def _nowhere(place: Place, case: Case) -> bool:
    """Whether the position that is named lies in no run that is known."""
    return isinstance(case.ask.start, tuple) and case.ask.start[0] not in place.world.runs


def _tick(place: Place, case: Case) -> tuple[str, Tick] | None:
    run = place.world.runs[case.ask.run] if case.ask.run is not None else place.world.newest
    t = int(case.route.rpartition("/")[2])
    return next(((run.id, tick) for tick in run.readable if tick.t == t), None)


async def _one(place: Place, case: Case, expected: tuple[str, Tick] | None) -> None:
    response = await _get(place, case)
    body = await response.read()
    if expected is None:
        _same(response.status, 404, "status")
    else:
        _same(response.status, 200, f"status, with {body!r:.200}")
        run, tick = expected
        _payload(case.ask, run, tick, body)
        _same(response.headers.get("Tick-Next"), f"{run}:{tick.t}", "Tick-Next")
        _caching(place, case, response, tick.t, whole=True)


async def _range(place: Place, case: Case) -> None:
    response = await _get(place, case)
    body = (await response.read()).decode()
    if _nowhere(place, case):
        _same(response.status, 404, "status")
        return
    _same(response.status, 200, f"status, with {body!r:.200}")
    expected = place.world.range(case.ask)
    _same(response.headers.get("Tick-Run"), expected.run, "Tick-Run")
    form = case.parameters.get("format", "ndjson")
    _payloads(case, expected, body, form)
    _gaps(response, expected.gaps)
    _caching(place, case, response, case.ask.t1, whole="Tick-Gap" not in response.headers)
    if "Accept-Ranges" in response.headers:
        await _bytes(place, case, response.headers["ETag"], body.encode())
    elif response.headers["Cache-Control"] != "no-store":
        _same("Content-Encoding" in response.headers, True, "a body that is compressed on its way")


async def _bytes(place: Place, case: Case, tag: str, body: bytes) -> None:
    """What never changes tells its length, and gives any part of itself."""
    target, random = f"{case.route}?{urlencode(case.parameters)}", Random(str(case))
    coding = {"Accept-Encoding": case.flavour} if case.flavour else {}
    head = await request(place.harness.port, target, method="HEAD", headers=coding)
    _same(head.headers["Content-Length"], str(len(body)), "length by HEAD")
    head.close()
    first, last = sorted((random.randint(0, len(body) + 3), random.randint(0, len(body) + 3)))
    texts = {f"{first}-{last}": body[first : last + 1], f"{first}-": body[first:], f"-{last + 1}": body[-last - 1 :]}
    text, expected = random.choice(list(texts.items()))
    headers = {"Range": f"bytes={text}", "If-Range": tag} | coding
    part = await request(place.harness.port, target, headers=headers)
    found = await part.read()
    if expected:
        _same((part.status, found), (206, expected), f"bytes {text} of {len(body)}")
        begin = len(body) - len(expected) if text.startswith("-") else first
        told = f"bytes {begin}-{begin + len(expected) - 1}/{len(body)}"
        _same(part.headers["Content-Range"], told, "Content-Range")
    else:
        _same((part.status, part.headers["Content-Range"]), (416, f"bytes */{len(body)}"), f"bytes {text}")


def _caching(place: Place, case: Case, response: Response, t: int | None, *, whole: bool) -> None:
    """What is said never to change names its run and its end, lies in history, and lacks nothing."""
    if response.headers["Cache-Control"] == "no-store":
        return
    stored = "data" in place.settings
    if not (whole and stored and case.ask.run is not None and t is not None and "ETag" in response.headers):
        raise Difference(f"Cache-Control: {response.headers['Cache-Control']}")


async def _answer(place: Place, case: Case) -> None:
    poll = case.route == "/poll"
    limit = case.ask.limit or (1 if poll else 1000)
    single = poll and limit == 1
    above = 1 if single and isinstance(case.ask.start, int) and case.ask.start >= 0 else 0
    response = await _get(place, case)
    body = (await response.read()).decode()
    _same(response.status, 200, f"status, with {body!r:.200}")
    told, untold = (place.world.pull(case.ask, limit, above, unsure=unsure) for unsure in (True, False))
    try:
        _answered(case, told, response, body, single=single)
    except Difference:
        if told == untold:
            raise
        _answered(case, untold, response, body, single=single)


def _answered(case: Case, expected: Pull, response: Response, body: str, *, single: bool) -> None:
    if case.route == "/poll":
        _poll_body(case, expected, response, body, single=single)
    else:
        _payloads(case, expected, body, case.parameters.get("format", "json"))
    _gaps(response, expected.gaps)
    _same(response.headers.get("Tick-Reset"), expected.reset, "Tick-Reset")
    if expected.ticks or "Tick-Gap" in response.headers:
        _same(response.headers.get("Tick-Run"), expected.run, "Tick-Run")
    _next(response, expected)


def _next(response: Response, expected: Pull) -> None:
    told = response.headers.get("Tick-Next")
    if told is None:
        if expected.ticks or not expected.waits:
            raise Difference("no Tick-Next")
        return
    run, _, t = told.rpartition(":")
    if run != (expected.run_next or expected.run) or not expected.low <= int(t) <= expected.high:
        span = f"{expected.run_next or expected.run}:{expected.low} to {expected.high}"
        raise Difference(f"Tick-Next: {told}\n  expected {span}")
    if f"from_t={told}" not in response.headers["Link"]:
        raise Difference(f"Link: {response.headers['Link']}")


def _poll_body(case: Case, expected: Pull, response: Response, body: str, *, single: bool) -> None:
    found = members(body)
    _same(json.loads(found.get("position", "null")), response.headers.get("Tick-Next"), "position")
    if not expected.ticks:
        _same(json.loads(found.get("status", "null")), "end" if expected.over else "timeout", "status")
        return
    last = expected.ticks[-1].t
    _same((found["t"], found["next_t"]), (str(last), str(last + 1)), "t, next_t")
    if single:
        _payload(case.ask, expected.run, expected.ticks[0], found["data"].encode())
        _same(len(expected.ticks), 1, "ticks")
    else:
        _texts(case, expected, elements(found["ticks"]))


def _payloads(case: Case, expected: Pull, body: str, form: str) -> None:
    if form == "csv":
        numbers = [int(row["t"]) for row in csv.DictReader(io.StringIO(body))]
        _same(numbers, [tick.t for tick in expected.ticks], "rows")
    elif form == "ndjson":
        if body and not body.endswith("\n"):
            raise Difference(f"the last line has no end: {body[-50:]!r}")
        _texts(case, expected, body.split("\n")[:-1])
    else:
        _texts(case, expected, elements(body))


def _texts(case: Case, expected: Pull, texts: list[str]) -> None:
    batch = int(case.parameters.get("batch", "0"))
    if batch:
        parts = [elements(text) for text in texts]
        if any(not 0 < len(part) <= batch for part in parts):
            raise Difference(f"messages of {[len(part) for part in parts]} ticks")
        texts = [text for part in parts for text in part]
    numbers = [json.loads(text)["t"] for text in texts]
    _same(numbers, [tick.t for tick in expected.ticks], "ticks")
    for text, tick in zip(texts, expected.ticks, strict=True):
        _payload(case.ask, expected.run, tick, text.encode())


def _gaps(response: Response, expected: Sequence[Told]) -> None:
    text = response.headers.get("Tick-Gap", "")
    found = [(int(a), int(n) if n else None) for a, n in re.findall(r"after=(-?\d+);next=(\d*)", text)]
    at = 0
    for want in expected:
        after, upto = found[at] if at < len(found) else (-2, -2)
        fits = want.after[0] <= after <= want.after[1] and (
            upto is None if want.next is None else upto is not None and want.next[0] <= upto <= want.next[1]
        )
        if not fits and want.sure:
            raise Difference(f"Tick-Gap: {text}\n  expected {[*expected]}")
        at += fits
    if at < len(found):
        raise Difference(f"Tick-Gap: {text}\n  expected {[*expected]}")


async def some(place: Place, random: Random, count: int) -> list[Difference]:
    """Run so many cases, a few at a time; returns the differences."""
    found: list[Difference] = []
    source: Iterator[Any] = cases(random, place.world)

    async def work(share: int) -> None:
        for _ in range(share):
            try:
                await run(place, next(source))
            except Difference as error:
                found.append(error)

    await asyncio.gather(*(work(count // 4 + (number < count % 4)) for number in range(4)))
    return found
