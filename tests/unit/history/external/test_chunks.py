"""Chunks of files with large zstd windows: one window at a time is in memory for whoever reads them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
import zstandard

from tests.support.backend import line_of
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.history.external import chunks, in_place
from tick_gateway.history.external.directory import SourceDirectory
from tick_gateway.history.external.file_content import Content
from tick_gateway.history.external.in_place import InPlace
from tick_gateway.history.stored_block import Entry
from tick_gateway.settings import Settings

MAX_TICK = 1 << 20
TICKS = 400
WINDOW = zstandard.ZstdCompressionParameters.from_level(1, window_log=25)


class Watched(Content):
    """Counts those that are open, and those of them that hold a large window."""

    lock = threading.Lock()
    open: set[Content]
    begun: int
    most: int

    def __init__(self, path: Path, begin: tuple[int, int] = (0, 0)) -> None:
        super().__init__(path, begin)
        with self.lock:
            Watched.open.add(self)
            Watched.begun += 1

    def more(self) -> bytes:
        data = super().more()
        with self.lock:
            large = sum(content.held > chunks._MOST_HELD for content in Watched.open)
            Watched.most = max(Watched.most, large)
        return data

    def close(self) -> None:
        with self.lock:
            Watched.open.discard(self)
        super().close()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    Watched.open, Watched.begun, Watched.most = set(), 0, 0
    monkeypatch.setattr(chunks, "Content", Watched)
    monkeypatch.setattr(in_place, "CHUNK_BYTES", 20_000)
    return Watched


def write_open(path: Path, first: int) -> list[bytes]:
    """A file whose one frame, with a large window, is still open."""
    lines = [line_of(t, t, 2000, noise=True) for t in range(first, first + TICKS)]
    with path.open("wb") as file:
        writer = zstandard.ZstdCompressor(compression_params=WINDOW).stream_writer(file, closefd=False)
        writer.write(b"\n".join([*lines, b""]))
        writer.flush(zstandard.FLUSH_BLOCK)
    return lines


@pytest.fixture
def engine(tmp_path: Path, watched: type[Watched]) -> Iterator[InPlace]:
    """The history of two such files, memory being small."""
    write_open(tmp_path / "a.jsonl.zst", 0)
    write_open(tmp_path / "b.jsonl.zst", 1000)
    engine = InPlace(TickBus(Settings(ring=10)), SourceDirectory(tmp_path, MAX_TICK), MAX_TICK)
    yield engine
    engine.directory.close()


def all_chunks(engine: InPlace) -> list[Entry]:
    return [entry for history in engine.archive.histories.values() for entry in history.entries]


def check(entry: Entry) -> None:
    block = entry.volume.read(entry)
    assert list(block.ts) == [*range(entry.first, entry.last + 1)]
    assert block.lines.splitlines() == [line_of(t, t, 2000, noise=True) for t in block.ts]


def test_at_the_start_memory_is_filled_without_a_second_window(engine: InPlace, watched: type[Watched]) -> None:
    assert [tick.t for batch in engine.bus.ring for tick in batch.ticks][-10:] == [
        *range(1000 + TICKS - 10, 1000 + TICKS)
    ]
    assert watched.begun == 0, "what was scanned last was still there"
    for entry in all_chunks(engine):
        assert isinstance(entry.volume, chunks.FileVolume) and not entry.volume.scanned, "and was let go of"


def test_one_window_whoever_reads(engine: InPlace, watched: type[Watched]) -> None:
    found = all_chunks(engine)
    assert len(found) > 40
    wanted = Random(1).sample(found, 12)
    with ThreadPoolExecutor(4) as readers:
        list(readers.map(check, wanted))
    assert watched.most == 1


def test_a_reader_that_is_a_little_behind_begins_nothing_anew(engine: InPlace, watched: type[Watched]) -> None:
    found = [entry for entry in all_chunks(engine) if entry.first < 1000]
    for ahead, behind in zip(found[5:], found, strict=False):
        check(ahead)
        check(behind)
    assert (watched.begun, watched.most) == (1, 1)
