"""The suite's own footing: every registered transport has a reader, and the checker sees what readers may get wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tick_gateway.transports import TRANSPORTS

from ..support.events import End, Event, Gap, Hello, Ledger, Reset, Tick, notice
from ..support.harness import tick
from ..support.readers.registry import FLAVOURS, flavours_of


def test_every_registered_transport_has_a_reader() -> None:
    for transport in TRANSPORTS:
        for name in flavours_of(transport.name):
            assert FLAVOURS[name].kind == transport.kind


def test_every_reader_is_of_a_registered_transport() -> None:
    assert {kind.transport for kind in FLAVOURS.values()} == {transport.name for transport in TRANSPORTS}


def test_a_transport_without_a_reader_is_named() -> None:
    with pytest.raises(LookupError, match="'sixth' is registered, but .* has no reader for it: write one"):
        flavours_of("sixth")


# ---- the checker ----


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    for run in ("A", "B"):
        for t in range(0, 20, 2):
            ledger.note(run, t, tick(run, t))
    return ledger


def _ticks(run: str, first: int, last: int) -> list[Event]:
    return [Tick(run, t, tick(run, t)) for t in range(first, last + 1, 2)]


ALL: list[Event] = [Hello("A", 0, 18), *_ticks("A", 4, 18), Reset("B", "A", True), *_ticks("B", 0, 18)]


def _accepted(events: list[Event]) -> dict[str, list[Event]]:
    gone = [Gap("A", 3, 10), *_ticks("A", 10, 18), Reset("B", "A", False), *_ticks("B", 0, 18)]
    return {
        "all": events,
        "a gap": gone,
        "the rest is gone": [Gap("A", 3, None), Reset("B", "A", False), *_ticks("B", 0, 18)],
        "a pull's reset": [e if not isinstance(e, Reset) else Reset("B", None, None) for e in events],
        "an end": [*events, End("shutdown", "B:18")],
    }


@pytest.mark.parametrize("name", _accepted(ALL))
def test_the_checker_accepts(ledger: Ledger, name: str) -> None:
    ledger.check(_accepted(ALL)[name], after=("A", 3))


def _refused(events: list[Event]) -> dict[str, list[Event]]:
    first = events[1]
    assert isinstance(first, Tick)
    return {
        "nothing": [],
        "a tick is missing": events[:3] + events[4:],
        "the first is missing": events[2:],
        "the last is missing": events[:-1],
        "a tick twice": events[:4] + events[3:],
        "out of order": [*events[:3], events[4], events[3], *events[5:]],
        "other bytes": [events[0], replace(first, data=first.data + b" "), *events[2:]],
        "a tick that never was": [*events, Tick("B", 19, b'{"t":19}')],
        "a tick of another run": [events[0], replace(first, run="B"), *events[2:]],
        "a tick of no run": [events[0], replace(first, run=None), *events[2:]],
        "no reset": [event for event in events if not isinstance(event, Reset)],
        "a reset that says incomplete": [e._replace(complete=False) if isinstance(e, Reset) else e for e in events],
        "a reset that says complete": [*events[:5], *events[9:]],
        "a gap that is a hole": [events[0], Gap("A", 3, 4), *events[1:]],
        "a gap from before": [*events[:4], Gap("A", 5, 14), *events[6:]],
        "a gap that hides ticks": [Gap("A", 9, 12), *_ticks("A", 12, 18), *events[9:]],
        "a gap to nowhere": [Gap("A", 3, 11), *_ticks("A", 12, 18), *events[9:]],
        "a gap in another run": [Gap("B", 3, 12), *events[1:]],
        "ticks behind a gap without end": [Gap("A", 3, None), *events[1:]],
        "ticks behind the end": [*events[:-1], End("shutdown", "B:16"), events[-1]],
        "an end elsewhere": [*events[:-3], End("shutdown", "B:18")],
    }


@pytest.mark.parametrize("name", _refused(ALL))
def test_the_checker_refuses(ledger: Ledger, name: str) -> None:
    with pytest.raises(AssertionError):
        ledger.check(_refused(ALL)[name], after=("A", 3))


@pytest.mark.parametrize(
    "members",
    [
        {"notice": "gap", "run": "A", "after": 3},
        {"notice": "gap", "run": "A", "after": 3, "next": 5, "t": 5},
        {"notice": "end", "reason": "limit"},
    ],
)
def test_a_notice_of_another_shape_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        notice(members)
