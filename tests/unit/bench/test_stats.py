"""Histograms and numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.bench.stats import Histogram, bound, bucket, median, number

TIMES = st.lists(st.integers(0, 10**12), min_size=1, max_size=200)


@given(st.integers(0, 1 << 60))
def test_a_number_lies_in_its_bucket(value: int) -> None:
    index = bucket(value)
    assert (bound(index - 1) if index else -1) < value <= bound(index)
    assert bound(index) <= value * (1 + 1 / 32)


@given(TIMES, st.floats(0.01, 1))
def test_percentiles_are_near_the_true_ones(times: list[int], share: float) -> None:
    true = sorted(times)[math.ceil(share * len(times) - 1e-9) - 1]
    got = Histogram(times).percentile(share)
    assert got is not None and true <= got <= min(true * (1 + 1 / 32), max(times))


@given(TIMES, TIMES)
def test_merging_is_counting_all(one: list[int], other: list[int]) -> None:
    merged, whole = Histogram(one), Histogram(one + other)
    merged.merge(Histogram(other))
    assert (merged.buckets, merged.count, merged.largest) == (whole.buckets, whole.count, whole.largest)


@given(TIMES)
def test_the_curve_rises_to_one(times: list[int]) -> None:
    points = list(Histogram(times).curve())
    assert points == sorted(points) and points[-1] == (max(times), 1.0)


def test_an_empty_histogram_says_so() -> None:
    empty = Histogram()
    assert (empty.percentile(0.5), list(empty.curve()), empty.largest) == (None, [], 0)
    assert Histogram([-5]).percentile(1) == 0  # two clocks that disagree


def test_median() -> None:
    assert (median([]), median([3.0]), median([4, 1, 3]), median([4, 1, 3, 2])) == (None, 3, 3, 2)


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "-"),
        (0, "0"),
        (0.0271, "0.0271"),
        (0.5, "0.500"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (12345.6, "12,346"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text
