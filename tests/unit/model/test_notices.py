"""Notices: what the wire calls them, what they say, and which position a client has behind each."""

from __future__ import annotations

import dataclasses

import pytest

from tick_gateway.errors import Overloaded, ParameterError
from tick_gateway.model.notices import FINAL_EVENT_ID, NAMES, REASONS, End, Gap, Hello, Notice, Refusal, Reset
from tick_gateway.model.query import parse_query
from tick_gateway.model.tick import UNKNOWN_RUN, Position

CASES: list[tuple[Notice | Refusal, dict[str, object], str | None]] = [
    (Gap("a", 3, 7), {"run": "a", "after": 3, "next": 7}, "a:6"),
    (Gap("a", 3, None), {"run": "a", "after": 3, "next": None}, "a:3"),
    (Reset("b", "a", True), {"run": "b", "old": "a", "complete": True}, "b:-1"),
    (Reset("b", UNKNOWN_RUN, False), {"run": "b", "old": None, "complete": False}, "b:-1"),
    (End("limit", Position("a", 3)), {"reason": "limit", "position": "a:3"}, FINAL_EVENT_ID),
    (End("run", None), {"reason": "run", "position": None}, FINAL_EVENT_ID),
    (End("shutdown", Position("a", 3)), {"reason": "shutdown", "position": "a:3"}, "a:3"),
    (End("failed", None), {"reason": "failed", "position": None}, None),
    (Hello(None, None, None), {"run": None, "first": None, "tip": None}, None),
    (Refusal(Overloaded("full")), {"error": "overloaded", "message": "full"}, None),
]


@pytest.mark.parametrize(("notice", "members", "event_id"), CASES, ids=repr)
def test_what_it_says(notice: Notice | Refusal, members: dict[str, object], event_id: str | None) -> None:
    assert notice.as_dict() == {"notice": notice.name} | members
    assert notice.event_id == event_id


def test_every_notice_is_among_the_cases() -> None:
    assert {notice.name for notice, _, _ in CASES} == NAMES


def test_none_has_a_member_t() -> None:
    """Readers tell notices from ticks by that."""
    assert not any("t" in notice.as_dict() for notice, _, _ in CASES)


def test_they_are_values() -> None:
    """Answers that tell the same share their bytes."""
    gap = Gap("a", 3, 7)
    assert gap == Gap("a", 3, 7) and hash(gap) == hash(Gap("a", 3, 7)) and gap != Gap("a", 3, 8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        gap.after = 4  # type: ignore[misc]


@pytest.mark.parametrize("reason", REASONS)
def test_which_ends_are_final(reason: str) -> None:
    assert End(reason, None).final == (reason in ("limit", "run"))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_no_reader_may_call_its_ticks_like_a_notice(name: str) -> None:
    with pytest.raises(ParameterError, match="no event name"):
        parse_query([("event", name)])
