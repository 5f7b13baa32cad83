"""A directory of another program as history: chunks of files on histories, read where they lie."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.backend import Writer, frame, line_of
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.errors import Damaged
from tick_gateway.history.external import chunks
from tick_gateway.history.external import in_place as inplace
from tick_gateway.history.external.chunk_records import FileChunk
from tick_gateway.history.external.directory import FileGone, SourceDirectory
from tick_gateway.history.external.file_content import Content
from tick_gateway.history.external.in_place import DirectoryScan, InPlace, Volumes
from tick_gateway.history.external.run_splitter import TickSequence
from tick_gateway.history.external.source_file import SourceFile
from tick_gateway.history.run_history import batches_of
from tick_gateway.history.stored_block import Entry
from tick_gateway.history.stored_run import StoredRun
from tick_gateway.settings import Settings

MAX_TICK = 1 << 20
Found = list[tuple[str, int, bytes]]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inplace, "CHUNK_BYTES", 2000)
    monkeypatch.setattr(inplace, "CHUNK_TICKS", 50)


def scanned(folder: Path) -> list[StoredRun]:
    directory = SourceDirectory(folder, MAX_TICK)
    runs = list(DirectoryScan(directory, Volumes(MAX_TICK)).runs.values())
    directory.close()
    return runs


def entries(runs: list[StoredRun]) -> list[Entry]:
    return [entry for run in runs for entry in run.entries]


def read(runs: list[StoredRun]) -> Found:
    """Everything, and each chunk holds what its entry says."""
    found: Found = []
    for run in runs:
        ordinal = 0
        for entry in run.entries:
            block = entry.volume.read(entry)
            lines = block.lines.split(b"\n")
            assert lines.pop() == b"" and len(lines) == len(block.ts) == len(block.ats) == entry.count
            assert (block.ts[0], block.ts[-1]) == (entry.first, entry.last)
            assert (block.ats[0], block.ats[-1]) == (entry.first_at, entry.last_at)
            assert list(block.ats) == sorted(block.ats) and len(block.lines) == entry.size
            assert entry.ordinal == ordinal and entry.volume.lines(entry) == block.lines
            frames = entry.volume.frames([entry])
            assert frames is not None and zstandard.decompress(bytes(frames)) == block.lines
            ordinal += entry.count
            found += [(run.id, t, line) for t, line in zip(block.ts, lines, strict=True)]
        assert (run.total, run.tip) == (ordinal, run.entries[-1].last)
    return found


def wanted(folder: Path) -> Found:
    directory, found = SourceDirectory(folder, MAX_TICK), []
    while events := directory.read():
        for event in events:
            assert not isinstance(event, FileGone)
            found += [(event.run.id, t, line) for t, line in zip(event.ts, event.lines, strict=True)]
    directory.close()
    return found


def fill(folder: Path, seed: int) -> None:
    """Files of every kind, with lines of every kind."""
    turns, serial, t = random.Random(seed), 0, 0
    for number in range(4):
        with Writer(folder / f"s{number}.jsonl{turns.choice(('', '.zst'))}") as writer:
            for _ in range(turns.randrange(1, 300)):
                serial += 1
                writer.write(line_of(t, serial, turns.choice((0, 10, 200)), noise=bool(serial % 2)))
                what = turns.randrange(60)
                if what == 0:
                    writer.write(b"", b"nonsense", b"  ")
                elif what == 1:
                    writer.write(line_of(t, serial + 1_000_000))  # a conflict
                elif what == 2:
                    writer.end_frame()
                t = 0 if what == 3 else t + turns.choice((1, 1, 5))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_every_chunk_reads_back(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("segments")
    fill(folder, seed)
    runs = scanned(folder)
    assert read(runs) == wanted(folder)
    some = entries(runs)
    assert all(entry.frame < 5000 and entry.count <= 50 for entry in some)
    turns = random.Random(seed)
    turns.shuffle(some)
    for entry in some[:20]:
        assert entry.volume.read(entry).ts[0] == entry.first


def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Where each file was begun to be read from now on, and what is open."""
    begun: list[tuple[int, int]] = []

    class Watched(Content):
        def __init__(self, path: Path, begin: tuple[int, int] = (0, 0)) -> None:
            begun.append(begin)
            super().__init__(path, begin)

    monkeypatch.setattr(chunks, "Content", Watched)
    return begun


def test_reading_on_does_not_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        with Writer(tmp_path / f"s{number}.jsonl.zst") as writer:  # one large frame each
            writer.write(*(line_of(number * 1000 + t, t, 100, noise=True) for t in range(1000)))
    runs = scanned(tmp_path)
    begun = opened(monkeypatch)
    rows = [[entry for entry in entries(runs) if entry.first // 1000 == number] for number in range(3)]
    for one, other, third in zip(*rows, strict=True):  # three readers take turns
        for entry in (one, other, third):
            entry.volume.read(entry)
    assert len(begun) == 3
    for entry in rows[0]:
        entry.volume.read(entry)
    assert len(begun) == 4, "going back begins anew, once"


def test_few_files_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        with Writer(tmp_path / f"s{number}.jsonl") as writer:
            writer.write(*(line_of(number * 10 + t) for t in range(10)))
    runs = scanned(tmp_path)
    closed: list[Path] = []
    close: Callable[[Content], None] = Content.close

    def watched(content: Content) -> None:
        closed.append(content.path)
        close(content)

    monkeypatch.setattr(Content, "close", watched)
    assert read(runs) == wanted(tmp_path)
    assert len(closed) > 15


def test_many_frames_need_not_be_read_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line_of(t, t, 2000, noise=True) for t in range(3000)]
    with (tmp_path / "a.jsonl.zst").open("wb") as file:
        for line in lines:
            file.write(frame(line))
    (tmp_path / "b.jsonl").write_bytes(b"\n".join([line_of(t, t, 2000) for t in range(3000, 5000)] + [b""]))
    runs = scanned(tmp_path)
    begun = opened(monkeypatch)
    for index in (-1, -1500, 2900):
        entry = entries(runs)[index]
        entry.volume.read(entry)
    assert len(begun) == 3
    given = [before for _, before in begun]
    offsets = [entries(runs)[index].offset for index in (-1, -1500, 2900)]
    assert all(0 <= offset - before < 3 << 20 for offset, before in zip(offsets, given, strict=True))


def test_content_that_is_not_there_any_more(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for damage in ("cut", "changed", "deleted"):
        with Writer(path, anew=True) as writer:
            writer.write(*(line_of(t, t) for t in range(200)))
        runs = scanned(tmp_path)
        first, *_, last = entries(runs)
        first.volume.read(first)
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-50])
        elif damage == "changed":
            path.write_bytes(path.read_bytes().replace(b'"u":199', b'"u":991'))
        else:
            path.unlink()
            assert isinstance(last.volume, chunks.FileVolume)
            last.volume.file.gone = True
        with pytest.raises(FileNotFoundError if damage == "deleted" else Damaged):
            last.volume.read(unopened(last))


def unopened(entry: Entry) -> Entry:
    """The same chunk of a file that no open file has open."""
    assert isinstance(entry, FileChunk) and isinstance(entry.volume, chunks.FileVolume)
    entry.volume = chunks.FileVolume(entry.volume.file, chunks.OpenFiles(), MAX_TICK, entry.volume._spool)
    return entry


# ---- the live side ----


class BusInPlace:
    """A bus without a loop whose history is a directory."""

    def __init__(self, folder: Path, ring: int = 1000) -> None:
        self.directory = SourceDirectory(folder, MAX_TICK, look_seconds=0)
        self.bus = TickBus(Settings(ring=ring))
        self.live = InPlace(self.bus, self.directory, MAX_TICK)
        self.archive = self.live.archive
        self.bus.divert(self.live.take)

    def follow(self, turns: random.Random | None = None) -> Found:
        """Publish what came, as the tail does; the loop collects now and then."""
        found: Found = []
        while events := self.directory.read():
            for event in events:
                if isinstance(event, FileGone):
                    self.bus.collect()
                    self.live.gone(event.file)
                    continue
                for index, (t, line) in enumerate(zip(event.ts, event.lines, strict=True)):
                    self.live.announce(event, index)
                    assert self.bus.offer(t, line, event.run.id)
                    found.append((event.run.id, t, line))
                    if turns is not None and turns.randrange(9) == 0:
                        self.bus.collect()
        self.bus.collect()
        return found

    def readable(self, *, holes: bool = False) -> Found:
        """What readers can have: of histories, and of memory what they have not."""
        found: Found = []
        for run in self.bus.runs.values():
            t = -1
            while (stored := self.archive.after(run, t)) is not None:
                batches = (
                    batches_of(run, stored.volume.read(stored), stored.ordinal)
                    if isinstance(stored, Entry)
                    else [stored]
                )
                ticks = [tick for batch in batches for tick in batch.ticks if tick.t > t]
                assert holes or not self.archive.history(run).missing_before(stored, t)
                found += [(run.id, tick.t, tick.data) for tick in ticks]
                t = ticks[-1].t
            found += [
                (run.id, tick.t, tick.data)
                for batch in self.bus.ring
                for tick in batch.ticks
                if batch.run is run and tick.t > t
            ]
        return found


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32))
def test_what_memory_lets_go_of_stands_on_histories(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("segments")
    turns = random.Random(seed)
    if turns.randrange(2):
        fill(folder, seed)
    before = wanted(folder)
    bus_in_place = BusInPlace(folder, ring=turns.choice((1, 20, 1000)))
    assert bus_in_place.readable() == before
    serial, t = 5_000_000, before[-1][1] + 1 if before else 0
    writer = Writer(folder / "t0.jsonl.zst")
    for number in range(1, 30):
        for _ in range(turns.randrange(12)):
            serial += 1
            writer.write(line_of(t, serial, turns.choice((0, 100)), noise=True))
            t += 1
        what = turns.randrange(8)
        if what == 0:
            writer.close()
            writer = Writer(folder / f"t{number}.jsonl{turns.choice(('', '.zst'))}")
        elif what == 1 and t:
            t = 0
        elif what == 2:
            before += bus_in_place.follow(turns)
    writer.close()
    before += bus_in_place.follow(turns)
    assert bus_in_place.readable() == before
    histories = bus_in_place.archive.histories.values()
    assert sum(len(batch.ticks) for history in histories for batch in history.open) < inplace.CHUNK_TICKS + 512
    assert sum(bool(history.open) for history in histories) <= 1, "the history of a run that is over holds no memory"
    again = BusInPlace(folder)
    assert again.readable() == before, "and a restart finds the same"


def test_times_of_live_ticks_are_those_that_readers_saw(tmp_path: Path) -> None:
    bus_in_place = BusInPlace(tmp_path)
    with Writer(tmp_path / "a.jsonl") as writer:
        for t in range(150):
            writer.write(line_of(t, t, 30))
            bus_in_place.follow()
    seen = {tick.t: tick.at for batch in bus_in_place.bus.ring for tick in batch.ticks}
    (history,) = bus_in_place.archive.histories.values()
    assert len(history.entries) >= 3
    for entry in history.entries:
        block = entry.volume.read(entry)
        assert list(block.ats) == [seen[t] for t in block.ts]


def test_ticks_of_others_are_in_memory_alone(tmp_path: Path) -> None:
    bus_in_place = BusInPlace(tmp_path, ring=5)
    with Writer(tmp_path / "a.jsonl") as writer:
        writer.write(*(line_of(t) for t in range(20)))
        bus_in_place.follow()
        (run,) = bus_in_place.bus.runs.values()
        bus_in_place.bus.offer(20, line_of(20, 99), run.id)
        bus_in_place.bus.collect()
        writer.write(*(line_of(t) for t in range(21, 40)))
        bus_in_place.follow()
    history = bus_in_place.archive.history(run)
    assert [t for _, t, _ in bus_in_place.readable(holes=True)] == [*range(20), *range(21, 40)]
    stored = bus_in_place.archive.after(run, 19)
    assert stored is not None and history.missing_before(stored, 19), "the one between them is a gap"


def test_a_file_that_is_gone_leaves_its_history(tmp_path: Path) -> None:
    bus_in_place = BusInPlace(tmp_path, ring=5)
    for number in range(3):
        with Writer(tmp_path / f"s{number}.jsonl") as writer:
            writer.write(*(line_of(number * 100 + t) for t in range(100)))
        bus_in_place.follow()
    (tmp_path / "s1.jsonl").unlink()
    bus_in_place.follow()
    assert [t for _, t, _ in bus_in_place.readable(holes=True)] == [*range(100), *range(200, 300)]
    with Writer(tmp_path / "s2.jsonl", anew=True) as writer:
        writer.write(line_of(0, 7))
    bus_in_place.follow()
    ts = [t for _, t, _ in bus_in_place.readable(holes=True)]
    assert ts[:100] == [*range(100)] and ts[-1] == 0 and len(ts) < 110


def test_a_tick_that_was_refused_leaves_no_location(tmp_path: Path) -> None:
    bus_in_place = BusInPlace(tmp_path)
    file = SourceFile(tmp_path / "a.jsonl", MAX_TICK)
    sequence = TickSequence(file, bus_in_place.directory.splitter._begin(file, b"x"), 0)
    sequence.ts, sequence.lines, sequence.ends = [1], [b'{"t":1}'], [8]
    bus_in_place.live.announce(sequence, 0)
    bus_in_place.live.retract(sequence, 0)
    assert not bus_in_place.live._locations
