"""Who is connected, and how many different views there are."""

from __future__ import annotations

import logging
from typing import NamedTuple, cast

import pytest

from tick_gateway.delivery.encoder import Variant
from tick_gateway.delivery.group import Member
from tick_gateway.delivery.reader_registry import ReaderRegistry
from tick_gateway.errors import TooManyViews
from tick_gateway.model.view import View
from tick_gateway.wire.ndjson import NDJSONFraming

PLAIN = Variant(NDJSONFraming(False), View())


class Reader(NamedTuple):
    """A session, as far as the registry asks."""

    name: str
    variant: Variant


def reader(name: str, variant: Variant) -> Member:
    return cast(Member, Reader(name, variant))


def seen(*fields: str) -> Variant:
    return PLAIN._replace(view=View(fields))


def test_whole_ticks_are_no_view_and_equal_views_are_one() -> None:
    registry = ReaderRegistry(1)
    for number in range(3):
        registry.admit(reader(f"plain {number}", PLAIN))
        registry.admit(reader(f"x {number}", seen("x")))
    assert (registry.views, len(registry.sessions)) == (1, 6)
    registry.check_views(PLAIN)
    registry.check_views(seen("x"))
    with pytest.raises(TooManyViews):
        registry.check_views(seen("y"))


def test_a_view_makes_room_when_its_last_reader_leaves() -> None:
    registry = ReaderRegistry(1)
    first, second = reader("1", seen("x")), reader("2", seen("x"))
    registry.admit(first)
    registry.admit(second)
    registry.dismiss(first)
    registry.dismiss(first)  # told twice
    assert registry.views == 1
    registry.dismiss(second)
    registry.check_views(seen("y"))
    assert not registry.sessions


def test_who_takes_another_view_makes_room_for_it() -> None:
    registry = ReaderRegistry(1)
    one = reader("1", seen("x"))
    registry.admit(one)
    registry.revise(one, seen("y"))
    assert registry.views == 1
    registry.check_views(seen("y"))
    with pytest.raises(TooManyViews):
        registry.check_views(seen("x"))


def test_a_view_too_many_changes_nothing() -> None:
    registry = ReaderRegistry(1)
    one, other = reader("1", seen("x")), reader("2", PLAIN)
    registry.admit(one)
    registry.admit(other)
    with pytest.raises(TooManyViews):
        registry.revise(other, seen("y"))
    assert registry.views == 1
    registry.dismiss(other)
    registry.dismiss(one)
    assert registry.views == 0


def test_refusals_are_counted_and_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    registry = ReaderRegistry(1)
    with caplog.at_level(logging.WARNING, "tick_gateway"):
        for _ in range(5):
            registry.refuse("there is no room")
    assert registry.refused == 5
    assert [record.getMessage() for record in caplog.records] == ["readers are refused: there is no room"]
