"""Checkpoints in the content of a file: few, evenly spread, each with the CRC of all that comes before it."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from tick_gateway.history.external.checkpoint import _MOST, Checkpoints

contents = st.lists(st.integers(0, 60), max_size=400).map(lambda sizes: b"".join(b"x" * size + b"\n" for size in sizes))


def set_in_pieces(content: bytes, seed: int) -> Checkpoints:
    checkpoints, turns, at, crc = Checkpoints(), Random(seed), 0, 0
    while at < len(content):
        piece = content[at : at + turns.randrange(1, 300)]
        checkpoints.set(piece, at, crc)
        crc, at = crc32(piece, crc), at + len(piece)
    return checkpoints


@given(contents, st.integers(0, 1 << 32))
def test_each_vouches_for_what_comes_before_it(content: bytes, seed: int) -> None:
    marks = set_in_pieces(content, seed).upto(len(content))
    assert len(marks) <= _MOST
    for offset, crc in marks:
        assert content[offset - 1 : offset] == b"\n" and crc == crc32(content[:offset])
    assert bool(marks) is bool(content)


@given(contents, st.integers(0, 1 << 32), st.integers(0, 20_000), st.integers(0, 20_000))
def test_what_is_asked_for(content: bytes, seed: int, low: int, high: int) -> None:
    checkpoints = set_in_pieces(content, seed)
    marks = checkpoints.upto(len(content))
    assert checkpoints.between(low, high) == [mark for mark in marks if low < mark[0] <= high]
    checkpoints.cut(low)
    assert checkpoints.upto(len(content)) == [mark for mark in marks if mark[0] <= low]


def test_they_go_on_where_they_were_remembered() -> None:
    content = b"line\n" * 5000
    half = len(content) // 2
    first = set_in_pieces(content[:half], 1)
    again = Checkpoints(first.upto(half))
    again.set(content[half:], half, crc32(content[:half]))
    marks = again.upto(len(content))
    assert all(crc == crc32(content[:offset]) for offset, crc in marks) and marks[-1][0] > half
    gaps = [after - before for (before, _), (after, _) in pairwise(marks)]
    assert max(gaps) < len(content) / 4, "they are spread over all of it"
