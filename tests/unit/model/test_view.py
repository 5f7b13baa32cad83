"""Views: which ticks pass, and how they are joined to messages. What of them is kept: ``test_projection``."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tick_gateway.bus.ring import Batch, Run
from tick_gateway.delivery.encoder import Encoder
from tick_gateway.model.tick import PublishedTick
from tick_gateway.model.view import BATCH_MESSAGE_BYTES, Payload, View, arrays, cut, join
from tick_gateway.reading.cursor import Span

# ---- which ticks, and their stamp ----

TICKS = [PublishedTick(t, b'{"t":%d,"x":%d,"y":0}' % (t, t * t), 1000 + t) for t in range(10)]


@pytest.mark.parametrize(("every", "passing"), [(1, range(10)), (3, [0, 3, 6, 9]), (7, [0, 7]), (100, [0])])
def test_every_counts_by_the_tick_s_own_number(every: int, passing: list[int]) -> None:
    view = View(every=every)
    assert [payload.t for payload in view.render("r", TICKS)] == list(passing)
    assert [tick.t for tick in TICKS if view.passes(tick.t)] == list(passing)
    assert [payload.t for payload in view.render("r", TICKS[1:], most=2)] == [t for t in passing if t][:2]


def test_a_plain_view_shows_the_very_bytes() -> None:
    assert View().plain and View(()).plain
    for payload, tick in zip(View().render("r", TICKS), TICKS, strict=True):
        assert payload == Payload(tick.t, tick.data)
        assert payload.data is tick.data


@pytest.mark.parametrize("view", [View(("x",)), View(every=2), View(batch=1), View(stamp=True)])
def test_what_asks_for_anything_is_not_plain(view: View) -> None:
    assert not view.plain


def test_a_stamp_wraps_what_the_fields_left() -> None:
    assert View(stamp=True).render("r", TICKS[2:3]) == [
        Payload(2, b'{"t":2,"run":"r","at":1002,"data":{"t":2,"x":4,"y":0}}')
    ]
    assert View(("x",), 2, 0, True).render("r", TICKS, most=2)[1] == Payload(
        2, b'{"t":2,"run":"r","at":1002,"data":{"t":2,"x":4}}'
    )


def test_fields_apply_to_each_tick() -> None:
    assert View(("x",)).render("r", TICKS[:2]) == [Payload(0, b'{"t":0,"x":0}'), Payload(1, b'{"t":1,"x":1}')]


# ---- batches ----

HALF = BATCH_MESSAGE_BYTES // 2


def sized(*sizes: int) -> list[Payload]:
    return [Payload(t, b"%d" % t + b" " * (size - len(str(t)))) for t, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "batch", "first"),
    [
        ([], 3, None),
        ([1], 1, 1),
        ([1, 1], 3, None),
        ([1, 1, 1], 3, 3),
        ([1, 1, 1, 1], 3, 3),
        ([HALF, HALF], 3, None),
        ([HALF, HALF, 1], 4, 2),
        ([HALF, HALF + 1], 3, 1),
        ([4 * HALF], 3, None),
        ([4 * HALF, 1], 3, 1),
        ([4 * HALF], 1, 1),
    ],
)
def test_where_the_first_full_message_ends(sizes: list[int], batch: int, first: int | None) -> None:
    assert cut(sized(*sizes), batch) == first


def test_joined_ticks_are_an_array_at_the_position_of_the_last() -> None:
    assert join([Payload(1, b'{"t":1}')]) == Payload(1, b'[{"t":1}]')
    assert join([Payload(1, b'{"t":1}'), Payload(5, b'{"t":5}')]) == Payload(5, b'[{"t":1},{"t":5}]')


def test_without_a_batch_messages_are_the_ticks() -> None:
    payloads = sized(1, 1)
    assert arrays(payloads, 0) is payloads
    assert arrays([], 5) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([2, 9, HALF, HALF + 1, 3 * HALF]), max_size=15), st.integers(1, 7))
def test_arrays_hold_every_tick_once_in_messages_as_full_as_allowed(sizes: list[int], batch: int) -> None:
    payloads = sized(*sizes)
    messages = arrays(payloads, batch)
    assert [t for message in messages for t in json.loads(message.data)] == [payload.t for payload in payloads]
    begin = 0
    for message in messages:
        held = json.loads(message.data)
        size = sum(sizes[begin : begin + len(held)])
        assert message.t == held[-1]
        assert 1 <= len(held) <= batch
        assert size <= BATCH_MESSAGE_BYTES or len(held) == 1
        begin += len(held)
        full = len(held) == batch or begin == len(sizes) or size + sizes[begin] > BATCH_MESSAGE_BYTES
        assert full, "a message ends only where the next tick has no place"


@pytest.mark.parametrize("view", [View(), View(every=3), View(fields=("x",)), View(fields=("x",), every=3, stamp=True)])
def test_at_most_none_is_none(view: View) -> None:
    """What is left of a limit may be nothing, which is not the same as no limit."""
    run = Run("A", 0, 0, 0)
    batch = Batch(run, [PublishedTick(t, b'{"t":%d,"x":1}' % t, 0) for t in range(9)], 0, False)
    passing = [t for t in range(9) if view.passes(t)]
    for most, expected in ((None, passing), (0, []), (-1, []), (2, passing[:2]), (99, passing)):
        assert [payload.t for payload in Encoder(1 << 20).payloads(view, Span(batch, 0, 9), most)] == expected
        assert [payload.t for payload in view.render("A", batch.ticks, most)] == expected
