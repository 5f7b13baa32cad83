"""The format, byte by byte: what another program would have to write, and what ordinary programs read."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from zlib import crc32

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.support import history_files, needs
from tests.unit.history.format.golden import RUN, STARTED, TICKS, ZSTD, golden, make
from tick_gateway.errors import Damaged, HistoryError
from tick_gateway.history.format.segment import (
    MIN_FOOTER,
    TAIL_BYTES,
    Footer,
    footer_begins,
    footer_crc,
    footer_length,
    numbers,
    pack_columns,
    spread,
    step_of,
    unpack_columns,
    unpack_footer,
)
from tick_gateway.history.local.index import unpack_index

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "segments.md"
ATS = {t: at for t, (_, at) in TICKS.items()}

NUMBERS = st.integers(0, 2**53 - 1)
TIMES = st.integers(0, 2**50)


def shown(page: str, begin: str) -> bytes:
    """The bytes that a block of the page shows in hex, each line with what it says about them behind two blanks."""
    (text,) = re.findall(rf"```\n({begin}.*?)```", page, re.S)
    return bytes.fromhex("".join(line.partition("  ")[0] for line in text.splitlines()))


# ---- golden bytes ----


def test_the_golden_files_are_what_the_recorder_writes(tmp_path: Path) -> None:
    """With the release of zstd that made them, all of it; with any, all that is not zstd's."""
    made = make(tmp_path)
    if zstandard.ZSTD_VERSION == ZSTD:
        for name, data in made.items():
            assert data == golden(name), name
    assert made["journal"][:60] == golden("journal")[:60]
    footers, old = (footers_of(data) for data in (made["ended.jsonl.zst"], golden("ended.jsonl.zst")))
    assert len(footers) == len(old) == 3
    for mine, its in zip(footers, old, strict=True):
        zstds = ("frame", "crc", "columns")
        same = [name for name in Footer.__slots__ if name not in zstds]
        assert [getattr(mine, name) for name in same] == [getattr(its, name) for name in same]
    index, known = unpack_index(made["index"]), unpack_index(golden("index"))
    assert index is not None and known is not None
    listed = [one.segments[0]._replace(size=0, end=0, seed=0, crc=0) for one in (index, known)]
    assert listed[0] == listed[1]
    assert index._replace(segments=[]) == known._replace(segments=[])


def footers_of(segment: bytes) -> list[Footer]:
    """By a reader that knows the page alone: from the end, each footer's length, then that of its frame."""
    footers: list[Footer] = []
    end = len(segment)
    while end:
        (length,) = struct.unpack("<I", segment[end - 8 : end - 4])
        footer = unpack_footer(segment[end - length : end])
        frame = segment[end - length - footer.frame : end - length]
        assert crc32(frame) == footer.crc
        footers.insert(0, footer)
        end -= length + footer.frame
    return footers


def test_the_golden_footers() -> None:
    first, second, seal = footers_of(golden("ended.jsonl.zst"))
    assert (first.run, first.seq, first.started, first.origin, first.ordinal) == (RUN, 2, STARTED, 5, 0)
    assert (first.first, first.last, first.first_at, first.last_at) == (5, 9, STARTED, STARTED + 41)
    assert (first.count, first.step, first.size) == (3, 2, 47)
    assert unpack_columns(first.columns, 3) == ([5, 7, 9], [ATS[5], ATS[7], ATS[9]])
    assert (second.ordinal, second.first, second.last, second.count, second.step) == (3, 11, 11, 1, 0)
    assert not (first.sealed or first.ended or second.sealed or second.ended)
    assert (seal.frame, seal.count, seal.ordinal, seal.first, seal.last) == (0, 0, 4, 11, 11)
    assert seal.sealed and seal.ended and not seal.lost_tail
    data = golden("ended.jsonl.zst")
    for footer in (first, second, seal):
        packed = footer.pack()
        assert packed in data and unpack_footer(packed) == footer
        assert footer_length(packed[-TAIL_BYTES:]) == footer_begins(packed[:8]) == len(packed)
        assert footer_crc(packed[-TAIL_BYTES:]) == crc32(packed[:-TAIL_BYTES])


def test_the_page_shows_these_bytes() -> None:
    page = PAGE.read_text("utf-8")
    assert shown(page, "28 b5") == golden("open.jsonl.zst")
    assert shown(page, "54 4a") == golden("journal")
    assert shown(page, "54 49") == golden("ended.index")
    assert shown(page, "5c 2a") == Footer("r", 0, 1000, 5, 3, 9, 9, 0, 0, sealed=True, ended=True).pack()


# ---- other programs ----


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    path = tmp_path / "0000000000000005.jsonl.zst"
    path.write_bytes(golden("ended.jsonl.zst"))
    return path


def test_zstd_reads_it(ended: Path) -> None:
    history_files.whole(ended)
    assert history_files.lines_of(ended) == [data for data, _ in TICKS.values()]


def test_pandas_reads_it(ended: Path) -> None:
    frame = needs.module("pandas").read_json(ended, lines=True)
    assert list(frame["t"]) == [5, 7, 9, 11] and list(frame["x"]) == [0.5, 0.75, 1, 1.25]


def test_what_another_program_writes_is_read(tmp_path: Path) -> None:
    """By the page alone: struct, zlib and a plain zstd."""
    lines = b'{"t":3}\n{"t":4}\n'
    frame = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(lines)
    columns = zstandard.ZstdCompressor(write_content_size=False).compress(struct.pack("<4q", 3, 1, 1000, 5))
    body = b"TICK" + bytes([1, 0, 1, 0]) + struct.pack(
        "<8q2q3I", 0, 1000, 3, 0, 3, 4, 1000, 1005, len(lines), len(frame), 2, 1, crc32(frame)
    ) + b"x" + columns  # fmt: skip
    head = struct.pack("<4sI", b"\x5c\x2a\x4d\x18", len(body) + 12) + body
    footer = unpack_footer(head + struct.pack("<II4s", crc32(head), len(head) + 12, b"KCIT"))
    assert (footer.run, footer.count, footer.last_at, footer.crc) == ("x", 2, 1005, crc32(frame))
    assert unpack_columns(footer.columns, 2) == ([3, 4], [1000, 1005])


# ---- footers ----


FEET = st.builds(
    Footer,
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True),
    NUMBERS, TIMES, NUMBERS, NUMBERS, NUMBERS, NUMBERS, TIMES, TIMES, NUMBERS, NUMBERS,
    st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=200),
    sealed=st.booleans(), ended=st.booleans(), lost_tail=st.booleans(),
)  # fmt: skip


@given(FEET)
def test_a_footer_comes_back(footer: Footer) -> None:
    packed = footer.pack()
    assert len(packed) == MIN_FOOTER + len(footer.run) + len(footer.columns)
    assert unpack_footer(packed) == footer
    assert zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(packed) == b""


@given(FEET, st.data())
def test_a_footer_that_changed_is_none(footer: Footer, data: st.DataObject) -> None:
    packed = bytearray(footer.pack())
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Damaged):
        unpack_footer(bytes(packed))


@given(FEET, st.integers(0, MIN_FOOTER + 300))
def test_a_footer_that_was_cut_is_none(footer: Footer, size: int) -> None:
    packed = footer.pack()
    if size < len(packed):
        with pytest.raises(Damaged):
            unpack_footer(packed[:size])


def test_a_footer_of_another_format_is_no_damage() -> None:
    """Whoever wrote it knew more: nothing of it may be touched."""
    packed = bytearray(Footer("r", 0, 1, 2, 3, 4, 5, 6, 7).pack())
    packed[12] = 2
    packed[-TAIL_BYTES : -TAIL_BYTES + 4] = struct.pack("<I", crc32(packed[:-TAIL_BYTES]))
    with pytest.raises(HistoryError, match="format 2") as caught:
        unpack_footer(bytes(packed))
    assert not isinstance(caught.value, Damaged)


@given(st.lists(st.tuples(NUMBERS, TIMES), min_size=1, max_size=50))
def test_columns_come_back(rows: list[tuple[int, int]]) -> None:
    """Also where they fall: a clock may."""
    ts, ats = [t for t, _ in rows], [at for _, at in rows]
    assert unpack_columns(pack_columns(ts, ats), len(rows)) == (ts, ats)
    for wrong in (len(rows) - 1, len(rows) + 1):
        with pytest.raises(Damaged):
            unpack_columns(pack_columns(ts, ats), wrong)


@pytest.mark.parametrize(
    "ts, step",
    [
        ([], 0),
        ([5], 0),
        ([5, 6], 1),
        ([5, 7, 9], 2),
        ([5, 7, 8], 0),
        ([0, 1 << 33], 0),  # over 32 bits
        ([5, 6, 8, 9, 10], 0),
        ([1, 3, 3, 7], 0),
    ],
)
def test_step(ts: list[int], step: int) -> None:
    assert step_of(ts) == step


# ---- lines ----


@pytest.mark.parametrize(
    "lines, ts",
    [
        (b'{"t":1}\n{"t":5}\n', [1, 5]),
        (b'{"t":1}\n{"t":5}', None),  # no line feed
        (b'{"t":5}\n{"t":1}\n', None),  # it falls
        (b'{"t":1}\n{"t":1}\n', None),
        (b'{"t":1}\n\n', None),
        (b'{"t":1.0}\n', None),
        (b' {"t":1}\n', None),  # not what was published
        (b'{"t":01}\n', None),
        (b"", None),
    ],
)
def test_numbers(lines: bytes, ts: list[int] | None) -> None:
    assert numbers(lines) == ts


def test_spread() -> None:
    assert spread(1, 10, 20) == [10] and spread(3, 10, 20) == [10, 15, 20] and spread(2, 20, 10) == [20, 20]
