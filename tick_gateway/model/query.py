"""The query parameters, the same on every transport: one table drives parsing, /openapi.json and the docs.

Every route parses every known parameter, and ignores those without a meaning there. Pure: text in, a ``Query`` out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from ..errors import ParameterError, UnknownParameter
from .notices import FINAL_EVENT_ID, NAMES
from .suggestion import did_you_mean
from .tick import MAX_T, RUN_ID, UNKNOWN_RUN, Position, parse_position
from .view import MAX_PARTS, MAX_PATHS, View

_DIGITS: Final = re.compile(r"[0-9]{1,16}")
_DECIMAL: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+ -]\d\d:\d\d)", re.ASCII)
_RESERVED_EVENTS: Final = NAMES | {"error", "open"}  # those two are EventSource's own


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed request; a field that the request does not give is None (or its default).

    Attributes:
        start: the position that the client has: a ``Position``, or an int for the current run.
        tail, since (ms since the epoch), run, backlog, limit, speed: as PROTOCOL says.
        timeout, heartbeat: seconds.
        given: how many parameters the request carried.
        finished: the client reconnected after a final end.
    """

    start: Position | int | None = None
    tail: int | None = None
    since: int | None = None
    run: str | None = None
    view: View = field(default_factory=View)
    skip: bool = False
    backlog: int | None = None
    limit: int | None = None
    speed: float | None = None
    hello: bool = False
    event: str | None = None
    format: Literal["json", "ndjson", "csv", "arrow"] | None = None
    timeout: float = 30.0
    heartbeat: float = 15.0
    t0: int | None = None
    t1: int | None = None
    given: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """A row of the table. To add a parameter, add a row here and a field of the same name to ``Query``.

    Attributes:
        parse: returns the value, or raises ValueError.
        schema: its OpenAPI schema.
        help: its line in the docs.
        on: the kinds of reading for which it has a meaning; all others parse and ignore it.
        starts: it says where reading starts; a request may give one such parameter.
        event_id: it is a ``Last-Event-ID``, which overrides parameters that say where reading starts.
    """

    name: str
    parse: Callable[[str], Any]
    schema: dict[str, Any]
    help: str
    on: tuple[str, ...]
    starts: bool = False
    event_id: bool = False


def whole(low: int, high: int = MAX_T) -> Callable[[str], int]:
    """A parser of whole numbers in plain ASCII digits."""

    def parse(text: str) -> int:
        if not _DIGITS.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(f"{text!r:.40} is no whole number from {low} to {high}")
        return int(text)

    return parse


def decimal(low: float, high: float, unit: str) -> Callable[[str], float]:
    """A parser of decimal numbers."""

    def parse(text: str) -> float:
        if not _DECIMAL.fullmatch(text) or not low <= float(text) <= high:
            raise ValueError(f"{text!r:.40} is no {unit} from {low:.7g} to {high:.7g}")
        return float(text)

    return parse


def choice(*accepted: str) -> Callable[[str], str]:
    """A parser of one word out of a few."""

    def parse(text: str) -> str:
        if text not in accepted:
            raise ValueError(f"{text!r:.40} is not among {', '.join(accepted)}")
        return text

    return parse


def flag(text: str) -> bool:
    """A parser of 0 and 1."""
    return _ZERO_OR_ONE(text) == "1"


_ZERO_OR_ONE: Final = choice("0", "1")


def instant(text: str) -> int:
    """An RFC 3339 time as milliseconds since the epoch. A space counts as ``+``, which query strings decode to a
    space."""
    if not _RFC3339.fullmatch(text):
        raise ValueError(f"{text!r:.40} is no RFC 3339 time such as 2026-01-31T12:00:00Z")
    day, clock = text[:10], text[11:].replace(" ", "+").upper().replace("Z", "+00:00")
    nanoseconds = 0
    if fraction := re.search(r"\.(\d+)", clock):
        nanoseconds = int(f"{fraction[1]:0<9}")
        clock = clock.replace(fraction[0], "")
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}")
        return int(moment.timestamp()) * 1000 - -nanoseconds // 1_000_000  # rounded up, in whole numbers
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r:.40} is no RFC 3339 time: {error}") from None


def paths(text: str) -> tuple[str, ...]:
    """Dotted paths, comma-separated; sorted and without duplicates, so that equal selections are equal views."""
    found = sorted({path for path in text.split(",") if path})
    if len(found) > MAX_PATHS:
        raise ValueError(f"{len(found)} paths; at most {MAX_PATHS} are accepted")
    for path in found:
        parts = path.split(".")
        if len(parts) > MAX_PARTS or not all(parts):
            raise ValueError(f"{path!r:.80} is no path: 1 to {MAX_PARTS} names joined by single dots")
    return tuple(found)


def run_id(text: str) -> str:
    if not RUN_ID.fullmatch(text):
        raise ValueError(f"{text!r:.80} is no run id; accepted: {RUN_ID.pattern}")
    return text


def event_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) or text in _RESERVED_EVENTS:
        reserved = ", ".join(sorted(_RESERVED_EVENTS))
        raise ValueError(f"{text!r:.80} is no event name; accepted: [A-Za-z0-9_-]{{1,64}}, none of {reserved}")
    return text


_INT: Final = {"type": "integer"}
_NUM: Final = {"type": "number"}
_STR: Final = {"type": "string"}
_STREAMS: Final = ("stream", "sse")
_PULLS: Final = ("poll", "incremental")
_MANY: Final = (*_STREAMS, *_PULLS, "range")
_READS: Final = (*_MANY, "latest")


def _enum(*accepted: str) -> dict[str, Any]:
    return _STR | {"enum": list(accepted)}


TABLE: Final = (
    Parameter("from_t", parse_position, _STR,
              "the position the client has, RUN:T or T; ticks after it are delivered", _READS, starts=True),
    Parameter("last_t", parse_position, _STR, "the same, as /poll calls it", _READS, starts=True),
    Parameter("tail", whole(0), _INT | {"minimum": 0}, "the last N ticks, then live; 0: only new ones", _READS,
              starts=True),
    Parameter("since", instant, _STR | {"format": "date-time"},
              "from the first tick received at or after this time", _READS, starts=True),
    Parameter("run", run_id, _STR | {"pattern": f"^{RUN_ID.pattern}$"}, "that run to its end, then an end notice",
              (*_READS, "tick", "segments")),
    Parameter("fields", paths, _STR,
              "only these members: dotted paths, comma-separated; t is always kept", (*_READS, "tick")),
    Parameter("every", whole(1), _INT | {"minimum": 1}, "only ticks with t divisible by N", _READS),
    Parameter("batch", whole(1, 1000), _INT | {"minimum": 1, "maximum": 1000},
              "up to N ticks a message, as an array", _MANY),
    Parameter("stamp", flag, _enum("0", "1"), "1: each tick as {t, run, at, data}", (*_READS, "tick")),
    Parameter("lag", choice("wait", "skip"), _enum("wait", "skip"),
              "a slow client gets every tick, or the newest", _STREAMS),
    Parameter("backlog", whole(0), _INT | {"minimum": 0},
              "at most N ticks of the past; what is older becomes a gap", (*_STREAMS, *_PULLS)),
    Parameter("limit", whole(1), _INT | {"minimum": 1},
              "end after N ticks; on pulls the most that an answer holds", _MANY),
    Parameter("speed", decimal(0.001, 1e6, "speed"), _NUM,
              "the past at X times the pace at which it was received", _STREAMS),
    Parameter("hello", flag, _enum("0", "1"), "1: begin with a hello notice", _STREAMS),
    Parameter("event", event_name, _STR, "SSE: ticks come as events of this name", ("sse",)),
    Parameter("format", choice("json", "ndjson", "csv", "arrow"), _enum("json", "ndjson", "csv", "arrow"),
              "/incremental and /range: outranks Accept; csv and arrow are for /range alone", ("incremental", "range")),
    Parameter("timeout", decimal(0, 300, "number of seconds"), _NUM, "/poll: seconds to wait for a tick", ("poll",)),
    Parameter("heartbeat", decimal(1, 3600, "number of seconds"), _NUM,
              "seconds of quiet before a sign of life", _STREAMS),
    Parameter("t0", whole(0), _INT | {"minimum": 0}, "/range: the first t wanted", ("range",)),
    Parameter("t1", whole(0), _INT | {"minimum": 0}, "/range: the last t wanted", ("range",)),
    Parameter("Last-Event-ID", str, _STR, "the SSE header of that name, as a parameter", _READS, event_id=True),
    Parameter("lastEventId", str, _STR, "the same, as polyfills of EventSource call it", _READS, event_id=True),
)  # fmt: skip
_BY_NAME: Final = {row.name: row for row in TABLE}
_STARTS: Final = tuple(row.name for row in TABLE if row.starts)
EVENT_IDS: Final = tuple(row.name for row in TABLE if row.event_id)
START_PARAMETERS: Final = (*_STARTS, *EVENT_IDS)
"""All that say where reading starts: whoever goes on from a position leaves them out."""


def parse_query(pairs: Iterable[tuple[str, str]], last_event_id: str | None = None) -> Query:
    """Parse a request's query.

    Args:
        pairs: name and value of each parameter, decoded, as they came.
        last_event_id: the header, where the request carried one.

    Raises:
        ParameterError: an unknown parameter, one given twice, a value that does not parse, two starting points, or a
            ``run`` other than the position's.
    """
    values: dict[str, Any] = {}
    event_ids: list[str] = []  # the last one counts: polyfills append the newest id to the page's own URL
    given = 1 if last_event_id else 0
    for name, text in pairs:
        row = _BY_NAME.get(name)
        if row is None:
            accepted = f"accepted: {', '.join(_BY_NAME)}{did_you_mean(name, _BY_NAME)}"
            raise UnknownParameter(name[:80], f"unknown; {accepted}")
        if name in EVENT_IDS:
            event_ids += [text] if text else []
            given += 1
            continue
        if name in values:
            cure = "; accepted: once, with commas between the paths" if name == "fields" else ""
            raise ParameterError(name, f"given twice{cure}")
        try:
            values[name] = row.parse(text)
        except ValueError as error:
            raise ParameterError(name, str(error)) from None
    given += len(values)
    starts = [name for name in _STARTS if name in values]
    # A reconnecting EventSource sends the header beside what its URL says.
    last_event_id = last_event_id or (event_ids[-1] if event_ids else None)
    if last_event_id:
        for name in starts:
            del values[name]
    elif len(starts) > 1:
        raise ParameterError(starts[1], f"contradicts {starts[0]}; give one of {', '.join(_STARTS)}")
    start = (
        _event_position(last_event_id, values.get("run"))
        if last_event_id
        else values.pop("from_t", values.pop("last_t", None))
    )
    return _assemble(values, start, given, last_event_id == FINAL_EVENT_ID)


def _event_position(text: str, run: str | None) -> Position | int:
    """The position in an event id. An id that is no position, or whose run is not the one asked for, counts as a
    position in an unknown run; it is never a 400, after which EventSource would give up."""
    try:
        start = parse_position(text)
    except ValueError:
        return Position(UNKNOWN_RUN, -1)
    strange = isinstance(start, Position) and run not in (None, start.run)
    return Position(UNKNOWN_RUN, -1) if strange else start


def _assemble(values: dict[str, Any], start: Position | int | None, given: int, finished: bool) -> Query:
    run = values.get("run")
    if isinstance(start, Position) and run not in (None, start.run) and start.run != UNKNOWN_RUN:
        raise ParameterError("run", f"{run} is not the run of the position {start}")
    t0, t1 = values.get("t0"), values.get("t1")
    if t0 is not None and t1 is not None and t0 > t1:
        raise ParameterError("t0", f"{t0} is beyond t1={t1}")
    view = View(values.pop("fields", ()), values.pop("every", 1), values.pop("batch", 0), values.pop("stamp", False))
    skip = values.pop("lag", "wait") == "skip"
    return Query(start=start, view=view, skip=skip, given=given, finished=finished, **values)
