"""One segment on disk: finding its blocks by their footers, and never giving a block that is not what was written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import zstandard

from tests.support import history_files
from tests.support.recorded import AT, Writer, data_of
from tick_gateway.errors import Damaged, HistoryError
from tick_gateway.history.format.segment import Footer
from tick_gateway.history.local import segment_file as volume
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.segment_file import Segment, segment_name, walk
from tick_gateway.history.stored_block import Entry

THREES = Limits(block_ticks=3, block_age=1e12, segment_age=0, fsync="never")


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    """Four blocks of three ticks, and a seal."""
    writer = Writer(tmp_path, THREES)
    for t in range(12):
        writer.write([t])
    writer.end()
    writer.recorder.close()
    (path,) = history_files.segments(tmp_path, "R")
    return Segment(path, path.stat().st_size)


def entries(segment: Segment) -> list[Entry]:
    return [
        Entry.of(segment, found.begin, found.footer, found.length)
        for found in walk(segment.path).footers
        if found.footer.frame
    ]


def change(path: Path, at: int, bits: int = 0x55) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= bits
    path.write_bytes(data)


# ---- walking ----


def test_footers_from_the_end(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a look at anything else."""
    monkeypatch.setattr(volume, "_search", None)
    found = walk(segment.path)
    assert [one.footer.count for one in found.footers] == [3, 3, 3, 3, 0]
    assert (found.end, found.strays) == (segment.size, [])
    assert [one.begin for one in found.footers[1:]] == [one.end for one in found.footers[:-1]]
    middle = found.footers[1].end
    assert walk(segment.path, middle) == (found.footers[2:], segment.size, [])


@pytest.mark.parametrize("number", range(4))
def test_a_damaged_footer_is_searched_past(segment: Segment, number: int) -> None:
    footers = walk(segment.path).footers
    change(segment.path, footers[number].at + 20)
    found = walk(segment.path)
    assert found.footers == footers[:number] + footers[number + 1 :] and found.end == segment.size
    assert found.strays == [(footers[number].begin, footers[number].end)]


@pytest.mark.parametrize("size", [1, 7, 11, 12, 40, 3000])
def test_bytes_behind_the_last_footer(segment: Segment, size: int) -> None:
    footers = walk(segment.path).footers
    with segment.path.open("ab") as file:
        file.write(b"\x5c\x2a\x4d\x18KCIT"[:size].ljust(size, b"\x5c"))
    assert walk(segment.path) == (footers, segment.size, [])


@pytest.mark.parametrize("size", [0, 1, 11, 12, 13])
def test_a_file_that_is_shorter_than_a_footer(tmp_path: Path, size: int) -> None:
    path = tmp_path / segment_name(0)
    path.write_bytes(b"KCIT".rjust(size, b"\x00")[-size:] if size else b"")
    assert walk(path) == ([], 0, [])


def test_footers_are_found_across_the_windows_of_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a window ends: also in the middle of a footer's first bytes."""
    footer = Footer("R", 0, 1, 0, 0, 0, 0, 0, 0, sealed=True).pack()
    path = tmp_path / segment_name(0)
    monkeypatch.setattr(volume, "_WINDOW_BYTES", 64)
    for before in range(50, 80):
        path.write_bytes(b"x" * before + footer + b"y" * 30)
        ((at, length, _),) = walk(path).footers
        assert (at, length) == (before, len(footer))


def test_a_footer_that_says_more_than_there_is(tmp_path: Path) -> None:
    """Its block would begin before the file, or before the footer before it."""
    path = tmp_path / segment_name(0)
    small = Footer("R", 0, 1, 0, 0, 0, 0, 0, 0, sealed=True).pack()
    large = Footer("R", 0, 1, 0, 0, 0, 0, 0, 0, 5, 100, 1).pack()
    path.write_bytes(b"x" * 50 + large)
    assert walk(path) == ([], 0, [])
    path.write_bytes(small + b"x" * 99 + large)
    assert [found.at for found in walk(path).footers] == [0]


def test_a_format_that_is_not_known(segment: Segment) -> None:
    seal = walk(segment.path).footers[-1]
    data = bytearray(segment.path.read_bytes())
    data[seal.at + 12] = 9
    data[-12:-8] = crc32(data[seal.at : -12]).to_bytes(4, "little")
    segment.path.write_bytes(data)
    with pytest.raises(HistoryError, match="format 9"):
        walk(segment.path)


# ---- reading ----


def test_blocks_as_they_were_written(segment: Segment) -> None:
    for number, entry in enumerate(entries(segment)):
        ts = range(3 * number, 3 * number + 3)
        lines = b"".join(data_of(t) + b"\n" for t in ts)
        assert segment.read(entry) == (lines, list(ts), [AT + t for t in ts]) and entry.verified
        assert segment.lines(entry) == lines
        frames = segment.frames([entry])
        assert frames is not None and zstandard.ZstdDecompressor().decompressobj().decompress(frames) == lines


def test_a_row_of_blocks(segment: Segment) -> None:
    row = entries(segment)
    frames = segment.frames(row)
    assert frames is not None
    assert bytes(frames) == b"".join(segment.path.read_bytes()[one.offset : one.offset + one.frame] for one in row)


@pytest.mark.parametrize("call", ["read", "lines", "frames"])
def test_a_block_whose_frame_changed(segment: Segment, call: str) -> None:
    row = entries(segment)
    for at in range(row[1].offset, row[1].offset + row[1].frame):
        change(segment.path, at)
        with pytest.raises(Damaged, match="CRC"):
            getattr(segment, call)([row[1]] if call == "frames" else row[1])
        assert not row[1].verified
        change(segment.path, at)
    assert segment.read(row[0]).ts == [0, 1, 2]


@pytest.mark.parametrize("call", ["read", "lines", "frames"])
def test_a_block_that_changes_right_before_it_is_read(
    segment: Segment, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was verified, and its file is the one that it was when it is opened."""
    segment.sealed = True
    os.utime(segment.path, (1, 1))  # so that another time of change is another
    row = entries(segment)
    asked = [row[1]] if call == "frames" else row[1]
    getattr(segment, call)(asked)
    assert row[1].verified
    for name in ("pread", "preadv"):
        read = getattr(os, name)

        def late(*args: Any, read: Any = read) -> Any:
            change(segment.path, row[1].offset + 20)
            return read(*args)

        monkeypatch.setattr(os, name, late)
    with pytest.raises(Damaged, match="CRC"):
        getattr(segment, call)(asked)


def test_a_block_whose_footer_changed(segment: Segment, caplog: pytest.LogCaptureFixture) -> None:
    """Its ticks are there all the same, and about when they came; it is said once."""
    row = entries(segment)
    whole = segment.read(row[1])
    row = entries(segment)
    for at in range(row[1].offset + row[1].frame, row[2].offset):
        change(segment.path, at)
        block = segment.read(row[1])
        assert (block.lines, block.ts) == (whole.lines, whole.ts)
        assert block.ats == whole.ats, "they came at even intervals"
        change(segment.path, at)
    assert caplog.text.count("the footer of the block at") == 1


@pytest.mark.parametrize("call", ["read", "lines", "frames"])
def test_a_block_that_is_cut_off(segment: Segment, call: str) -> None:
    last = entries(segment)[-1]
    with segment.path.open("r+b") as file:
        file.truncate(last.offset + last.frame + last.footer - 1)
    with pytest.raises(Damaged):
        getattr(segment, call)([last] if call == "frames" else last)


def test_another_block_in_its_place(segment: Segment, tmp_path: Path) -> None:
    """Sound, as long, and of another run, or with another place in it: an index that is wrong must not be believed."""
    row = entries(segment)
    twin = Writer(tmp_path / "twin", THREES, name="S")
    for t in range(12):
        twin.write([t])
    twin.end()
    twin.recorder.close()
    segment.path.write_bytes(history_files.segments(tmp_path / "twin", "S")[0].read_bytes())
    with pytest.raises(Damaged, match="another than it was"):
        segment.read(row[0])


@pytest.mark.parametrize("field, by", [("ordinal", 1), ("first", 1), ("last", 1), ("count", 1), ("size", 1)])
def test_an_entry_that_says_something_else(segment: Segment, field: str, by: int) -> None:
    entry = entries(segment)[0]
    setattr(entry, field, getattr(entry, field) + by)
    with pytest.raises(Damaged):
        segment.read(entry)


def test_a_file_that_is_gone(segment: Segment) -> None:
    entry = entries(segment)[0]
    segment.path.unlink()
    with pytest.raises(FileNotFoundError):
        segment.read(entry)


def test_names_are_in_the_order_of_numbers() -> None:
    numbers = [0, 9, 10, 99, 12345, 2**53 - 1, 2**53]
    names = [segment_name(number) for number in numbers]
    assert sorted(names) == names and [Segment(Path(name)).first for name in names] == numbers


# ---- blocks without footers ----
