"""What is known of chunks lies in a temporary file; memory holds what that does not take."""

from __future__ import annotations

import errno
import os
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded import AT
from tick_gateway.errors import Damaged
from tick_gateway.history import block_index
from tick_gateway.history.block_index import Blocks
from tick_gateway.history.external.chunk_records import ChunkRecords, FileChunk, Spool
from tick_gateway.history.external.chunks import FileVolume, OpenFiles, chunk_of
from tick_gateway.history.external.source_file import SourceFile
from tick_gateway.history.format.segment import pack_columns, unpack_columns


def volume_of(spool: Spool) -> FileVolume:
    return FileVolume(SourceFile(Path("a.jsonl"), 1 << 20), OpenFiles(), 1 << 20, spool)


def chunk(volume: FileVolume, number: int, columns: bytes = b"") -> FileChunk:
    """One of three ticks, behind so many others."""
    ts = [5 * number, 5 * number + 1, 5 * number + 2]
    return chunk_of(
        volume, 40 * number, 40 * number + 36, 3 * number, ts, [b'{"t":%d}' % t for t in ts],
        (AT + ts[0], AT + ts[-1]), columns,
    )  # fmt: skip


def told(entry: object) -> list[object]:
    assert isinstance(entry, FileChunk)
    names = (
        "offset",
        "frame",
        "ordinal",
        "first",
        "last",
        "first_at",
        "last_at",
        "count",
        "step",
        "size",
        "crc",
        "raw",
    )
    return [getattr(entry, name) for name in names]


def refuse(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 1600))
def test_an_index_of_chunks_is_the_list_of_them(count: int, later: int, t: int) -> None:
    """Those that are added while pages are in memory are found, too."""
    spool = Spool()
    volume = volume_of(spool)
    chunks = [chunk(volume, number) for number in range(count + later)]
    blocks = Blocks(chunks[:count])
    assert [told(entry) for entry in blocks] == [told(entry) for entry in chunks[:count]]
    blocks.extend(chunks[count:])
    assert [told(entry) for entry in blocks] == [told(entry) for entry in chunks]
    assert blocks.after(t) == sum(one.last <= t for one in chunks)
    if chunks:
        assert told(blocks[-1]) == told(chunks[-1]) and blocks.ticks == 3 * len(chunks)
    block_index._cache.forget([block_range.records for block_range in blocks.files])
    spool.close()


def test_receive_times_that_were_seen_are_kept_to_the_millisecond() -> None:
    spool = Spool()
    volume = volume_of(spool)
    records = ChunkRecords(spool)
    packed = [pack_columns([5 * n, 5 * n + 1, 5 * n + 2], [AT + n, AT + 7 * n, AT + 9 * n]) for n in range(100)]
    for number, columns in enumerate(packed):
        records.add(chunk(volume, number, columns))
    for number in range(100):
        entry = records.page(number, number + 1, volume).entry(0)
        assert isinstance(entry, FileChunk) and not entry.columns
        columns = spool.read(*entry.columns_at)
        assert unpack_columns(columns, 3)[1][1] == AT + 7 * number
    spool.close()


@pytest.mark.parametrize("what", ["no file", "no space", "half"])
def test_what_the_disk_does_not_take_is_held(
    what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool()
    first = spool.append(b"first") if what != "no file" else -1
    pwrite: Callable[..., int] = os.pwrite
    if what == "no file":
        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    else:
        monkeypatch.setattr(
            os, "pwrite", refuse if what == "no space" else lambda fd, data, at: pwrite(fd, data[:2], at)
        )
    second, third = spool.append(b"second"), spool.append(b"third")
    monkeypatch.undo()
    assert (spool.read(second, 6), spool.read(third, 5)) == (b"second", b"third")
    assert first < 0 or spool.read(first, 5) == b"first"
    fourth = spool.append(b"fourth")
    assert spool.read(fourth, 6) == b"fourth"
    assert [record.levelname for record in caplog.records] == ["WARNING"], "it is said once"
    spool.close()


def test_a_file_that_was_cut_off_is_damage() -> None:
    spool = Spool()
    at = spool.append(b"some bytes")
    os.ftruncate(spool._fd, 4)
    with pytest.raises(Damaged, match="cut off"):
        spool.read(at, 10)
    assert spool.read(at, 0) == b""
    spool.close()
    spool.close()


def test_memory_does_not_grow_with_the_number_of_chunks() -> None:
    spool = Spool()
    volume = volume_of(spool)
    blocks = Blocks()
    columns = pack_columns([0, 1, 2], [AT, AT + 1, AT + 2])

    def grow(begin: int, end: int) -> int:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(begin, end):
            blocks.append(chunk(volume, number, columns))
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        grow(0, 10_000)  # what is made once, too
        grown = grow(10_000, 20_000)
    finally:
        tracemalloc.stop()
    assert len(blocks) == 20_000 and told(blocks[12_345]) == told(chunk(volume, 12_345))
    assert grown < 40_000, f"{grown} bytes for 10,000 chunks"
    spool.close()
