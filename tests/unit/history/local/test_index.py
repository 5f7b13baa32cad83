"""A run's index: a cache of its footers that is never believed against the files."""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import history_files
from tests.support.recorded import SMALL, Writer, data_of, files, opened, planned, read_known
from tick_gateway.errors import Damaged
from tick_gateway.history.block_index import BlockRange, Blocks
from tick_gateway.history.local import index as module
from tick_gateway.history.local import scan, segment_index
from tick_gateway.history.local import segment_file as volume
from tick_gateway.history.local.disk import replace_file
from tick_gateway.history.local.index import (
    Index,
    IndexedSegment,
    load_index,
    pack_index,
    save_index,
    unpack_index,
)
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.history.local.segment_index import SegmentIndex, index_path
from tick_gateway.history.stored_block import Volume

NUMBERS = st.integers(0, 2**53)


SEGMENTS = st.builds(
    IndexedSegment,
    **{
        name: st.text("0123456789.jsonlzst") if name == "name" else st.booleans() if name == "sealed" else NUMBERS
        for name in IndexedSegment._fields
    },
)


def test_with_an_index_no_footer_is_read(run: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_index = read_known(tmp_path)
    (run.folder / "index").unlink()
    assert read_known(tmp_path) == with_index, "the footers tell the same"
    (stored,), _ = planned(tmp_path)
    save_index(stored)
    assert read_known(tmp_path) == with_index
    monkeypatch.setattr(volume, "unpack_footer", None)
    assert read_known(tmp_path) == with_index


@given(st.lists(SEGMENTS, max_size=4), st.lists(st.tuples(NUMBERS, NUMBERS), max_size=2).map(tuple))
def test_an_index_comes_back(segments: list[IndexedSegment], edges: tuple[tuple[int, int], ...]) -> None:
    told = Index("R", 1, 2, 3, 4, 5, True, False, segments, edges)
    packed = pack_index(told)
    assert unpack_index(packed) == told
    assert packed.endswith(b"\n") and packed[:8] == b"%08x" % crc32(packed[9:-1])


def test_saving_looks_at_a_sealed_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes through all that is known of blocks a fixed number of times, not once for each segment."""
    writer = Writer(tmp_path, SMALL)
    asked: list[Path] = []
    searched: list[Volume] = []
    end, ranges = module._end, Blocks.ranges

    def noted_end(path: Path, size: int) -> int | None:
        asked.append(path)
        return end(path, size)

    def noted_ranges(blocks: Blocks, volume: Volume) -> list[BlockRange]:
        searched.append(volume)
        return ranges(blocks, volume)

    monkeypatch.setattr(module, "_end", noted_end)
    monkeypatch.setattr(Blocks, "ranges", noted_ranges)
    for t in range(60):
        writer.write([t])
        writer.recorder.events.clear()
    sealed = [segment.path for segment in writer.recorder.runs["R"].segments if segment.sealed]
    assert len(sealed) > 8 and all(asked.count(path) == 1 for path in sealed)
    asked.clear()
    searched.clear()
    save_index(writer.recorder.runs["R"])
    assert not set(asked) & set(sealed) and not searched
    writer.recorder.close()


def test_a_saved_index_says_anew_what_has_changed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a history is, saving its index costs the same for each segment: its blocks are written once."""
    writer = Writer(tmp_path, SMALL)
    for t in range(33):
        writer.write([t])
    writer.recorder.close()
    (run,), _ = planned(tmp_path)
    said: list[str] = []
    write = replace_file

    def noted(path: Path, data: bytes) -> None:
        said.append(path.name)
        write(path, data)

    monkeypatch.setattr(segment_index, "replace_file", noted)
    names = [index_path(segment.path).name for segment in run.segments]
    assert len(names) > 4

    def saved() -> list[str]:
        """Save it; returns of which segments it was said anew. It is what it would be if all were made anew."""
        said.clear()
        save_index(run)
        anew, whole = list(said), files(writer.folder)
        for path in (writer.folder / "index", *segment_index.index_paths(writer.folder)):
            path.unlink()
        (again,), _ = planned(tmp_path)
        again.edges, again.total, again.tip = run.edges, run.total, run.tip
        save_index(again)
        assert {name: data for name, data in files(writer.folder).items() if name in whole} == whole
        return anew

    assert saved() == []
    segment = run.segments[1]
    gone = run.entries.of(segment)[1]
    os.truncate(segment.path, gone.offset)
    run.entries.remove(gone)
    segment.size = gone.offset
    assert saved() == [names[1]]
    run.segments[0].path.unlink()
    run.forget(run.segments[0])
    assert saved() == [] and not (writer.folder / names[0]).exists(), "it goes with its segment"


def test_an_index_that_cannot_be_written(run: Writer, tmp_path: Path) -> None:
    """Its records stay in memory, and are written with the next segment that is sealed."""
    for path in segment_index.index_paths(run.folder):
        path.unlink()
    (stored,), _ = planned(tmp_path)
    stored.entries = Blocks(list(stored.entries))
    blocked = index_path(stored.segments[1].path)
    blocked.mkdir()
    settled: list[SegmentIndex] = []
    with pytest.raises(OSError, match="directory"):
        save_index(stored, settled.append)
    assert [index.segment for index in settled] == stored.segments[:1]
    before = [entry.record() for entry in stored.entries]
    blocked.rmdir()
    save_index(stored, settled.append)
    assert [index.segment for index in settled] == stored.segments
    assert [entry.record() for entry in stored.entries] == before


def test_any_byte_of_an_index(run: Writer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, whole = read_known(tmp_path), (run.folder / "index").read_bytes()
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :]
        with pytest.raises(Damaged):
            unpack_index(changed)
        if at < len(whole) - 1:  # the last line feed says nothing
            with pytest.raises(Damaged):
                unpack_index(whole[:at])
    (run.folder / "index").write_bytes(whole[:-5])
    assert read_known(tmp_path) == before and "R: the index's CRC does not match; it is made anew" in caplog.text


def test_an_index_of_another_format_or_run(run: Writer, tmp_path: Path) -> None:
    before = read_known(tmp_path)
    known = load_index(run.folder)
    assert known is not None
    other = pack_index(known._replace(run="S", total=99))
    body = orjson.dumps(orjson.loads(pack_index(known)[9:]) | {"version": 3, "total": 99})
    for data in (other, b"%08x\n%s\n" % (crc32(body), body)):
        (run.folder / "index").write_bytes(data)
        assert load_index(run.folder) is None and read_known(tmp_path) == before


@pytest.mark.parametrize("how", ["longer", "replaced", "deleted", "one more", "shorter"])
def test_an_index_that_is_stale(run: Writer, tmp_path: Path, how: str) -> None:
    """The files tell; what the index knows of what was published stands."""
    _, second, third = history_files.segments(tmp_path, "R")
    ticks = dict(run.written)
    index = (run.folder / "index").read_bytes()
    match how:
        case "longer" | "one more":
            again = Recorder(tmp_path, SMALL, planned(tmp_path)[0])
            for t in range(15, 17 if how == "longer" else 24):
                again.write([run.batch([t])])
                ticks[t] = data_of(t)
            again.close()
            (run.folder / "index").write_bytes(index)
        case "replaced":  # by one of the same length, with other blocks
            other = Writer(tmp_path / "other", SMALL, seq=5)
            for t in range(12):
                other.write([t])
            other.recorder.close()
            size = second.stat().st_size
            second.write_bytes(history_files.segments(tmp_path / "other", "R")[1].read_bytes())
            assert second.stat().st_size == size
        case "deleted":
            second.unlink()
            ticks = {t: data for t, data in ticks.items() if not 6 <= t < 12}
        case "shorter":
            size = third.stat().st_size
            os.truncate(third, size - 1)
            ticks = {t: data for t, data in ticks.items() if t < 12} | {t: ticks[t] for t in (12, 13, 14)}
    found = opened(tmp_path)
    assert found.ticks["R"] == ticks and found.runs[0].total >= 15
    if how == "deleted":
        assert [entry.ordinal for entry in found.runs[0].entries] == [0, 3, 12]


def test_the_last_segment_is_deleted(run: Writer, tmp_path: Path) -> None:
    """What it held was published: the index knows, so its numbers do not come again."""
    history_files.segments(tmp_path, "R")[-1].unlink()
    (stored,) = opened(tmp_path).runs
    assert (stored.total, stored.tip, stored.stored) == (15, 14, 12)
    recorder = Recorder(tmp_path, SMALL, [stored])
    recorder.write([run.batch([20])])
    recorder.close()
    assert opened(tmp_path).runs[0].entries[-1].ordinal == 15


def test_a_segment_that_grew_under_its_index(run: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is behind the index is walked."""
    index = (run.folder / "index").read_bytes()
    recorder = Recorder(tmp_path, SMALL, planned(tmp_path)[0])
    recorder.write([run.batch([15, 16, 17])])
    recorder.close()
    whole = read_known(tmp_path)
    (run.folder / "index").write_bytes(index)
    walked: list[int] = []

    def watched(path: Path, begin: int) -> volume.Walk:
        walked.append(begin)
        return volume.walk(path, begin)

    monkeypatch.setattr(scan, "walk", watched)
    assert read_known(tmp_path) == whole
    known = load_index(run.folder)
    assert known is not None and walked == [known.segments[-1].size]
