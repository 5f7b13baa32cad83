"""What the loop knows of history: blocks are loaded once for all who ask, and what cannot be read leaves, alone."""

from __future__ import annotations

import errno
import logging
from collections import OrderedDict
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded import data_of
from tests.support.stored_blocks import Jobs, MemoryVolume, batch_of
from tick_gateway.bus.ring import Run
from tick_gateway.errors import Damaged
from tick_gateway.history.archive import MAX_DAMAGE, Archive, Load
from tick_gateway.history.record_page import HeldRecords
from tick_gateway.history.stored_block import Entry

RUN = Run("R", 0, 0, 0)


class Shelf:
    """An archive of one run: files of three blocks of two ticks each."""

    def __init__(self, files: int = 2, cache_bytes: int = 1 << 20) -> None:
        self.jobs = Jobs()
        self.archive = Archive(self.jobs, cache_bytes)
        self.volumes = [MemoryVolume() for _ in range(files)]
        self.entries = [
            volume.add([ordinal, ordinal + 1], ordinal)
            for number, volume in enumerate(self.volumes)
            for ordinal in range(6 * number, 6 * number + 6, 2)
        ]
        self.history = self.archive.add(RUN, self.entries)

    def asked(self, volume: int = 0) -> list[tuple[str, int]]:
        return self.volumes[volume].asked

    def fail(self, number: int, error: Exception) -> None:
        entry = self.entries[number]
        volume = entry.volume
        assert isinstance(volume, MemoryVolume)
        volume.faults[entry.offset] = error

    def load(self, number: int) -> Load:
        found = self.archive.get(RUN, self.entries[number])
        assert isinstance(found, Load)
        return found


def lines_of(*ts: int) -> bytes:
    return b"".join(data_of(t) + b"\n" for t in ts)


# ---- loads ----


def test_all_who_ask_share_a_load_and_what_it_brought() -> None:
    shelf = Shelf()
    load, calls = shelf.load(1), list[str]()
    assert shelf.load(1) is load and not load.done and load.entry == shelf.entries[1]
    load.then(lambda: calls.append("one"))
    load.then(lambda: calls.append("other"))
    assert shelf.jobs.work() == 1 and shelf.asked() == [("ticks", 1)] and calls == ["one", "other"]
    assert load.done and load.batches is not None
    assert [(tick.t, tick.data) for batch in load.batches for tick in batch.ticks] == [(2, data_of(2)), (3, data_of(3))]
    assert shelf.archive.get(RUN, shelf.entries[1]) is load.batches, "it is in the cache now"
    assert not shelf.jobs.waiting and shelf.archive.loaded == 1


def test_whoever_waits_is_called_once() -> None:
    """However often it asks, and not again for a load that is asked for anew."""
    shelf = Shelf(cache_bytes=0)
    calls: list[Load] = []
    first = shelf.load(0)

    def call() -> None:
        assert first.done
        calls.append(first)

    for _ in range(3):
        shelf.load(0).then(call)
    shelf.jobs.work()
    first.finish()
    assert calls == [first]
    shelf.load(1)
    shelf.jobs.work()
    assert shelf.load(0) is not first, "it fell out of the cache"
    shelf.jobs.work()
    assert calls == [first]


def test_who_is_called_may_ask_at_once() -> None:
    shelf = Shelf()
    found: list[object] = []
    shelf.load(0).then(lambda: found.append(shelf.archive.get(RUN, shelf.entries[0])))
    shelf.load(0).then(lambda: found.append(shelf.archive.get(RUN, shelf.entries[1])))
    assert shelf.jobs.work() == 2
    ticks, load = found
    assert isinstance(ticks, list) and isinstance(load, Load) and load.done


def test_another_form_or_more_blocks_are_another_load() -> None:
    shelf = Shelf()
    archive, row = shelf.archive, shelf.entries[:2]
    loads = [
        archive.get(RUN, row[0]), archive.frames(RUN, row[:1]), archive.frames(RUN, row), archive.lines(RUN, row[:1]),
        archive.lines(RUN, row),
    ]  # fmt: skip
    assert len({id(load) for load in loads}) == 5 and archive.frames(RUN, row) is loads[2]
    assert archive.lines(RUN, list(row)) is loads[4]
    assert shelf.jobs.work() == 5 and archive.loaded == 1 + 1 + 2 + 1 + 2
    frames, lines = loads[2], loads[4]
    assert isinstance(frames, Load) and bytes(frames.frames or b"") == lines_of(0, 1, 2, 3) and frames.batches is None
    assert isinstance(lines, Load) and lines.lines == [lines_of(0, 1), lines_of(2, 3)] and lines.frames is None


def test_frames_that_the_system_holds_come_at_once() -> None:
    shelf = Shelf()
    shelf.volumes[0].held = True
    assert shelf.archive.frames(RUN, shelf.entries[:2]) == bytearray(lines_of(0, 1, 2, 3))
    assert not shelf.jobs.waiting and shelf.archive.loaded == 0
    shelf.fail(0, Damaged("spoilt"))
    load = shelf.archive.frames(RUN, shelf.entries[:1])
    assert isinstance(load, Load) and shelf.archive.damaged == 0, "what it means is decided by the load"
    shelf.jobs.work()
    assert load.done and load.frames is None and shelf.archive.damaged == 1


def test_a_load_of_what_is_here() -> None:
    shelf = Shelf()
    batches = [batch_of(RUN, [0, 1], 0)]
    load = Load.of(shelf.entries[0], batches)
    assert load.done and load.batches is batches and load.row == [shelf.entries[0]] and load.form == "ticks"


# ---- the cache ----


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 4))
def test_decoded_blocks_are_kept_within_bytes(asked: list[int], room: int) -> None:
    """The last ones that were used; the very last one, whatever it takes."""
    shelf = Shelf()
    costs = [sum(len(data_of(t)) + 200 for t in (entry.first, entry.last)) for entry in shelf.entries]
    bound = room * max(costs)
    shelf.archive._cache._max_bytes = bound
    held: OrderedDict[int, int] = OrderedDict()
    for number in asked:
        found = shelf.archive.get(RUN, shelf.entries[number])
        assert isinstance(found, Load) == (number not in held)
        shelf.jobs.work()
        held[number] = costs[number]
        held.move_to_end(number)
        while sum(held.values()) > bound and len(held) > 1:
            held.popitem(last=False)
        assert shelf.archive.cached_bytes == sum(held.values())


def test_who_waits_for_a_block_has_it_whatever_the_cache_does() -> None:
    shelf = Shelf(cache_bytes=0)
    loads = [shelf.load(number) for number in range(4)]
    shelf.jobs.work()
    assert all(load.batches for load in loads)
    assert not isinstance(shelf.archive.get(RUN, shelf.entries[3]), Load)
    assert isinstance(shelf.archive.get(RUN, shelf.entries[0]), Load)


def test_what_is_deleted_while_it_is_read_does_not_stay() -> None:
    shelf = Shelf(files=1)
    load = shelf.load(0)
    shelf.archive.removed("R", shelf.volumes[0])
    shelf.jobs.work()
    assert load.batches and shelf.archive.cached_bytes == 0 and not shelf.archive.histories


def test_a_file_that_is_deleted_takes_its_blocks_along() -> None:
    shelf = Shelf()
    for number in (0, 3):
        shelf.load(number)
    shelf.jobs.work()
    kept = sum(len(data_of(t)) + 200 for t in (6, 7))
    shelf.archive.removed("R", shelf.volumes[0])
    assert shelf.archive.cached_bytes == kept and shelf.archive.first(RUN) == 6
    assert (shelf.archive.damaged, shelf.archive.damage) == (0, [])
    shelf.archive.removed("other", shelf.volumes[1])
    shelf.archive.removed("R", shelf.volumes[1])
    assert shelf.archive.cached_bytes == 0 and shelf.archive.first(RUN) is None and not shelf.archive.histories


# ---- what cannot be read ----

Ask = Callable[[Shelf, list[Entry]], object]
FORMS: dict[str, Ask] = {
    "frames": lambda shelf, row: shelf.archive.frames(RUN, row),
    "lines": lambda shelf, row: shelf.archive.lines(RUN, row),
}


@pytest.mark.parametrize(
    "error, told",
    [
        (Damaged("its checksum does not match"), "its checksum does not match"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (ValueError("a fault of ours"), "a fault of ours"),
    ],
    ids=["damaged", "the disk", "a bug"],
)
def test_a_block_that_cannot_be_read_is_missing_from_then_on(
    error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf()
    shelf.fail(1, error)
    load, calls = shelf.load(1), list[int]()
    load.then(lambda: calls.append(1))
    shelf.jobs.work()
    assert load.done and load.batches is None and calls == [1]
    assert list(shelf.history.entries) == [shelf.entries[0], *shelf.entries[2:]]
    after = shelf.archive.after(RUN, 1)
    assert after == shelf.entries[2] and shelf.history.missing_before(after, 1)
    assert not shelf.archive.holds(RUN, 1, 4) and shelf.archive.holds(RUN, 4, 11)
    assert shelf.archive.damaged == 1
    assert shelf.archive.damage == [f"ticks 2 to 3 of run R cannot be read and are missing from now on: {told}"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and bool(record.exc_info) == isinstance(error, ValueError)


def test_a_file_that_is_gone_takes_all_of_its_blocks() -> None:
    shelf = Shelf()
    shelf.load(0)
    shelf.jobs.work()
    shelf.fail(1, FileNotFoundError(errno.ENOENT, "No such file or directory"))
    load = shelf.load(1)
    shelf.jobs.work()
    assert load.done and load.batches is None
    assert list(shelf.history.entries) == shelf.entries[3:] and shelf.archive.cached_bytes == 0
    assert shelf.archive.damaged == 3
    told = "ticks 0 to 5 of run R cannot be read and are missing from now on: No such file or directory"
    assert shelf.archive.damage == [told]


def test_a_file_that_was_deleted_on_purpose_is_no_damage() -> None:
    shelf = Shelf()
    shelf.volumes[0].retired = True
    shelf.fail(0, FileNotFoundError(errno.ENOENT, "gone"))
    shelf.load(0)
    shelf.jobs.work()
    assert list(shelf.history.entries) == shelf.entries[3:]
    assert (shelf.archive.damaged, shelf.archive.damage) == (0, [])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [(0,), (1,), (2,), (0, 2)])
def test_bad_blocks_in_a_row_do_not_take_the_others(form: str, bad: tuple[int, ...]) -> None:
    shelf = Shelf()
    row = shelf.entries[:3]
    for number in bad:
        shelf.fail(number, Damaged("spoilt"))
    load = FORMS[form](shelf, row)
    assert isinstance(load, Load)
    assert shelf.jobs.work() == 1 + 3, "then each of them by itself"
    assert load.done and load.frames is None and load.lines is None
    assert list(shelf.history.entries) == [one for number, one in enumerate(shelf.entries) if number not in bad]
    assert shelf.archive.damaged == len(bad) == len(shelf.archive.damage)


@pytest.mark.parametrize("form", FORMS)
def test_a_row_of_a_file_that_is_gone_is_not_looked_for_block_by_block(form: str) -> None:
    shelf = Shelf()
    shelf.fail(1, FileNotFoundError(errno.ENOENT, "gone"))
    FORMS[form](shelf, shelf.entries[:3])
    assert shelf.jobs.work() == 1
    assert list(shelf.history.entries) == shelf.entries[3:] and shelf.archive.damaged == 3


def test_what_two_readers_find_is_told_once() -> None:
    """In whatever form they asked, and also where it was deleted while they waited."""
    shelf = Shelf()
    shelf.fail(0, Damaged("spoilt"))
    shelf.load(0)
    shelf.archive.frames(RUN, shelf.entries[:1])
    shelf.archive.lines(RUN, shelf.entries[:1])
    shelf.jobs.work()
    assert shelf.archive.damaged == 1 and len(shelf.archive.damage) == 1
    shelf.fail(3, Damaged("spoilt"))
    load = shelf.load(3)
    shelf.archive.removed("R", shelf.volumes[1])
    shelf.jobs.work()
    assert load.done and shelf.archive.damaged == 1


def test_damage_is_told_once_and_kept_within_bounds(caplog: pytest.LogCaptureFixture) -> None:
    archive = Archive()
    for number in range(MAX_DAMAGE + 5):
        archive.tell(f"damage {number}")
        archive.tell("damage 0")
    assert archive.damage == [f"damage {number}" for number in range(MAX_DAMAGE)]
    assert [record.message for record in caplog.records].count("history: damage 0") == 1
    assert len(caplog.records) == MAX_DAMAGE + 5


# ---- what is stored, and what is missing ----


def test_an_archive_without_history_finds_nothing() -> None:
    archive = Archive()
    assert archive.after(RUN, -1) is None and archive.first(RUN) is None and archive.stored is None
    assert not archive.holds(RUN, 0, 0)
    archive.removed("R", MemoryVolume())
    archive.missing("R", [], 0, "nothing was there")
    assert archive.damage == []


def test_what_was_written_is_stored_in_the_order_of_runs() -> None:
    archive, other, volume = Archive(Jobs()), Run("S", 1, 0, 0), MemoryVolume()
    archive.wrote([batch_of(RUN, [0, 1], 0), batch_of(RUN, [5], 2)])
    assert archive.stored == ("R", 5) and archive.first(RUN) == 0 and archive.holds(RUN, 0, 5)
    archive.history(other)
    assert archive.stored == ("R", 5), "nothing of the next run is stored yet"
    archive.wrote([batch_of(other, [3], 0)])
    assert archive.stored == ("S", 3)
    archive.closed(RUN, entry := volume.add([0, 1, 5], 0))
    assert archive.after(RUN, 1) == entry and archive.history(RUN).open == []
    archive.indexed("R", volume, HeldRecords([entry]))
    archive.indexed("gone", volume, HeldRecords())
    assert archive.after(RUN, 1) == entry


@pytest.mark.parametrize(
    "entries, upto, whole, ticks, told, left, damaged",
    [
        ([1], 0, False, 2, "ticks 2 to 3", [0, 4, 6, 8, 10, 12, 14], 1),
        ([1, 2], 0, False, 4, "ticks 2 to 5", [0, 6, 8, 10, 12, 14], 2),
        ([], 0, True, 6, "ticks 0 to 5", [6, 8, 10, 12, 14], 3),
        ([], 14, False, 2, "ticks 12 to 13", [0, 2, 4, 6, 8, 10, 14], 0),
        ([5], 14, False, 4, "ticks 10 to 13", [0, 2, 4, 6, 8, 14], 1),
        ([], 0, False, 7, "7 ticks", [0, 2, 4, 6, 8, 10, 12, 14], 0),
        ([], 0, False, 0, "", [0, 2, 4, 6, 8, 10, 12, 14], 0),
    ],
    ids=["a block", "two", "a file", "of the open block", "of both", "nobody knows which", "none"],
)
def test_what_was_stored_is_there_no_more(
    entries: list[int], upto: int, whole: bool, ticks: int, told: str, left: list[int], damaged: int
) -> None:
    shelf = Shelf()
    shelf.archive.wrote([batch_of(RUN, [t, t + 1], t) for t in (12, 14)])
    shelf.load(1)
    shelf.jobs.work()
    gone = [shelf.entries[number] for number in entries]
    shelf.archive.missing("R", gone, ticks, "it was moved", upto, shelf.volumes[0] if whole else None)
    history = shelf.history
    assert [one.first for one in [*history.entries, *history.open]] == left
    assert shelf.archive.damaged == damaged
    sentence = f"{told} of run R cannot be read and are missing from now on: it was moved"
    assert shelf.archive.damage == ([sentence] if told else [])
    assert bool(shelf.archive.cached_bytes) == (2 in left)


def test_what_is_missing_of_a_run_that_nobody_knows_is_told() -> None:
    archive = Archive(Jobs())
    archive.missing("R", [], 3, "it was moved")
    assert archive.damage == ["3 ticks of run R cannot be read and are missing from now on: it was moved"]
    assert archive.damaged == 0
