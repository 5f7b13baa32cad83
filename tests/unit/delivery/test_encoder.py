"""What is made of batches: kept for those who come by, within its bytes, and as long as the batch."""

from __future__ import annotations

import gc

from tick_gateway.bus.ring import Batch
from tick_gateway.model.view import View
from tick_gateway.reading.cursor import Span

from ...simulation.client import Client
from ...simulation.room import Room


def test_long_views_count_in_what_is_kept() -> None:
    room = Room(ring=50, encoded_bytes=100_000)
    try:
        room.tell(1)
        (batch,) = room.feed.bus.ring
        for number in range(100):
            view = View(fields=(f"{number}" + "x" * 7000,))
            room.fanout.encoder.payloads(view, Span(batch, 0, 1))
        assert len(batch.projected) <= 14
    finally:
        room.close()


def test_what_was_made_from_a_batch_goes_with_it() -> None:
    room = Room(ring=5, encoded_bytes=1 << 20)
    try:
        for kind, view in (("sse", ("every", "1000")), ("ws", ("every", "500")), ("ndjson", ("fields", "u"))):
            Client(room, kind, [view])
        room.settle()
        for t in range(1, 200):
            room.tell(t)
        gc.collect()
        ours = set(room.bus.runs.values())  # other tests' batches may still be waiting for the collector
        held = [batch for batch in gc.get_objects() if isinstance(batch, Batch) and batch.run in ours]
        assert len(held) <= 5
    finally:
        room.close()
