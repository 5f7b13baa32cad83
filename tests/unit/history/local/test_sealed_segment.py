"""All of a sealed segment as it lies on disk: nothing of it goes out before each byte was looked at."""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

import pytest

from tests.support.recorded import Writer
from tick_gateway.errors import Damaged
from tick_gateway.history.local.sealed_segment import open_sealed
from tick_gateway.history.local.segment_file import Segment
from tick_gateway.history.stored_block import Entry


@pytest.fixture
def sealed(run: Writer) -> tuple[Segment, list[Entry]]:
    """A segment of two blocks and a seal."""
    stored = run.recorder.runs["R"]
    segment = stored.segments[0]
    assert segment.sealed
    return segment, stored.entries.of(segment)


def check(segment: Segment, entries: list[Entry], run: str = "R") -> int:
    found = open_sealed(segment, run, lambda: entries)
    found.file.close()
    return found.crc


def test_it_is_looked_at_once(sealed: tuple[Segment, list[Entry]]) -> None:
    segment, entries = sealed
    assert check(segment, entries) == crc32(segment.path.read_bytes())
    assert check(segment, []) == crc32(segment.path.read_bytes()), "as long as it is the same and unchanged"
    os.utime(segment.path, ns=(1, 1))
    with pytest.raises(Damaged, match="belong to no block"):
        check(segment, [])


def test_any_byte_that_changed(sealed: tuple[Segment, list[Entry]]) -> None:
    segment, entries = sealed
    whole = segment.path.read_bytes()
    for at in range(0, len(whole), 3):
        segment.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        segment.checked = None
        with pytest.raises(Damaged):
            check(segment, entries)
    segment.path.write_bytes(whole)
    segment.checked = None
    assert check(segment, entries) == crc32(whole)


def test_what_is_no_sealed_segment_of_that_run(sealed: tuple[Segment, list[Entry]]) -> None:
    segment, entries = sealed
    with pytest.raises(Damaged, match="is not what was written there"):
        check(segment, entries, "S")
    with segment.path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(Damaged, match="bytes, not"):
        check(segment, entries)


def test_a_pipe_in_its_place_is_not_waited_for(sealed: tuple[Segment, list[Entry]], tmp_path: Path) -> None:
    segment, entries = sealed
    segment.path.unlink()
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(segment.path)
    with pytest.raises(Damaged, match="is no file"):
        check(segment, entries)
