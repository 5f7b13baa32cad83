"""How long it is from one flush to the next, by what a round takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.delivery.flush import FlushPolicy
from tick_gateway.settings import Settings

POLICY = FlushPolicy(0.025)


def test_the_interval_follows_what_a_round_takes() -> None:
    assert POLICY.interval(0.0) == POLICY.shortest_interval == 0.005
    assert POLICY.interval(0.001) == pytest.approx(0.020)
    assert POLICY.interval(0.002) == 0.025
    assert POLICY.interval(0.1) == pytest.approx(0.18)


@given(st.floats(0, 10), st.floats(0, 10), st.floats(0, 10))
def test_a_longer_round_makes_no_shorter_interval(longest: float, one: float, other: float) -> None:
    policy = FlushPolicy(longest)
    short, long = sorted([one, other])
    assert policy.interval(short) <= policy.interval(long)
    assert policy.interval(long) >= policy.heavy_factor * long, "the rest of the loop has its share"
    assert policy.interval(short) <= max(longest, policy.heavy_factor * short)


@given(st.floats(0, 10), st.floats(0, 10))
def test_a_fixed_interval_is_kept_to(length: float, took: float) -> None:
    assert FlushPolicy(length, fixed=True).interval(took) == length


def test_settings_say_how_often_and_how_long_a_section_is() -> None:
    assert FlushPolicy.of(Settings()) == FlushPolicy(0.025)
    assert FlushPolicy.of(Settings(flush="fixed", flush_interval=0.0)) == FlushPolicy(0.0, fixed=True)
    assert FlushPolicy.of(Settings(compression_section=7)) == FlushPolicy(0.025, section_ticks=7)
