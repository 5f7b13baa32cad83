"""A histogram of times, small enough to be sent between processes. Pure: numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

_BITS: Final = 5  # of a number that are kept: 32 buckets for each power of two, so a bucket is at most 3% wide
_PLACES: Final = 6  # digits after the point, at most


def bucket(value: int) -> int:
    """The bucket that a number (0 or more) falls into; numbers below 64 have one of their own."""
    shift = max(value.bit_length() - _BITS - 1, 0)
    return (shift << _BITS) + (value >> shift)


def bound(index: int) -> int:
    """The largest number that falls into a bucket."""
    shift = max((index >> _BITS) - 1, 0)
    return (((index - (shift << _BITS)) + 1) << shift) - 1


class Histogram:
    """A distribution of times, in nanoseconds; percentiles are at most 3% above the true ones.

    Attributes:
        count: how many were added.
        largest: the largest of them, exactly; 0 where there was none.
    """

    __slots__ = ("buckets", "count", "largest")

    def __init__(self, values: Iterable[int] = ()) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.largest = 0
        for value in values:
            self.add(value)

    def add(self, value: int) -> None:
        """Count a time; one below 0 (two clocks that disagree) counts as 0."""
        value = max(value, 0)
        index = bucket(value)
        self.buckets[index] = self.buckets.get(index, 0) + 1
        self.count += 1
        self.largest = max(self.largest, value)

    def merge(self, other: Histogram) -> None:
        """Count all that another one counted."""
        for index, count in other.buckets.items():
            self.buckets[index] = self.buckets.get(index, 0) + count
        self.count += other.count
        self.largest = max(self.largest, other.largest)

    def percentile(self, share: float) -> int | None:
        """The time that a share (0 to 1) of all did not exceed; None if there are none."""
        if not self.count:
            return None
        seen, wanted = 0, share * self.count
        for index in sorted(self.buckets):
            seen += self.buckets[index]
            if seen >= wanted:
                return min(bound(index), self.largest)
        return self.largest

    def curve(self) -> Iterator[tuple[int, float]]:
        """Points (time, share of all that did not exceed it), rising."""
        seen = 0
        for index in sorted(self.buckets):
            seen += self.buckets[index]
            yield min(bound(index), self.largest), seen / self.count


def median(values: Iterable[float]) -> float | None:
    """The median (of an even number, the lower of the two); None of no values."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2] if ordered else None


def number(value: float | None, digits: int = 3) -> str:
    """A number with this many significant digits, or a dash for None."""
    if value is None:
        return "-"
    places = digits - 1 - (math.floor(math.log10(abs(value))) if value else digits)
    return f"{value:,.{min(max(places, 0), _PLACES)}f}"
