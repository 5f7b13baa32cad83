"""Journals, byte by byte: what is whole and sound counts, whatever a crash or damage left behind it."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.history.format.golden import STARTED, TICKS, golden
from tick_gateway.errors import Damaged, HistoryError
from tick_gateway.history.format.journal import Ending, Flush, JournalHead, unpack_journal, vouched

NUMBERS = st.integers(0, 2**53 - 1)
TIMES = st.integers(0, 2**50)
FLUSHES = st.lists(
    st.builds(
        lambda end, crc, rows: Flush(end, crc, [t for t, _ in rows], [at for _, at in rows]),
        NUMBERS, st.integers(0, 2**32 - 1), st.lists(st.tuples(NUMBERS, TIMES), max_size=5),
    ),
    max_size=5,
)  # fmt: skip
HEADS = st.builds(JournalHead, NUMBERS, TIMES, NUMBERS, NUMBERS, NUMBERS, NUMBERS)


def journal_of(head: JournalHead, flushes: list[Flush]) -> bytes:
    data, seed = head.pack()
    return data + b"".join(flush.pack(seed) for flush in flushes)


@given(HEADS, FLUSHES)
def test_a_journal_comes_back(head: JournalHead, flushes: list[Flush]) -> None:
    assert unpack_journal(journal_of(head, flushes)) == (head, flushes, Ending.CLEAN)


@given(HEADS, FLUSHES, st.data())
def test_a_journal_that_was_cut(head: JournalHead, flushes: list[Flush], data: st.DataObject) -> None:
    """The records that are whole count, and it does not look like damage."""
    whole = journal_of(head, flushes)
    cut = data.draw(st.integers(0, len(whole)))
    journal = unpack_journal(whole[:cut])
    ends = [len(journal_of(head, flushes[:count])) for count in range(len(flushes) + 1)]
    count = sum(end <= cut for end in ends) - 1
    assert journal.ending is not Ending.DAMAGED
    assert (journal.head, journal.flushes) == ((head, flushes[:count]) if count >= 0 else (None, []))


@given(HEADS, FLUSHES, st.data())
def test_a_journal_that_changed(head: JournalHead, flushes: list[Flush], data: st.DataObject) -> None:
    """The records before count; that there was more is told."""
    changed = bytearray(journal_of(head, flushes))
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    journal = unpack_journal(bytes(changed))
    assert journal.ending is Ending.DAMAGED
    ends = [len(journal_of(head, flushes[:count])) for count in range(len(flushes) + 1)]
    assert journal.flushes == flushes[: max(sum(end <= at for end in ends) - 1, 0)]


def test_records_count_under_their_own_head_alone() -> None:
    """What another block's journal left behind in the file is none of this one's."""
    flush = Flush(10, 20, [1], [2])
    old, new = JournalHead(0, 1, 2, 3, 4, 5), JournalHead(0, 1, 2, 3, 4, 6)
    data = new.pack()[0] + journal_of(old, [flush])[len(old.pack()[0]) :]
    assert unpack_journal(data) == (new, [], Ending.DAMAGED)


def test_the_golden_journal() -> None:
    journal = unpack_journal(golden("journal"))
    assert journal.head == JournalHead(2, STARTED, 5, 3, 5, 235)
    (flush,) = journal.flushes
    open_block = golden("open.jsonl.zst")[235:]
    assert (flush.end, flush.crc, flush.ts, flush.ats) == (len(open_block), crc32(open_block), [11], [TICKS[11][1]])
    assert journal.ending is Ending.CLEAN and vouched(open_block, journal.flushes) == [flush]
    head, seed = journal.head.pack()
    assert head + flush.pack(seed) == golden("journal")


HEAD = JournalHead(1, 2, 3, 4, 5, 6)
ROW = [Flush(10, 77, [4], [1000]), Flush(30, 88, [5, 6], [1001, 1001]), Flush(31, 99, [], [])]


def ends_of(flushes: list[Flush]) -> list[int]:
    """Where the head ends, and each record behind it."""
    return [len(journal_of(HEAD, flushes[:count])) for count in range(len(flushes) + 1)]


def test_every_cut_leaves_the_records_before_it() -> None:
    whole, ends = journal_of(HEAD, ROW), ends_of(ROW)
    for size in range(len(whole) + 1):
        count = sum(end <= size for end in ends) - 1
        expected = (HEAD, ROW[:count]) if count >= 0 else (None, [])
        assert unpack_journal(whole[:size]) == (*expected, Ending.CLEAN if size in (0, *ends) else Ending.CUT)


def test_every_bit_that_flips_is_found() -> None:
    """In the head: nothing counts. In a record: those before it do, and none behind it."""
    whole, ends = journal_of(HEAD, ROW), ends_of(ROW)
    for at in range(len(whole)):
        count = sum(end <= at for end in ends) - 1
        expected = (HEAD, ROW[:count]) if count >= 0 else (None, [])
        for bit in range(8):
            changed = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
            assert unpack_journal(changed) == (*expected, Ending.DAMAGED), (at, bit)


@pytest.mark.parametrize(
    "more, ending",
    [
        (b"\0", Ending.CUT),
        (b"\0" * 19, Ending.CUT),
        (b"\0" * 20, Ending.DAMAGED),  # as long as what a record begins with
        (b"\0" * 4096, Ending.DAMAGED),  # as file systems leave after a power cut
        (JournalHead(0, 0, 0, 0, 0, 0).pack()[0], Ending.DAMAGED),
        (struct.pack("<IQI", 2**32 - 1, 0, 0), Ending.CUT),
    ],
)
def test_what_is_behind_the_last_record_costs_none_of_them(more: bytes, ending: Ending) -> None:
    assert unpack_journal(journal_of(HEAD, ROW) + more) == (HEAD, ROW, ending)


def test_a_length_is_believed_by_its_checksum_alone() -> None:
    """A record that says it goes on is waited for; one whose length changed is damage, and takes no memory."""
    seed = HEAD.pack()[1]
    long = Flush(9, 9, list(range(50)), [0] * 50).pack(seed)
    assert unpack_journal(journal_of(HEAD, ROW) + long[:-1]) == (HEAD, ROW, Ending.CUT)
    lying = struct.pack("<I", 2**31) + long[4:]
    assert unpack_journal(journal_of(HEAD, ROW) + lying) == (HEAD, ROW, Ending.DAMAGED)


@pytest.mark.parametrize("data, published", [(b"", 0), (b"TJNL", 0), (b"x" * 100, 0), (HEAD.pack()[0], 4)])
def test_how_much_a_journal_without_records_tells(data: bytes, published: int) -> None:
    assert unpack_journal(data).published == published


def test_how_many_ticks_it_vouches_for() -> None:
    assert unpack_journal(journal_of(HEAD, ROW)).published == 4 + 3


def test_a_journal_of_another_format_is_no_damage() -> None:
    """Whoever wrote it knew more: nothing of it may be touched."""
    data = bytearray(HEAD.pack()[0][:-4])
    data[4] = 2
    with pytest.raises(HistoryError, match="format 2") as caught:
        unpack_journal(bytes(data) + struct.pack("<I", crc32(data)) + b"whatever it has")
    assert not isinstance(caught.value, Damaged)


def test_flushes_whose_bytes_changed_are_vouched_for_no_more() -> None:
    frame, ends = bytes(range(40)), [10, 10, 25, 40]
    begins = [0, *ends]
    flushes = [
        Flush(end, crc32(frame[begin:end]), [number], [0])
        for number, (begin, end) in enumerate(zip(begins, ends, strict=False))
    ]
    assert vouched(frame + b"more", flushes) == flushes
    for size in range(len(frame)):
        assert vouched(frame[:size], flushes) == flushes[: sum(end <= size for end in ends)]
    for at in range(len(frame)):
        changed = frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]
        assert vouched(changed, flushes) == flushes[: sum(end <= at for end in ends)]
