"""What is in a file while it grows: steps of bounded size, what is wrong with it, and which of two has more."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from tests.support.backend import frame, line_of
from tick_gateway.history.external.file_content import Content, Replaced, compare, natural, shown, stem_of
from tick_gateway.history.external.frames import MAX_WINDOW

LINES = [line_of(t, t, 300, noise=True) for t in range(50)]
TEXT = b"\n".join([*LINES, b""])


def everything(content: Content) -> bytes:
    parts: list[bytes] = []
    while data := content.more():
        parts.append(data)
    return b"".join(parts)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
def test_all_that_is_there_and_what_comes_later(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    data = TEXT if name == "a.jsonl" else frame(*LINES)
    path.write_bytes(data[:-100])
    content = Content(path)
    before = everything(content)
    assert TEXT.startswith(before) and content.more() == b""
    with path.open("ab") as file:
        file.write(data[-100:])
    assert before + everything(content) == TEXT
    assert content.given == len(TEXT) and content.left == (0, "") and content.problem == ""
    content.close()


def test_a_few_bytes_that_become_many_come_in_steps(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstandard.compress(b"x" * 10_000_000))
    content = Content(path)
    sizes = []
    while data := content.more():
        sizes.append(len(data))
    assert sum(sizes) == 10_000_000 and max(sizes) <= 400_000
    content.close()


@pytest.mark.parametrize("change", ["cut", "other"])
def test_what_was_read_is_not_there_any_more(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(TEXT)
    content = Content(path)
    everything(content)
    path.write_bytes(TEXT[:-1] if change == "cut" else TEXT.replace(b'"u":49', b'"u":94') + b"more\n")
    with pytest.raises(Replaced):
        everything(content)
    content.close()


def test_a_frame_that_its_checksum_refutes_is_known_before_any_of_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    data = bytearray(frame(*LINES, checksum=True))
    data[-1] ^= 1
    path.write_bytes(frame(line_of(0)) + data)
    content = Content(path, checked=0)
    first = content.more()
    assert content.refuted == [(len(line_of(0)) + 1, len(line_of(0)) + 1 + len(TEXT))], first[:40]
    assert content.skipped == len(data)
    content.close()


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.jsonl", b"\x1f\x8b" + b"0" * 20, "it is gzip, not text"),
        ("a.jsonl", zstandard.compress(TEXT), "it is zstd, not text"),
        ("a.jsonl.zst", TEXT, "byte 0 belongs to no zstd frame .it looks like text."),
        ("a.jsonl.zst", b"\x1f\x8b" + b"0" * 20, "byte 0 belongs to no zstd frame .it looks like gzip."),
    ],
)
def test_what_nothing_can_be_made_of_is_told(tmp_path: Path, name: str, data: bytes, problem: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    content = Content(path)
    assert everything(content) == b""
    assert content.problem.replace("(", ".").replace(")", ".") == problem
    assert content.left[0] == len(data)
    content.close()


def test_windows_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    wide = zstandard.ZstdCompressionParameters.from_level(1, window_log=MAX_WINDOW.bit_length())
    with path.open("wb") as file:
        writer = zstandard.ZstdCompressor(compression_params=wide).stream_writer(file, closefd=False)
        writer.write(TEXT)
        writer.flush(zstandard.FLUSH_FRAME)
    content = Content(path)
    assert everything(content) == b"" and "asks for a window of 256 MiB" in content.problem
    content.close()


def test_which_of_two_has_more(tmp_path: Path) -> None:
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.zst"
    packed.write_bytes(frame(*LINES))
    for text, wanted in ((TEXT, 0), (TEXT[:-50], 1), (TEXT + TEXT, -1)):
        plain.write_bytes(text)
        more = compare(plain, packed)
        assert more is not None and (more > 0) - (more < 0) == wanted
    plain.write_bytes(TEXT.replace(b'"u":7,', b'"u":8,'))
    assert compare(plain, packed) is None, "they part"


def test_names() -> None:
    assert [stem_of(name) for name in ("a.jsonl", "a.jsonl.zst", "a.zst", "a.json")] == ["a", "a", None, None]
    assert sorted(["s10", "s9", "s1a"], key=natural) == ["s1a", "s9", "s10"]
    assert shown("a\nb\x1b[1m") == r"a\nb\x1b[1m"
