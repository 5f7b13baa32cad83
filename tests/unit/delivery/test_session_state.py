"""The table of a session's states; that sessions are what it says is looked at in ``tests/simulation``."""

from __future__ import annotations

import pytest

from tick_gateway.delivery import session_state
from tick_gateway.delivery.session_state import TRANSITIONS, State


def reachable(state: State) -> set[State]:
    """All states that may come after one, however late."""
    found: set[State] = set()
    left = [state]
    while left:
        new = TRANSITIONS[left.pop()] - found
        found |= new
        left += new
    return found


def test_the_diagram_names_every_state() -> None:
    assert session_state.__doc__ is not None
    assert set(TRANSITIONS) == set(State)
    for state in State:
        assert state.name in session_state.__doc__


def test_every_state_comes_after_the_first_and_none_before_it() -> None:
    assert reachable(State.NEW) == set(State) - {State.NEW}


@pytest.mark.parametrize("state", [state for state in State if not state.ended])
def test_from_anywhere_a_session_may_end(state: State) -> None:
    assert TRANSITIONS[state] >= {State.CLOSING, State.CLOSED}


def test_an_end_is_final() -> None:
    assert reachable(State.CLOSING) == {State.CLOSED}
    assert reachable(State.CLOSED) == set()


@pytest.mark.parametrize("state", list(State))
def test_what_is_blocked_or_paused_is_not_woken_and_reads_nothing(state: State) -> None:
    if state.blocked or state.paused or state.ended or state.live:
        assert not state.wakes and not state.reads
    else:
        assert state.wakes or state is State.STARTING
