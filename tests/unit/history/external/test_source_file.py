"""A file of another program, line by line: known by its content, read on where it was left."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from tests.support.backend import Writer, frame, line_of
from tick_gateway.history.external.file_content import Replaced
from tick_gateway.history.external.source_file import SourceFile, Unread

MAX_TICK = 4096
ENDINGS = pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])


def taken(file: SourceFile) -> list[bytes]:
    """The lines that are there now."""
    found: list[bytes] = []
    while file.pull():
        found += file.take().lines
    return found


def again(file: SourceFile) -> SourceFile:
    """The same file in another process."""
    file.close()
    return SourceFile.of(file.path.parent, file.note(), MAX_TICK)


@ENDINGS
def test_lines_come_once_they_are_ended(tmp_path: Path, name: str) -> None:
    file = SourceFile(tmp_path / name, MAX_TICK)
    with Writer(file.path) as writer:
        writer.write(line_of(0), line_of(1))
        assert taken(file) == [line_of(0), line_of(1)]
        assert not file.pull() and not file.torn
        writer.write(line_of(2))
        assert taken(file) == [line_of(2)]
    assert (file.number, file.offset) == (3, sum(len(line_of(t)) + 1 for t in range(3)))
    file.close()


def test_a_line_without_its_end_is_torn_or_a_last_tick(tmp_path: Path) -> None:
    file = SourceFile(tmp_path / "a.jsonl", MAX_TICK)
    file.path.write_bytes(line_of(0) + b"\n" + line_of(1)[:-1])
    assert taken(file) == [line_of(0)] and file.torn
    assert file.take_last() is None, "it is no tick"
    with file.path.open("ab") as more:
        more.write(b"}")
    file.pull()
    last = file.take_last()
    assert last is not None and last.lines == [line_of(1)] and not last.ended
    file.close()


@ENDINGS
def test_it_is_read_on_in_another_process_and_known_under_another_form(tmp_path: Path, name: str) -> None:
    file = SourceFile(tmp_path / name, MAX_TICK)
    with Writer(file.path) as writer:
        writer.write(line_of(0), line_of(1))
        assert taken(file) == [line_of(0), line_of(1)]
        file = again(file)
        writer.write(line_of(2))
        assert taken(file) == [line_of(2)]
    whole = b"".join(line_of(t) + b"\n" for t in range(4))
    other = tmp_path / ("a.jsonl.zst" if name == "a.jsonl" else "a.jsonl")
    other.write_bytes(zstandard.compress(whole) if name == "a.jsonl" else whole)
    file.move(other)
    assert taken(file) == [line_of(3)]
    file.close()


@ENDINGS
def test_other_content_in_its_place_is_another_file(tmp_path: Path, name: str) -> None:
    file = SourceFile(tmp_path / name, MAX_TICK)
    with Writer(file.path) as writer:
        writer.write(line_of(0), line_of(1))
    taken(file)
    file = again(file)
    with Writer(file.path, anew=True) as writer:
        writer.write(line_of(0), line_of(1, 7), line_of(2))
    with pytest.raises(Replaced):
        file.pull()


def test_what_a_cut_leaves_is_known(tmp_path: Path) -> None:
    lines = [line_of(t, t, 100) for t in range(100)]
    file = SourceFile(tmp_path / "a.jsonl", MAX_TICK)
    file.path.write_bytes(b"\n".join([*lines, b""]))
    taken(file)
    file.path.write_bytes(b"\n".join([*lines[:80], b""]))
    assert file.shrink(file.path) and file.number == 80
    file.path.write_bytes(b"\n".join([*lines[:30], b""]))
    assert not file.shrink(file.path), "less than half is left: it may have been begun anew"


def test_a_line_that_is_too_long_is_cut_and_counted_whole(tmp_path: Path) -> None:
    file = SourceFile(tmp_path / "a.jsonl", MAX_TICK)
    file.path.write_bytes(b'{"t":0,"x":"' + b"y" * 100_000 + b'"}\n' + line_of(1) + b"\n")
    assert file.pull()
    found = file.take()
    assert len(found.lines[0]) < 100_000 and len(found.lines[0]) + found.beyond == 100_014
    assert found.lines[1] == line_of(1)
    assert file.offset == file.path.stat().st_size
    file.close()


def test_what_was_not_read_of_it(tmp_path: Path) -> None:
    file = SourceFile(tmp_path / "a.jsonl.zst", MAX_TICK)
    whole = frame(line_of(0))
    file.path.write_bytes(whole + b"garbage" + frame(line_of(1)) + whole[:9])
    assert taken(file) == [line_of(0), line_of(1)]
    file.close()
    assert file.unread(left=False, ended=False) == Unread(1, len(b"garbage")), "what is behind the last line may go on"
    assert file.unread(left=True, ended=True) == Unread(1, len(b"garbage") + 9)


def test_the_window_of_a_file_is_known(tmp_path: Path) -> None:
    wide = zstandard.ZstdCompressionParameters.from_level(1, window_log=25)
    file = SourceFile(tmp_path / "a.jsonl.zst", MAX_TICK)
    with file.path.open("wb") as raw:
        writer = zstandard.ZstdCompressor(compression_params=wide).stream_writer(raw, closefd=False)
        writer.write(line_of(0) + b"\n")
        writer.flush(zstandard.FLUSH_BLOCK)
        assert taken(file) == [line_of(0)]
    assert file.window == 1 << 25
    file.close()
