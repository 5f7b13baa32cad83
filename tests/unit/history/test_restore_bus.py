"""The bus as it was: as many of the newest ticks as memory takes, without a hole; what is before them is told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.bus import gaps, offer, seen
from tests.support.recorded import AT, data_of
from tests.support.stored_blocks import Jobs, MemoryVolume
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.errors import Damaged
from tick_gateway.history.archive import Archive
from tick_gateway.history.block_index import Blocks
from tick_gateway.history.restore_bus import restore
from tick_gateway.history.stored_block import Block, Entry
from tick_gateway.history.stored_run import StoredRun, UnclosedBlock
from tick_gateway.settings import Settings


def stored_run(id: str, *blocks: tuple[int, Sequence[int]], total: int = 0, tip: int = -1, seq: int = 0) -> StoredRun:
    """A run with these blocks, each given by its ordinal and ticks."""
    volume = MemoryVolume()
    found = StoredRun(id, seq, AT, total=total, tip=tip)
    for ordinal, ts in blocks:
        found.entries.append(volume.add(ts, ordinal))
        found.know(ordinal + len(ts), ts[-1])
    return found


def unclosed(ordinal: int, ts: Sequence[int]) -> UnclosedBlock:
    lines = b"".join(data_of(t) + b"\n" for t in ts)
    return UnclosedBlock(ordinal, Block(lines, list(ts), [AT + ordinal + i for i in range(len(ts))]))


def restored(
    *runs: StoredRun, ring: int = 100, opened: dict[str, UnclosedBlock] | None = None
) -> tuple[TickBus, Archive]:
    bus, archive = TickBus(Settings(ring=ring)), Archive(Jobs())
    restore(bus, archive, runs, opened or {})
    return bus, archive


def spoil(entry: Entry) -> None:
    assert isinstance(entry.volume, MemoryVolume)
    entry.volume.faults[entry.offset] = Damaged("spoilt")


def test_nothing_stored() -> None:
    bus, archive = restored()
    assert (seen(bus), bus.tip, archive.stored) == ({}, None, None)
    assert offer(bus, 0, run="A") == [True] and seen(bus) == {"A": [0]}


def test_ticks_of_the_newest_run_are_in_memory_and_of_older_ones_in_history() -> None:
    bus, archive = restored(stored_run("A", (0, [1, 2])), stored_run("B", (0, [0, 5]), (2, [6, 7]), seq=4))
    a, b = bus.runs["A"], bus.runs["B"]
    assert seen(bus) == {"B": [0, 5, 6, 7]} and bus.tip == ("B", 7)
    assert (a.ended, b.ended, a.following, bus.current) == (True, False, b, b)
    assert (a.count, a.evicted, a.evicted_at) == (2, 2, AT + 1), "all of it is behind the ring"
    assert (b.count, b.evicted, b.tip, b.shown, b.restored) == (4, -1, 7, 7, True)
    assert archive.first(a) == 1 and archive.stored == ("B", 7)


@pytest.mark.parametrize("seqs, expected", [((0, 1, 2), [0, 1, 2]), ((5, 0, 0), [5, 6, 7]), ((0, 4, 4), [0, 4, 5])])
def test_the_order_of_runs_rises_also_where_it_was_lost(seqs: tuple[int, ...], expected: list[int]) -> None:
    bus, _ = restored(*(stored_run(f"R{number}", (0, [1]), seq=seq) for number, seq in enumerate(seqs)))
    assert [run.seq for run in bus.runs.values()] == expected


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), min_size=1, max_size=8),
    st.integers(1, 12),
    st.integers(0, 2),
)
def test_the_newest_ticks_come_into_memory_as_far_as_it_goes(
    parts: list[tuple[int, bool, bool]], ring: int, lost: int
) -> None:
    """Up to the first hole, and to the first block that cannot be read; whatever is before them counts as evicted."""
    ts: list[int] = []
    blocks: list[tuple[int, list[int]]] = []
    bad: list[int] = []
    for count, there, readable in parts:
        new = [(ts[-1] + 2 if ts else 0) + i for i in range(count)]
        if there:
            blocks.append((len(ts), new))
            bad += [] if readable else [len(blocks) - 1]
        ts += new
    behind = [ts[-1] + 2 + i for i in range(lost)]  # published, and never stored
    run = stored_run("R", *blocks, total=len(ts) + lost, tip=(ts + behind)[-1])
    entries = list(run.entries)
    for number in bad:
        spoil(entries[number])
    bus, archive = restored(run, ring=ring)
    expected: list[int] = []
    asked = 0
    end = len(ts) + lost
    for number, (ordinal, block) in reversed(list(enumerate(blocks))):
        if ordinal + len(block) != end or asked >= ring:
            break
        if number in bad:
            break
        expected = block + expected
        asked += len(block)
        end = ordinal
    found = seen(bus).get("R", [])
    assert found == expected[-ring:]
    now = bus.runs["R"]
    assert now.tip == now.shown == (ts + behind)[-1]
    published = ts + behind
    before = published[: published.index(found[0])] if found else published
    if before and before[-1] in {t for _, block in blocks for t in block}:
        assert now.evicted == before[-1]
    else:
        assert (now.evicted == -1) if not before else (before[-1] <= now.evicted < (found[0] if found else 1 << 60))
    assert now.lost == len(published) - sum(len(block) for _, block in blocks)
    assert archive.damaged == len([number for number in bad if entries[number] not in archive.history(now).entries])
    assert offer(bus, published[-1] + 1, run="R") == [True]


def test_no_more_is_read_than_memory_takes() -> None:
    run = stored_run("R", *((t, [t, t + 1]) for t in range(0, 20, 2)))
    (volume,) = {entry.volume for entry in run.entries}
    assert isinstance(volume, MemoryVolume)
    bus, _ = restored(run, ring=5)
    assert seen(bus) == {"R": [15, 16, 17, 18, 19]} and bus.runs["R"].evicted == 14
    assert volume.asked == [("ticks", 1)] * 3


def test_a_block_that_cannot_be_read_ends_what_memory_has() -> None:
    run = stored_run("R", (0, [0, 1]), (2, [2, 3]), (4, [4, 5]))
    first, second, third = run.entries
    spoil(second)
    bus, archive = restored(run)
    assert seen(bus) == {"R": [4, 5]} and bus.runs["R"].evicted == 3
    assert list(archive.history(bus.runs["R"]).entries) == [first, third] and archive.damaged == 1


def test_where_the_newest_block_cannot_be_read_memory_has_nothing() -> None:
    run = stored_run("R", (0, [0, 1]), (2, [2, 3]))
    spoil(list(run.entries)[1])
    bus, archive = restored(run)
    assert seen(bus) == {} and bus.tip == ("R", 3) and archive.damaged == 1


def test_the_block_that_was_still_written() -> None:
    """Its ticks are the newest, and stand on no disk as a block of its own."""
    run = stored_run("R", (0, [0, 1]))
    bus, archive = restored(run, opened={"R": unclosed(2, [2, 3, 4])})
    now = bus.runs["R"]
    assert seen(bus) == {"R": [0, 1, 2, 3, 4]} and (now.tip, now.count, now.lost) == (4, 5, 0)
    history = archive.history(now)
    assert [batch.first for batch in history.open] == [2] and history.last == 4
    assert offer(bus, 5, run="R") == [True] and gaps(bus) == []


def test_a_run_that_is_an_open_block_alone() -> None:
    bus, _ = restored(StoredRun("R", started=AT), opened={"R": unclosed(0, [7])})
    assert seen(bus) == {"R": [7]} and bus.runs["R"].evicted == -1


def test_ticks_that_were_lost_behind_what_is_stored() -> None:
    """Memory holds no holes: what is stored is read from disk, and what comes next has a gap before it."""
    bus, _ = restored(stored_run("R", (0, [0, 1]), total=4, tip=3))
    now = bus.runs["R"]
    assert seen(bus) == {} and (now.tip, now.evicted, now.lost) == (3, 3, 2)
    bus, _ = restored(stored_run("R", (0, [0, 1]), total=3, tip=1))
    assert bus.runs["R"].lost == 1
    offer(bus, 5, run="R")
    assert gaps(bus) == [5], "the tip is known, and that something came behind it"


def test_where_the_end_of_a_run_is_gone_it_was_received_before_the_next_one_began() -> None:
    bus, _ = restored(stored_run("A", (0, [0]), total=3, tip=2), stored_run("B", (0, [0])))
    assert (bus.runs["A"].evicted, bus.runs["A"].evicted_at) == (2, AT)
    bus, _ = restored(stored_run("A", (0, [0]), total=3, tip=2))
    assert bus.runs["A"].evicted_at > AT * 1000, "nobody knows"


def test_ticks_before_a_block_that_was_deleted_are_known_by_its_edge() -> None:
    run = stored_run("R", (10, [40, 41]))
    run.edges = {10: 37}
    bus, archive = restored(run)
    now = bus.runs["R"]
    assert (seen(bus), now.evicted, now.lost) == ({"R": [40, 41]}, 37, 10)
    found = archive.after(now, 37)
    assert found is not None and not archive.history(now).missing_before(found, 37)
    run = StoredRun("R", entries=Blocks(run.entries), total=12, tip=41)
    assert restored(run)[0].runs["R"].evicted == 39, "nothing is known: all up to the first tick"
