"""What comes back of a history that was cut, flipped or left in the middle of something: what was written, no more."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import history_files
from tests.support.faulty_disk import Disk
from tests.support.recorded import AT, FOREVER, LIMITS, Flushed, Opened, Writer, data_of, files, lay, opened, planned
from tick_gateway.history.format.journal import Ending, unpack_journal
from tick_gateway.history.local import segment_file as volume
from tick_gateway.history.local.limits import Limits

SEGMENT = "0000000000000000.jsonl.zst"
JOURNAL = "journal"
SMALL = Limits(block_bytes=1 << 20, block_ticks=6, block_age=1e12, segment_age=0, fsync="never")


@pytest.fixture(scope="module", autouse=True)
def no_fsync() -> Iterator[None]:
    """Thousands of them are the disk's time and nothing else; ``test_recorder`` counts them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)
        yield


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory where the system has one."""
    yield from in_memory()


@pytest.fixture(scope="module")
def one_memory() -> Iterator[Path]:
    """The same for all examples of a test."""
    yield from in_memory()


def in_memory() -> Iterator[Path]:
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


class Torn:
    """A run as a crash leaves it: two closed blocks, and an open one with several flushes.

    Attributes:
        held: its files.
        written: its ticks.
        flushes: of all blocks; that which closes one ends behind its footer.
        blocks: where each closed block's frame ends, and its numbers.
    """

    def __init__(self, directory: Path, *, step: int = 1) -> None:
        writer = Writer(directory, SMALL)
        count = 0
        for ticks in (2, 2, 2, 2, 2, 2, 1, 1, 2, 1):  # six make a block
            writer.write(range(count * step, (count + ticks) * step, step))
            count += ticks
        self.held = files(writer.folder)
        self.written, self.flushes = writer.written, writer.flushes
        self.blocks = [
            (entry.offset + entry.frame, [t for t in self.written if entry.first <= t <= entry.last])
            for entry in writer.recorder.runs["R"].entries
        ]
        assert len(self.blocks) == 2 and len(self.held[SEGMENT]) == writer.flushes[-1].end
        writer.recorder.close()

    def must(self, cut: int) -> set[int]:
        """The ticks whose flush ends before a cut."""
        return {t for flush in self.flushes if flush.end <= cut for t in flush.ts}

    def may(self, cut: int) -> set[int]:
        """Those, and the last ticks of a block whose frame is there and whose footer is not."""
        # An empty last part and the checksum may be cut off, too.
        whole = {t for end, ts in self.blocks if end - 7 <= cut for t in ts}
        return self.must(cut) | whole


@pytest.fixture(scope="module", params=[1, 5], ids=["every", "downsampled"])
def torn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Torn:
    return Torn(tmp_path_factory.mktemp("torn"), step=request.param)


def bring_back(directory: Path, torn: Torn, held: dict[str, bytes], must: set[int], may: set[int]) -> Opened:
    """Open these files, and see that what must comes back, and nothing but what may; the same again afterwards."""
    lay(directory / "R", held)
    found = opened(directory)
    ticks = found.ticks.get("R", {})
    assert must <= set(ticks) <= may, f"missing {sorted(must - set(ticks))}, too many {sorted(set(ticks) - may)}"
    assert ticks == {t: torn.written[t] for t in sorted(ticks)}
    again = opened(directory)
    assert again.ticks.get("R", {}) == ticks and again.ats.get("R", {}) == found.ats.get("R", {})
    return found


def test_a_segment_cut_at_every_byte(memory: Path, torn: Torn) -> None:
    for cut in range(len(torn.held[SEGMENT]) + 1):
        directory = memory / f"cut-{cut}"
        held = torn.held | {SEGMENT: torn.held[SEGMENT][:cut]}
        found = bring_back(directory, torn, held, torn.must(cut), torn.may(cut))
        assert all(at == AT + t for t, at in found.ats["R"].items() if t > torn.blocks[-1][1][-1])
    history_files.whole(*[path for path in memory.rglob("*.zst") if path.stat().st_size])


def test_a_segment_cut_at_every_byte_without_its_journal(memory: Path, torn: Torn) -> None:
    for cut in range(len(torn.held[SEGMENT]) + 1):
        bring_back(
            memory / f"cut-{cut}", torn, {SEGMENT: torn.held[SEGMENT][:cut]}, torn.must(cut), torn.may(cut)
        )  # fmt: skip
    history_files.whole(*[path for path in memory.rglob("*.zst") if path.stat().st_size])


def test_a_journal_cut_at_every_byte(memory: Path, torn: Torn) -> None:
    """What it still vouches for comes back; where not even its head is left, it counts as gone."""
    closed = {t for _, ts in torn.blocks for t in ts}
    everything = set(torn.written)
    for cut in range(len(torn.held[JOURNAL]) + 1):
        journal = unpack_journal(torn.held[JOURNAL][:cut])
        assert journal.ending is not Ending.DAMAGED
        vouched = {t for flush in journal.flushes for t in flush.ts} if journal.head is not None else everything
        held = torn.held | {JOURNAL: torn.held[JOURNAL][:cut]}
        found = bring_back(memory / "journal", torn, held, closed | vouched, closed | vouched)
        assert not found.damage


def test_both_cut(memory: Path, torn: Torn) -> None:
    rng = random.Random(5)
    closed = {t for _, ts in torn.blocks for t in ts}
    for _ in range(300):
        cut, journal_cut = rng.randint(0, len(torn.held[SEGMENT])), rng.randint(0, len(torn.held[JOURNAL]))
        held = {SEGMENT: torn.held[SEGMENT][:cut], JOURNAL: torn.held[JOURNAL][:journal_cut]}
        bring_back(memory / "both", torn, held, torn.must(cut) & closed, torn.may(cut))


# ---- a sealed segment that is shorter than it was ----


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Torn:
    """Two segments, the first of them sealed, and an index that says so."""
    torn = Torn.__new__(Torn)
    limits = Limits(block_ticks=6, block_age=1e12, segment_bytes=600, segment_age=0, fsync="never")
    writer = Writer(tmp_path_factory.mktemp("sealed"), limits)
    for number in range(15):
        writer.write(range(2 * number, 2 * number + 2))
    torn.held, torn.written = files(writer.folder), writer.written
    torn.flushes = [flush for flush in writer.flushes if flush.segment == SEGMENT]
    stored = writer.recorder.runs["R"]
    assert len(stored.segments) > 1 and "index" in torn.held
    torn.blocks = [
        (entry.offset + entry.frame, list(range(entry.first, entry.last + 1)))
        for entry in stored.entries
        if entry.volume is stored.segments[0]
    ]
    writer.recorder.close()
    return torn


def test_a_sealed_segment_cut_at_every_byte(memory: Path, sealed: Torn) -> None:
    """The index knows that it was longer: what is left of its last block comes back."""
    others = set(sealed.written) - {t for flush in sealed.flushes for t in flush.ts}
    for cut in range(len(sealed.held[SEGMENT])):
        held = sealed.held | {SEGMENT: sealed.held[SEGMENT][:cut]}
        found = bring_back(memory / "sealed", sealed, held, sealed.must(cut) | others, sealed.may(cut) | others)
        run = found.runs[0]
        counts = [run.entries[0].ordinal, *[entry.ordinal + entry.count for entry in run.entries]]
        holes = [a != b.ordinal for a, b in zip(counts[1:], run.entries[1:], strict=False)]
        if not sealed.may(cut) >= set(sealed.written) - others:
            assert any(holes) or run.entries[0].first > 0, "what is missing is told"
        assert run.total == len(sealed.written)


def test_a_sealed_segment_cut_without_an_index(memory: Path, sealed: Torn) -> None:
    """Nothing says that nothing but a cut has happened: blocks that are whole come back."""
    others = set(sealed.written) - {t for flush in sealed.flushes for t in flush.ts}
    held = {name: data for name, data in sealed.held.items() if name != "index"}
    for cut in range(len(sealed.held[SEGMENT])):
        whole = {t for end, ts in sealed.blocks if end <= cut for t in ts} | others
        bring_back(memory / "sealed", sealed, held | {SEGMENT: sealed.held[SEGMENT][:cut]}, whole, whole)


# ---- bytes that were flipped ----


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_flipped_bytes_are_never_served(one_memory: Path, torn: Torn, sealed: Torn, data: st.DataObject) -> None:
    """Whatever is flipped, and wherever: no tick that was not written; and what is missing was told to be damaged."""
    case = data.draw(st.sampled_from([torn, sealed]), label="case")
    held = {name: bytearray(content) for name, content in case.held.items()}
    for _ in range(data.draw(st.integers(1, 6), label="flips")):
        content = held[data.draw(st.sampled_from(sorted(held)), label="file")]
        at = data.draw(st.integers(0, len(content) - 1), label="at")
        content[at] ^= data.draw(st.integers(1, 255), label="bits")
    lay(one_memory / "flips" / "R", {name: bytes(content) for name, content in held.items()})
    found = opened(one_memory / "flips")
    ticks = found.ticks.get("R", {})
    assert ticks == {t: case.written[t] for t in ticks if t in case.written}
    assert found.damage or set(ticks) == set(case.written)
    assert opened(one_memory / "flips").ticks.get("R", {}) == ticks, "the next start finds the same"


def test_every_single_flip(memory: Path, torn: Torn) -> None:
    """One byte at a time: at most one block is lost (of the open one: from there on), and that is told."""
    closed = [set(ts) for _, ts in torn.blocks]
    rng = random.Random(1)
    for name in (SEGMENT, JOURNAL):
        for at in range(len(torn.held[name])):
            content = bytearray(torn.held[name])
            content[at] ^= rng.randint(1, 255)
            lay(memory / "flip" / "R", torn.held | {name: bytes(content)})
            found = opened(memory / "flip")
            ticks = found.ticks["R"]
            assert ticks == {t: torn.written[t] for t in ticks}
            missing = set(torn.written) - set(ticks)
            assert not missing or found.damage
            assert any(missing <= block for block in closed) or not missing & set().union(*closed), (name, at)
            footer = any(
                end <= at < flush.end for (end, _), flush in zip(torn.blocks, torn.flushes[2::3], strict=False)
            )
            assert not (name == SEGMENT and footer and missing), "a block outlives its footer"


def test_what_is_lost_behind_the_tip_is_told_later(memory: Path, torn: Torn) -> None:
    """The journal's last record is damaged: who reads on is told that ticks may be missing there."""
    content = bytearray(torn.held[JOURNAL])
    content[-1] ^= 1
    lay(memory / "lost" / "R", torn.held | {JOURNAL: bytes(content)})
    run = opened(memory / "lost").runs[0]
    assert run.total > run.stored == len(torn.written) - 1
    again = opened(memory / "lost").runs[0]
    assert (again.total, again.stored) == (run.total, run.stored)
    (aside,) = (memory / "lost" / "R").glob("*.damaged")
    assert torn.held[SEGMENT].endswith(aside.read_bytes()), "what was cut off is kept"


# ---- recovery that is interrupted ----


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("cut", ["open", "closed"])
def test_recovery_interrupted_at_every_call(
    tmp_path: Path, torn: Torn, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """It dies at each of the calls that change files, and is done again."""
    flushes: list[Flushed] = torn.flushes
    at = flushes[-1].end - 3 if cut == "open" else torn.blocks[0][0] + 7
    held = torn.held | {SEGMENT: torn.held[SEGMENT][:at]}
    disk = Disk(monkeypatch, tmp_path)
    lay(tmp_path / "whole" / "R", held)
    disk.calls = 0
    expected = opened(tmp_path / "whole")
    calls = disk.calls
    assert calls >= 4 and expected.ticks["R"].keys() >= torn.must(at)
    for last in range(1, calls + 1):
        directory = tmp_path / f"dies-{last}"
        lay(directory / "R", held)
        disk.calls, disk.dies = 0, (last, Killed)
        with pytest.raises(Killed):
            opened(directory)
        disk.dies = None
        assert opened(directory).ticks == expected.ticks, disk.names[-1]
        history_files.whole(*history_files.segments(directory, "R"))


# ---- runs whose footers and journals are gone ----


def test_a_run_without_footer_and_journal_comes_behind_the_others(tmp_path: Path) -> None:
    first = Writer(tmp_path, LIMITS, name="Z", seq=7)
    first.write(range(5))
    first.end()
    first.recorder.close()
    second = Writer(tmp_path, LIMITS, name="A", seq=8)
    second.write(range(100, 105))
    held = files(second.folder)
    second.recorder.close()
    lay(second.folder, {name: data for name, data in held.items() if name.endswith(".zst")})
    found = opened(tmp_path)
    assert [(run.id, run.seq) for run in found.runs] == [("Z", 7), ("A", 8)]
    assert found.ticks["A"] == {t: data_of(t) for t in range(100, 105)}
    assert found.runs[1].origin == 100 and found.runs[1].entries[0].ordinal == 0


# ---- the index ----


@pytest.mark.parametrize("how", ["missing", "stale", "damaged"])
def test_an_index_that_had_to_be_made_anew_is_saved(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the next start asks no footers: with many files, that is the longest part of it."""
    writer = Writer(tmp_path, Limits(block_ticks=2, segment_bytes=1, block_age=FOREVER, segment_age=0, fsync="never"))
    for t in range(0, 20, 2):
        writer.write([t, t + 1])
    index = writer.folder / "index"
    old = index.read_bytes()
    for t in range(20, 40, 2):
        writer.write([t, t + 1])
    writer.end()
    writer.recorder.close()
    match how:
        case "missing":
            index.unlink()
        case "stale":
            index.write_bytes(old)
        case "damaged":
            index.write_bytes(b"0" + index.read_bytes()[1:])
    before = opened(tmp_path)
    monkeypatch.setattr(volume, "unpack_footer", None)  # nobody needs it
    after, damage = planned(tmp_path)
    assert [(run.total, run.tip, run.ended, len(run.entries)) for run in after] == [(40, 39, True, 20)]
    assert [len(run.entries) for run in before.runs] == [20] and not damage
