"""The query parameters: each good, bad and given twice; contradictions; where a reader starts."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tick_gateway.errors import ParameterError
from tick_gateway.model.notices import FINAL_EVENT_ID
from tick_gateway.model.query import EVENT_IDS, TABLE, Parameter, Query, instant, parse_query
from tick_gateway.model.tick import MAX_T, RUN_ID, UNKNOWN_RUN, Position
from tick_gateway.model.view import View

BIG = str(MAX_T + 1)
NO_WHOLE = ["", "-1", "+1", "1.0", "1e3", " 1", "1 ", "1_0", "٣", "0x1", "NaN", BIG, "9" * 20]
NO_DECIMAL = ["", "-1", "+1", ".5", "1.", "1e3", "inf", "NaN", " 1", "1,5", "٣", "1" * 10, "0." + "1" * 10]

GOOD: dict[str, list[tuple[str, dict[str, Any]]]] = {
    # name: a text, and what of the query it sets
    "from_t": [("5", {"start": 5}), ("-1", {"start": -1}), ("r:5", {"start": Position("r", 5)})],
    "last_t": [("0", {"start": 0}), ("r:-1", {"start": Position("r", -1)})],
    "tail": [("0", {"tail": 0}), ("5", {"tail": 5}), (str(MAX_T), {"tail": MAX_T}), ("007", {"tail": 7})],
    "since": [("1970-01-01T00:00:01Z", {"since": 1000})],
    "run": [("r", {"run": "r"}), ("0._-", {"run": "0._-"}), ("r" * 64, {"run": "r" * 64})],
    "fields": [
        ("", {}),
        (",", {}),
        ("b,a.x,b", {"view": View(("a.x", "b"))}),
        ("agents.ü x", {"view": View(("agents.ü x",))}),
        (".".join("abcdefghijklmnop"), {"view": View((".".join("abcdefghijklmnop"),))}),
        (",".join(f"f{i:02}" for i in range(64)), {"view": View(tuple(f"f{i:02}" for i in range(64)))}),
    ],
    "every": [("1", {}), ("10", {"view": View(every=10)})],
    "batch": [("1", {"view": View(batch=1)}), ("1000", {"view": View(batch=1000)})],
    "stamp": [("0", {}), ("1", {"view": View(stamp=True)})],
    "lag": [("wait", {}), ("skip", {"skip": True})],
    "backlog": [("0", {"backlog": 0}), ("9", {"backlog": 9})],
    "limit": [("1", {"limit": 1}), ("9", {"limit": 9})],
    "speed": [("0.001", {"speed": 0.001}), ("2", {"speed": 2.0}), ("1000000", {"speed": 1e6})],
    "hello": [("0", {}), ("1", {"hello": True})],
    "event": [("tick", {"event": "tick"}), ("message", {"event": "message"}), ("a_-9", {"event": "a_-9"})],
    "format": [(name, {"format": name}) for name in ("json", "ndjson", "csv", "arrow")],
    "timeout": [("0", {"timeout": 0.0}), ("0.25", {"timeout": 0.25}), ("300", {"timeout": 300.0})],
    "heartbeat": [("1", {"heartbeat": 1.0}), ("3600", {"heartbeat": 3600.0})],
    "t0": [("0", {"t0": 0}), (str(MAX_T), {"t0": MAX_T})],
    "t1": [("0", {"t1": 0}), ("9", {"t1": 9})],
    "Last-Event-ID": [("", {}), ("r:5", {"start": Position("r", 5)}), ("5", {"start": 5})],
    "lastEventId": [("", {}), ("r:5", {"start": Position("r", 5)}), ("5", {"start": 5})],
}

NO_POSITION = ["", "x", "r:", ":5", "-2", "r:-2", "1.5", " 5", "r:" + BIG, BIG, "r s:5"]
BAD: dict[str, list[str]] = {
    "from_t": NO_POSITION,
    "last_t": NO_POSITION,
    "tail": NO_WHOLE,
    "since": ["", "5", "now", "2026-01-31", "2026-01-31T12:00:00", "2026-02-30T00:00:00Z", "2026-01-31T12:00:00Z "],
    "run": ["", "-", "-r", ".r", "r s", "r:1", "r/s", "r" * 65, "ü", "r\n"],
    "fields": [".", "a.", ".a", "a..b", "a,b.", ".".join("a" * 17), ",".join(f"f{i}" for i in range(65))],
    "every": ["0", *NO_WHOLE],
    "batch": ["0", "1001", *NO_WHOLE],
    "stamp": ["", "2", "true", "yes", "01"],
    "lag": ["", "drop", "WAIT"],
    "backlog": NO_WHOLE,
    "limit": ["0", *NO_WHOLE],
    "speed": ["0", "0.0001", "1000001", *NO_DECIMAL],
    "hello": ["", "2", "true"],
    "event": ["", "a b", "ü", "a\n", "a" * 65, "hello", "gap", "reset", "end", "overloaded", "error", "open"],
    "format": ["", "xml", "JSON", "application/json"],
    "timeout": ["300.1", "1000", *NO_DECIMAL],
    "heartbeat": ["0", "0.9", "3601", *NO_DECIMAL],
    "t0": NO_WHOLE,
    "t1": NO_WHOLE,
    "Last-Event-ID": [],  # never 400: EventSource would give up for ever
    "lastEventId": [],
}


def refused(*pairs: tuple[str, str], header: str | None = None) -> ParameterError:
    with pytest.raises(ParameterError) as refusal:
        parse_query(pairs, header)
    error = refusal.value
    body = error.as_dict()
    assert (error.status, body["error"], body["parameter"]) == (400, error.code, error.parameter)
    assert len(str(error)) < 600, "what was asked is not echoed at any length"
    return error


def test_the_tables_here_name_every_parameter() -> None:
    names = [row.name for row in TABLE]
    assert list(GOOD) == list(BAD) == names
    assert all(row.help and row.schema["type"] in ("integer", "number", "string") for row in TABLE)


def test_no_parameter_at_all_is_the_default() -> None:
    assert parse_query([]) == Query()
    assert (Query().given, Query().view.plain, Query().timeout, Query().heartbeat) == (0, True, 30.0, 15.0)


@pytest.mark.parametrize(("name", "text", "sets"), [(name, *row) for name, rows in GOOD.items() for row in rows])
def test_good(name: str, text: str, sets: dict[str, Any]) -> None:
    assert parse_query([(name, text)]) == Query(given=1, **sets)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_bad(name: str, text: str) -> None:
    error = refused((name, text))
    assert (error.parameter, error.code) == (name, "bad_parameter")
    assert str(error).startswith(f"{name}: ")


@pytest.mark.parametrize("name", [name for name in GOOD if name not in EVENT_IDS])
def test_twice(name: str) -> None:
    text = GOOD[name][-1][0]
    error = refused((name, text), (name, text))
    cure = "; accepted: once, with commas between the paths" if name == "fields" else ""
    assert (error.parameter, str(error)) == (name, f"{name}: given twice{cure}")


@pytest.mark.parametrize("name", ["", "from", "FROM_T", "from_t ", "last-event-id", "token", "x" * 500])
def test_unknown(name: str) -> None:
    error = refused((name, "1"))
    assert (error.parameter, error.code) == (name[:80], "unknown_parameter")
    assert "from_t" in str(error), "it says what is accepted"


def test_every_parameter_parses_beside_every_other() -> None:
    starts = {"from_t", "last_t", "tail", "since", *EVENT_IDS}
    pairs = [(name, rows[-1][0]) for name, rows in GOOD.items() if name not in starts and name != "t0"]
    query = parse_query([*pairs, ("t0", "3"), ("from_t", f"{'r' * 64}:5")])
    assert (query.given, query.start, query.t0) == (len(pairs) + 2, Position("r" * 64, 5), 3)
    assert (query.skip, query.hello, query.limit, query.backlog) == (True, True, 9, 9)


# ---- contradictions ----

STARTS = {"from_t": "5", "last_t": "5", "tail": "5", "since": "2026-01-31T12:00:00Z"}


@pytest.mark.parametrize("first", STARTS)
@pytest.mark.parametrize("second", STARTS)
def test_two_starting_points_contradict_each_other(first: str, second: str) -> None:
    if first != second:
        error = refused((first, STARTS[first]), (second, STARTS[second]))
        assert error.parameter in (first, second)
        assert first in str(error) and second in str(error)


def test_a_run_other_than_that_of_the_position() -> None:
    assert refused(("from_t", "a:5"), ("run", "b")).parameter == "run"
    assert parse_query([("run", "b")], "a:5").start == Position(UNKNOWN_RUN, -1), "never 400"
    assert parse_query([("run", "b"), ("lastEventId", "a:5")]).start == Position(UNKNOWN_RUN, -1)
    assert parse_query([("run", "a"), ("lastEventId", "a:5")]).start == Position("a", 5)
    assert parse_query([("from_t", "a:5"), ("run", "a")]).run == "a"
    assert parse_query([("from_t", "5"), ("run", "b")]).start == 5
    assert parse_query([("run", "b")], "nonsense").start == Position(UNKNOWN_RUN, -1), "never 400"


def test_a_range_that_ends_before_it_begins() -> None:
    assert refused(("t0", "6"), ("t1", "5")).parameter == "t0"
    query = parse_query([("t0", "5"), ("t1", "5")])
    assert (query.t0, query.t1) == (5, 5)


# ---- Last-Event-ID ----


@pytest.mark.parametrize("start", [None, *STARTS])
@pytest.mark.parametrize("name", [None, "Last-Event-ID", "lastEventId"])
def test_the_last_event_id_outranks_every_starting_point(start: str | None, name: str | None) -> None:
    pairs = [] if start is None else [(start, STARTS[start])]
    query = parse_query(pairs, "r:9") if name is None else parse_query([*pairs, (name, "r:9")])
    assert (query.start, query.tail, query.since) == (Position("r", 9), None, None)
    assert query.given


def test_the_header_outranks_the_parameter() -> None:
    assert parse_query([("Last-Event-ID", "r:5")], "r:9").start == Position("r", 9)
    assert parse_query([("Last-Event-ID", "r:5")], "").start == Position("r", 5)


def test_of_several_event_ids_in_the_url_the_last_one_counts() -> None:
    """The page's own URL may have one, to which a polyfill adds the newest; a second one is no reason to give up."""
    for first in ("Last-Event-ID", "lastEventId"):
        for second in ("Last-Event-ID", "lastEventId"):
            assert parse_query([(first, "r:5"), ("limit", "3"), (second, "r:6")]).start == Position("r", 6)
            assert parse_query([(first, "r:5"), (second, "")]).start == Position("r", 5)
    assert parse_query([("lastEventId", "r:5"), ("lastEventId", "r:6")], "r:9").start == Position("r", 9)


def test_two_starting_points_are_no_contradiction_beside_a_last_event_id() -> None:
    assert parse_query(STARTS.items(), "r:9").start == Position("r", 9)


def test_an_empty_last_event_id_is_none() -> None:
    assert parse_query([("tail", "5"), ("Last-Event-ID", "")], "").tail == 5


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1))
def test_any_last_event_id_is_a_position(text: str) -> None:
    start = parse_query([("tail", "5")], text).start
    assert start == Position(UNKNOWN_RUN, -1) or str(start) == text
    assert parse_query([("Last-Event-ID", text)]).start == start
    assert parse_query([("lastEventId", text)]).start == start


def test_after_a_final_end_the_client_is_finished() -> None:
    assert not RUN_ID.fullmatch(UNKNOWN_RUN)
    assert parse_query([], FINAL_EVENT_ID).finished
    assert parse_query([("Last-Event-ID", "end")]).finished
    assert not parse_query([], "r:9").finished and not parse_query([], "END").finished


# ---- fields ----


def test_equal_asks_are_equal_views() -> None:
    assert parse_query([("fields", "b,a,b,,")]).view == parse_query([("fields", "a,b")]).view


# ---- RFC 3339 ----


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2026-01-31T12:00:00Z", 1769860800000),
        ("2026-01-31t12:00:00z", 1769860800000),
        ("2026-01-31 12:00:00Z", 1769860800000),
        ("2026-01-31T14:00:00+02:00", 1769860800000),
        ("2026-01-31T14:00:00 02:00", 1769860800000),
        ("2026-01-31T06:30:00-05:30", 1769860800000),
        ("2026-01-31T12:00:00-00:00", 1769860800000),
        ("2026-01-31T12:00:00.5Z", 1769860800500),
        ("2026-01-31T12:00:00.050 00:00", 1769860800050),
        ("2026-01-31T12:00:00.0001Z", 1769860800001),
        ("2026-01-31T12:00:00.000000001Z", 1769860800001),
        ("2026-01-31T12:00:00.999999999Z", 1769860801000),
        ("2024-02-29T00:00:00Z", 1709164800000),
    ],
)
def test_times(text: str, milliseconds: int) -> None:
    assert instant(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00Z",
        "2026-01-31T12:00:00+0200",
        "2026-01-31T12:00:00+02",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00,5Z",
        "2026-01-31T12:00:00.1234567890Z",
        "2026-01-31_12:00:00Z",
        "2026-1-31T12:00:00Z",
        "26-01-31T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2025-02-29T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:00+24:00",
        "0000-01-01T00:00:00Z",
        "٢026-01-31T12:00:00Z",
        "2026-W05-6T12:00:00Z",
        " 2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z\n",
        "1769860800",
    ],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        instant(text)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 4 * 10**12), st.integers(-23 * 60, 23 * 60))
def test_a_time_told_to_the_millisecond_is_that_millisecond(at: int, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)
    text = moment.astimezone(zone).isoformat(timespec="milliseconds")
    assert instant(text) == at
    assert instant(text.replace("+", " ")) == at, "a query string turns + into a space"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_row_has_its_field(row: Parameter) -> None:
    """Of the query, or of its view; what says where reading starts becomes ``start``, ``lag`` becomes ``skip``."""
    fields = {field.name for field in dataclasses.fields(Query)} | set(View._fields)
    assert row.name in fields or row.starts or row.event_id or row.name == "lag"
    assert row.help and row.on and row.schema["type"] in ("string", "integer", "number")
