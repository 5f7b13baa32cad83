"""What is known of a stored run: it only grows, whatever order it is learnt in."""

from __future__ import annotations

from itertools import permutations

from tests.support.stored_blocks import MemoryVolume
from tick_gateway.history.block_index import Blocks
from tick_gateway.history.stored_run import StoredRun


def test_what_is_known_of_a_run_stands() -> None:
    told = [(3, 20), (7, 11), (0, -1)]
    for order in permutations(told):
        run = StoredRun("R")
        for total, tip in order:
            run.know(total, tip)
        assert (run.total, run.tip) == (7, 20)


def test_how_much_was_published_up_to_what_is_stored() -> None:
    """Ticks before it count that are gone; those behind it do not."""
    assert StoredRun("R", total=9, tip=30).stored == 0
    volume = MemoryVolume()
    entries = [volume.add([5, 6], 4), volume.add([9], 8)]
    assert StoredRun("R", entries=Blocks(entries[:1]), total=20).stored == 6
    assert StoredRun("R", entries=Blocks(entries), total=20).stored == 9


def test_runs_share_nothing() -> None:
    one, other = StoredRun("A"), StoredRun("B")
    one.entries.append(MemoryVolume().add([1], 0))
    one.edges[3] = 4
    assert not other.entries and not other.edges
