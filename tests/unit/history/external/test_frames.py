"""A zstd file that another program writes: torn, growing or damaged, in whatever pieces its bytes come."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.backend import frame, line_of
from tick_gateway.history.external.frames import Cut, FrameDecoder
from tick_gateway.wire.zstd_frame import MAGIC


def decoded(data: bytes, at: int = 0) -> bytes:
    return FrameDecoder(at).feed(data)


def in_pieces(data: bytes, sizes: Iterator[int]) -> tuple[bytes, FrameDecoder]:
    frames, content, at = FrameDecoder(), b"", 0
    while at < len(data):
        size = next(sizes)
        content += frames.feed(data[at : at + size])
        at += size
    return content, frames


def skippable(payload: bytes, kind: int = 0) -> bytes:
    return struct.pack("<II", 0x184D2A50 + kind, len(payload)) + payload


def lines_of(data: bytes) -> list[bytes]:
    return data.split(b"\n")[:-1]


def is_within(some: list[bytes], all_: list[bytes]) -> bool:
    """Whether these lines are among those, in this order."""
    rest = iter(all_)
    return all(line in rest for line in some)


texts = st.one_of(
    st.binary(max_size=40).map(lambda data: data.hex().encode()),  # small: stored as it is
    st.integers(1, 3000).map(lambda size: b"ab" * size),
    st.integers(1, 600).map(lambda seed: random.Random(seed).randbytes(seed).hex().encode()),
    st.just(b""),
    st.just(b"0" * 200_000),  # larger than a block
)
rows = st.lists(texts, max_size=5)
parts = st.one_of(
    st.tuples(st.just("frame"), rows, st.booleans()),
    st.tuples(st.just("at once"), rows, st.booleans()),
    st.tuples(st.just("skippable"), st.binary(max_size=30), st.integers(0, 15)),
    st.tuples(st.just("garbage"), st.binary(min_size=1, max_size=20), st.none()),
    st.tuples(st.just("torn"), rows, st.floats(0, 1)),
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(parts, max_size=6), st.integers(0, 1 << 32))
def test_frames_in_any_pieces(shape: list[tuple[str, object, object]], seed: int) -> None:
    data, sound, clean = b"", [], True
    lines: list[bytes]
    for kind, what, how in shape:
        if kind == "skippable":
            assert isinstance(what, bytes) and isinstance(how, int)
            data += skippable(what, how)
            continue
        if kind == "garbage":
            assert isinstance(what, bytes)
            data += what
            clean = False
            continue
        assert isinstance(what, list)
        lines = [b'{"%s"}' % text for text in what]
        if kind == "torn":
            assert isinstance(how, float)
            whole = frame(*lines)
            torn = whole[: int(len(whole) * how)]
            data += torn
            sound += lines_of(decoded(torn))
            clean = False
        else:
            data += (
                frame(*lines, checksum=bool(how)) if kind == "frame" else zstandard.compress(b"\n".join([*lines, b""]))
            )
            sound += lines
    content = decoded(data)
    assert is_within(sound, lines_of(content + b"\n"))
    if clean:
        assert lines_of(content) == sound
    turns = random.Random(seed)
    sizes = iter(lambda: turns.choice((1, 2, 3, 7, 100, 5000)), 0)
    again, frames = in_pieces(data, sizes)
    assert again == content and is_within(sound, lines_of(again + b"\n"))
    assert frames.given == len(content)
    at, given_ = frames.boundary
    assert FrameDecoder(at).feed(data[at:]) == content[given_:], "content can be read on from a boundary"


KINDS = {
    "stored as they are": [b'{"t":1}', b'{"t":2}', b'{"t":3}'],
    "compressed": [line_of(t, t, 200) for t in range(3)],
    "repeated bytes": [b" " * 300, b" " * 300 + b"1", b" " * 300],
    "noise": [line_of(t, t, 80, noise=True) for t in range(3)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checksum", [False, True], ids=["plain", "checksum"])
def test_a_frame_that_is_cut_at_any_byte_completes_later(kind: str, checksum: bool) -> None:
    data = frame(*KINDS[kind], checksum=checksum)
    whole = b"\n".join([*KINDS[kind], b""])
    assert decoded(data) == whole
    seen = 0
    for cut in range(len(data)):
        frames = FrameDecoder()
        before = frames.feed(data[:cut])
        assert whole.startswith(before) and len(before) >= seen, cut
        seen = len(before)
        assert before + frames.feed(data[cut:]) == whole, cut
        assert frames.cuts == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_a_frame_that_is_cut_at_any_byte_and_another_behind_it(kind: str, second: str) -> None:
    """A backend that was killed and appends: all that was whole comes, and nothing of the new frame is lost."""
    first = frame(*KINDS[kind], checksum=True)
    new = frame(*KINDS[second], end=False)
    for cut in range(1, len(first)):
        wanted = lines_of(decoded(first[:cut])) + KINDS[second]
        data = first[:cut] + new
        found = lines_of(decoded(data))
        assert is_within(wanted, found), cut
        bytewise, _ = in_pieces(data, iter(lambda: 1, 0))
        assert lines_of(bytewise) == found, cut


def test_the_new_frame_is_read_at_once_though_the_old_block_is_not_full() -> None:
    """What is missing of the old block would be more than the new frame has: it is not waited for."""
    old = frame(line_of(1, 1, 3000, noise=True))
    data = old[:50] + frame(line_of(2, 2), end=False)
    frames = FrameDecoder()
    assert lines_of(frames.feed(data)) == [line_of(2, 2)]
    assert frames.cuts == [Cut(0, 50)]


def test_a_line_that_the_cut_leaves_unfinished_does_not_swallow_the_next() -> None:
    compressor = zstandard.ZstdCompressor().compressobj()
    torn = compressor.compress(b'{"t":1}\n{"t":2,"x') + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    assert decoded(torn + frame(b'{"t":3}')) == b'{"t":1}\n{"t":2,"x\n{"t":3}\n'


def test_lines_go_on_over_frames_that_are_whole() -> None:
    text = b'{"t":1}\n{"t":2}\n'
    data = b"".join(zstandard.compress(text[at : at + 3]) for at in range(0, len(text), 3))
    assert decoded(data) == text


def test_damage_is_passed_over() -> None:
    lines = [line_of(t, t, 300) for t in range(9)]
    data = bytearray(frame(*lines[:3]) + frame(*lines[3:6]) + frame(*lines[6:]))
    begin = len(frame(*lines[:3]))
    data[begin + 2] ^= 0xFF  # in the magic
    frames = FrameDecoder()
    assert lines_of(frames.feed(bytes(data))) == lines[:3] + lines[6:]
    assert frames.cuts == [Cut(begin, begin + len(frame(*lines[3:6])))]


def test_frames_that_nobody_here_can_read() -> None:
    samples = [line_of(t, t, 50 + t % 9, noise=True) for t in range(500)]
    dictionary = zstandard.train_dictionary(2048, [*samples])
    strange = zstandard.ZstdCompressor(dict_data=dictionary).compress(line_of(1) + b"\n")
    assert decoded(strange + frame(line_of(2))) == line_of(2) + b"\n"


def test_large_windows_and_large_frames() -> None:
    text = b"\n".join([line_of(t, t, 900, noise=True) for t in range(400)] + [b""])
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    data = zstandard.ZstdCompressor(compression_params=parameters).compress(text * 3)
    assert decoded(data) == text * 3


def test_a_cut_is_told_by_what_there_is_of_it() -> None:
    told = [str(Cut(7, 7)), str(Cut(7, 8)), str(Cut(7, 10))]
    assert told == [
        "the zstd frame before byte 7 breaks off",
        "byte 7 belongs to no whole zstd frame",
        "bytes 7 to 9 belong to no whole zstd frame",
    ]


def test_magic_is_no_text() -> None:
    """What the decoder rests on: the magic is in no block that holds UTF-8 as it is."""
    with pytest.raises(UnicodeDecodeError):
        MAGIC.decode()
