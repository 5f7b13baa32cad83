"""Frames of blocks, byte by byte: what is whole is proven, and what was flushed before a cut is found again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.history.format.golden import TICKS, golden
from tick_gateway.errors import Damaged
from tick_gateway.history.format import block
from tick_gateway.history.format.block import FrameState

LINES = {t: data + b"\n" for t, (data, _) in TICKS.items()}


def test_the_golden_frames() -> None:
    data = golden("ended.jsonl.zst")
    assert block.decompress(data[:66], 47) == LINES[5] + LINES[7] + LINES[9]
    assert data[: len(golden("open.jsonl.zst"))] == golden("open.jsonl.zst"), "what was written is only added to"
    assert block.whole_lines(golden("open.jsonl.zst")[235:]) == (LINES[11], 27)
    assert block.closing(golden("open.jsonl.zst")[235:], LINES[11]) == b"\x01\x00\x00" + data[235 + 30 : 235 + 34]


def test_flushes_end_parts_and_closing_makes_them_whole() -> None:
    lines = [b'{"t":%d}\n' % t for t in range(20)]
    frame = block.compressor(3)
    data, ends = b"", []
    for line in lines:
        data += frame.compress(line) + block.flush(frame)
        ends.append(len(data))
    assert block.scan_frame(data).ends == ends
    for end, count in zip(ends, range(1, 21), strict=True):
        content = b"".join(lines[:count])
        assert block.whole_lines(data[:end]) == (content, end)
        whole = data[:end] + block.closing(data[:end], content)
        assert block.decompress(whole, len(content)) == content and block.proven(whole) == (content, len(whole))
    finished = data + block.finish(frame)
    assert block.proven(finished + b"rest") == (b"".join(lines), len(finished))
    for cut in range(len(finished)):
        count = sum(end <= cut for end in ends)
        content, end = block.whole_lines(finished[:cut])
        assert content == b"".join(lines[:count]) and (
            not ends or end == max([0, *[e for e in ends if e <= cut]]) or count == 20
        )
        assert block.proven(finished[:cut]) is None
        closed = finished[:end] + block.closing(finished[:end], content)
        assert not count or block.proven(closed) == (content, len(closed))


def test_a_flush_that_is_many_parts() -> None:
    """A tick over 128 KiB: where it breaks off inside, it is not there."""
    lines = [b'{"t":1}\n', b'{"t":2,"x":"' + b"abcdefgh" * 40_000 + b'"}\n', b'{"t":3}\n']
    frame = block.compressor(3)
    data, ends = b"", []
    for line in lines:
        data += frame.compress(line) + block.flush(frame)
        ends.append(len(data))
    parts = block.scan_frame(data).ends
    assert len(parts) > len(ends) and set(ends) <= set(parts)
    for end in parts:
        count = sum(one <= end for one in ends)
        assert block.whole_lines(data[:end])[0] == b"".join(lines[:count])


@pytest.mark.parametrize("data", [b"", b"\x28", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x04\x58\x01"])
def test_the_very_beginning_of_a_frame(data: bytes) -> None:
    assert block.scan_frame(data)[:3] == (FrameState.CUT, 0, []) and block.proven(data) is None
    assert block.whole_lines(data) == (b"", 0)


@pytest.mark.parametrize("data", [b"x", b"\x28\xb5\x2f\xfe", b"\x28\xb5\x2f\xfd\x04\x58\x07\x00\x00"])
def test_what_is_no_frame(data: bytes) -> None:
    assert block.scan_frame(data).state is FrameState.NONE and block.proven(data) is None


@given(st.data())
def test_a_frame_that_changed_is_not_proven(data: st.DataObject) -> None:
    content = b"".join(b'{"t":%d,"x":%d}\n' % (t, t * 7919) for t in range(8))
    frame = block.compressor(3)
    changed = bytearray(frame.compress(content) + block.finish(frame))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    found = block.proven(bytes(changed))
    assert found is None or found[0] == content


@pytest.mark.parametrize("frames", [[b'{"t":1}\n'] * 2, [b'{"t":1}\n', b""]])
def test_a_block_is_one_frame(frames: list[bytes]) -> None:
    data = b"".join(zstandard.ZstdCompressor().compress(content) for content in frames)
    with pytest.raises(Damaged):
        block.decompress(data)


CONTENT = b"".join(b'{"t":%d,"x":%d}\n' % (t, t * 7919) for t in range(6))


def frame_of(content: bytes = CONTENT) -> bytes:
    frame = block.compressor(3)
    return frame.compress(content) + block.finish(frame)


def test_every_byte_that_changes_is_found() -> None:
    """One change is allowed: what still gives the same content."""
    whole = frame_of()
    for at in range(len(whole)):
        for mask in (0x01, 0x10, 0x80, 0xFF):
            changed = whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :]
            found = block.proven(changed)
            assert found is None or found == (CONTENT, len(whole)), (at, mask)


def test_every_cut_is_found() -> None:
    whole = frame_of()
    for size in range(len(whole)):
        assert block.scan_frame(whole[:size]).state is FrameState.CUT
        assert block.proven(whole[:size]) is None
        with pytest.raises(Damaged):
            block.decompress(whole[:size])


@pytest.mark.parametrize("more", [b"\0", b"\n", frame_of(b"")])
def test_bytes_behind_a_frame_are_not_its_own(more: bytes) -> None:
    whole = frame_of()
    found = block.scan_frame(whole + more)
    assert (found.state, found.end, found.closed, found.checked) == (FrameState.WHOLE, len(whole), True, True)
    assert block.proven(whole + more) == (CONTENT, len(whole))
    with pytest.raises(Damaged, match="not one zstd frame"):
        block.decompress(whole + more)


@pytest.mark.parametrize("size", [0, len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_block_holds_as_many_bytes_as_its_footer_says(size: int) -> None:
    assert block.decompress(frame_of(), len(CONTENT)) == CONTENT
    with pytest.raises(Damaged, match=f"holds {len(CONTENT)} bytes, not {size}"):
        block.decompress(frame_of(), size)


def test_what_has_no_checksum_is_read_and_not_proven() -> None:
    plain = zstandard.ZstdCompressor(write_checksum=False).compress(CONTENT)
    found = block.scan_frame(plain)
    assert (found.state, found.end, found.checked) == (FrameState.WHOLE, len(plain), False)
    assert block.proven(plain) is None and block.decompress(plain) == CONTENT
    assert block.closing(plain, CONTENT) == b""


@pytest.mark.parametrize(
    "cut, closing",
    [
        (lambda whole: whole[:-4], lambda whole: whole[-4:]),  # its last part is there, the checksum is not
        (lambda whole: whole[:-2], lambda whole: whole[-4:]),  # nor is half of one taken for one
    ],
    ids=["before the checksum", "inside the checksum"],
)
def test_a_frame_that_lacks_its_checksum(cut: Callable[[bytes], bytes], closing: Callable[[bytes], bytes]) -> None:
    whole = frame_of()
    content, end = block.whole_lines(cut(whole))
    assert (content, end) == (CONTENT, len(whole) - 4)
    assert block.closing(whole[:end], content) == closing(whole)


def test_a_line_that_was_not_flushed_whole_is_not_there() -> None:
    """Parts end where flushes do; the last line feed counts, not the last part."""
    frame = block.compressor(3)
    data = frame.compress(b"a\n") + block.flush(frame)
    first = len(data)
    data += frame.compress(b"b\nc") + block.flush(frame)
    assert block.whole_lines(data) == (b"a\n", first)
    data += frame.compress(b"\n") + block.flush(frame)
    assert block.whole_lines(data) == (b"a\nb\nc\n", len(data))


def test_a_part_that_is_none_is_damage() -> None:
    data = frame_of()[:6] + b"\x0d\0\0" + b"\xff"  # the last part, one compressed byte, which can be none
    assert block.scan_frame(data).ends == [len(data)]
    with pytest.raises(Damaged, match="cannot be decompressed"):
        block.whole_lines(data)
