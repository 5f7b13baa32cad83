"""``tick-gateway verify``: what is wrong is found, what can be mended is, and what was sound stays as it was."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.faulty_disk import Disk
from tests.support.history_files import flip, frames, lines, segments, whole
from tests.support.made_history import tick_of, write
from tests.support.recorded import files, lay, opened
from tick_gateway.bus.ring import Batch, Run
from tick_gateway.history.format.segment import unpack_footer
from tick_gateway.history.local.index import load_entries, load_index, pack_index
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.lock import DirectoryLock
from tick_gateway.history.local.recorder import Recorder
from tick_gateway.history.local.repair import repair
from tick_gateway.history.local.segment_file import Segment
from tick_gateway.history.local.segment_index import index_path, write_segment_index
from tick_gateway.history.local.verify import verify
from tick_gateway.model.tick import PublishedTick

TICKS = 60


def run_command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tick_gateway", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the disk's time and nothing else."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Two runs, of which the first is over, in several segments of several blocks."""
    directory = tmp_path / "history"
    write(directory, {"A": range(TICKS), "B": range(0, TICKS * 2, 2)}, segment_bytes=1200)
    return directory


def found(directory: Path) -> list[str]:
    """What a check says is wrong."""
    return [str(finding) for finding in verify(directory).findings]


def mend(directory: Path) -> list[str]:
    """Repair a directory; afterwards a check finds nothing, and another repair has nothing to do."""
    with DirectoryLock(directory):
        done = list(repair(directory))
        held = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        assert list(repair(directory)) == []
        assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == held
    assert found(directory) == []
    for name in ("A", "B"):
        whole(*segments(directory, name))
    return done


def stored(directory: Path) -> dict[str, list[int]]:
    """The numbers that a gateway would serve, by run; each tick is what was written."""
    ticks = opened(directory).ticks
    for name, mine in ticks.items():
        assert mine == {t: tick_of(name, t) for t in mine}
    return {name: list(mine) for name, mine in ticks.items()}


# ---- the command ----


def test_a_sound_history(history: Path) -> None:
    done = run_command(history)
    assert (done.returncode, done.stdout) == (0, "")
    assert re.search(rf"^{2 * TICKS} ticks in \d+ blocks of \d+ segments, 2 runs: no damage$", done.stderr, re.M)


def test_a_damaged_block_is_found_and_cut_out(history: Path) -> None:
    path = segments(history, "A")[0]
    before, data = stored(history), path.read_bytes()
    block, footer = frames(path)[:2]
    end = footer.at + footer.size
    flip(path, 30)
    done = run_command(history)
    assert done.returncode == 1
    assert done.stdout == f"A/{path.name}: the CRC of the block at 0 of {path.name} does not match\n"
    assert done.stderr.rstrip().endswith(": 1 finding")
    mended = run_command(history, "--repair")
    assert (mended.returncode, mended.stdout) == (0, ""), mended.stderr
    assert f"A/{path.name}: {end} bytes were cut out of it" in mended.stderr
    assert "ticks lost: 0 to " in mended.stderr
    assert "not stored between" in mended.stderr, "the hole is told as a remark"
    right = path.with_name(f"{unpack_footer(data[footer.at : end]).count:016d}.jsonl.zst")
    assert right.read_bytes() == data[end:], "what is sound stays as it was, byte for byte"
    kept = path.with_name(f"{path.name}.0.damaged").read_bytes()
    assert len(kept) == end and kept[31 : block.size] == data[31 : block.size]
    after = stored(history)
    assert after["B"] == before["B"] and 0 < len(after["A"]) < len(before["A"])
    assert set(after["A"]) < set(before["A"])
    again = run_command(history, "--repair")
    assert again.returncode == 0 and again.stderr.count("\n") == 2, "a remark, the summary: nothing was left to mend"


def test_what_cannot_be_checked(tmp_path: Path, history: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, problem in (
        ((tmp_path / "nowhere",), "nowhere is no directory"),
        ((tmp_path / "nowhere", "--repair"), "nowhere is no directory"),
        ((tmp_path / "empty",), "empty holds no history"),
        ((history / "A",), "A is a run's folder in a history"),
        ((history / "A", "--repair"), "A is a run's folder in a history"),
        ((), "Missing argument 'DIR'."),
    ):
        done = run_command(*arguments)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and problem in done.stderr


def test_a_format_of_the_future_is_left_alone(history: Path) -> None:
    path = segments(history, "B")[-1]
    data = bytearray(path.read_bytes())
    footer = frames(path)[-1]
    changed = bytearray(data[footer.at : footer.at + footer.size])
    changed[12] = 2
    import zlib

    changed[-12:-8] = zlib.crc32(bytes(changed[:-12])).to_bytes(4, "little")
    data[footer.at : footer.at + footer.size] = changed
    path.write_bytes(data)
    (history / "B" / "index").unlink()
    for arguments in ((history,), (history, "--repair")):
        done = run_command(*arguments)
        assert done.returncode == 2 and "format 2" in done.stderr and done.stderr.count("\n") == 1
    assert path.read_bytes() == data


def test_a_directory_in_use_is_checked_and_not_repaired(history: Path) -> None:
    with DirectoryLock(history):
        assert run_command(history).returncode == 0
        refused = run_command(history, "--repair")
    assert refused.returncode == 2 and "in use by" in refused.stderr and refused.stderr.count("\n") == 1


# ---- what is found ----


def test_an_index_that_is_damaged_or_gone(history: Path) -> None:
    flip(history / "A" / "index", 40)
    (history / "B" / "index").unlink()
    done = run_command(history)
    assert done.returncode == 1 and done.stdout.startswith("A/index: ")
    assert "B: there is no index" in done.stderr
    before = stored(history)
    mend(history)
    assert run_command(history).stderr.count("index") == 0 and stored(history) == before


def test_an_index_that_says_something_else(history: Path) -> None:
    """It is sound, and not of these files."""
    index = load_index(history / "A")
    assert index is not None
    listed = index.segments[1]
    finding = f"A/index: has other blocks of {listed.name} than their footers tell"
    index.segments[1] = listed._replace(ticks=listed.ticks + 1)
    (history / "A" / "index").write_bytes(pack_index(index))
    assert found(history) == [finding]
    mend(history)
    segment = Segment(segments(history, "A")[1], listed.size)
    entries = load_entries(segment, listed)
    entries[0].last_at += 1
    write_segment_index(segment, entries)
    assert found(history) == [finding]
    mend(history)


def test_a_segments_index_that_is_damaged_or_gone(history: Path) -> None:
    paths = [index_path(path) for path in segments(history, "A")]
    flip(paths[0], 30)
    os.truncate(paths[1], paths[1].stat().st_size - 1)
    paths[2].unlink()
    done = run_command(history)
    assert done.returncode == 1 and done.stdout.splitlines() == [
        f"A/{paths[0].name}: the CRC of a record does not match",
        f"A/{paths[1].name}: {paths[1].name} is cut off",
    ]
    assert f"A/{paths[2].name}: is gone; a gateway makes it anew" in done.stderr
    before = stored(history)
    mend(history)
    assert run_command(history).stderr.count("index") == 0 and stored(history) == before
    paths[0].unlink()
    paths[0].mkdir()
    (finding,) = found(history)
    assert finding.startswith(f"A/{paths[0].name}: ") and "director" in finding


def test_a_segment_that_is_shorter_than_it_was(history: Path) -> None:
    path = segments(history, "A")[1]
    os.truncate(path, path.stat().st_size // 2)
    assert any(re.search(rf"{path.name}: is \d+ bytes shorter than the index says", line) for line in found(history))
    mend(history)
    assert len(stored(history)["A"]) > TICKS // 2


def test_a_deleted_segment_is_a_hole_and_no_damage(history: Path) -> None:
    segments(history, "A")[1].unlink()
    done = run_command(history)
    assert done.returncode == 0 and re.search(
        r"^A: \d+ ticks or more are not stored between \d+ and \d+$", done.stderr, re.M
    )


def test_blocks_that_do_not_belong_there(history: Path) -> None:
    """A file of another run, and one that is there twice: each tick is served once, and a repair takes the rest out."""
    before = stored(history)
    mine, other = segments(history, "A")[0], segments(history, "B")[1]
    (history / "A" / "0000000000000999.jsonl.zst").write_bytes(other.read_bytes())
    (history / "A" / "0000000000000998.jsonl.zst").write_bytes(mine.read_bytes())
    told = found(history)
    assert any("is a block of run B" in line for line in told) and any("once more" in line for line in told)
    assert stored(history)["A"] == before["A"]
    mend(history)
    assert stored(history) == before
    assert {path.name[:16] for path in (history / "A").glob("*.damaged")} == {"0000000000000998", "0000000000000999"}


def test_a_segment_with_a_wrong_name(history: Path) -> None:
    before = stored(history)
    path = segments(history, "B")[1]
    path.rename(path.with_name("0000000000000001.jsonl.zst"))
    assert any("which is not what its name says" in line for line in found(history))
    assert mend(history) and path.exists() and stored(history) == before


def test_bytes_behind_the_end(history: Path) -> None:
    before = stored(history)
    path = segments(history, "A")[0]
    with path.open("ab") as file:
        file.write(b"somebody wrote into it, at length, and with no sense to it" * 5)
    assert any("is not closed" in line for line in found(history))
    mend(history)
    assert stored(history) == before


def test_a_block_that_lost_its_footer_gets_a_new_one(history: Path) -> None:
    before = opened(history)
    path = segments(history, "A")[1]
    footers = [frame for frame in frames(path) if frame.skippable]
    flip(path, footers[0].at + 60)
    assert any("has lost its footer" in line for line in found(history))
    served = opened(history)
    assert served.ticks == before.ticks, "it is served before it is mended"
    assert any("1 block got a new footer" in line for line in mend(history))
    after = opened(history)
    assert after.ticks == before.ticks and not after.damage
    ordinals = [(entry.ordinal, entry.count) for entry in before.runs[0].entries]
    assert [(entry.ordinal, entry.count) for entry in after.runs[0].entries] == ordinals, "there is no hole around it"
    ats, was = after.ats["A"], before.ats["A"]
    assert all(abs(ats[t] - was[t]) < 500 for t in ats) and sorted(ats.values()) == list(ats.values())


def test_an_open_block(tmp_path: Path) -> None:
    """As a crash leaves it, or a copy that was made beside a gateway: it is no damage, and a repair closes it."""
    write(tmp_path / "source", {"A": range(TICKS)})
    path = segments(tmp_path / "source", "A")[-1]
    held = {name: data for name, data in files(tmp_path / "source" / "A").items() if name != "index"}
    held[path.name] = path.read_bytes()[: frames(path)[-2].at + frames(path)[-2].size - 3]
    (tmp_path / "history" / ".lock").parent.mkdir()
    (tmp_path / "history" / ".lock").touch()
    lay(tmp_path / "history" / "A", held)
    report = verify(tmp_path / "history")
    told = rf"A/{path.name}: an open block with \d+ ticks, \d+ bytes from \d+ on, which a gateway closes"
    assert report.findings == [] and any(re.search(told, remark) for remark in report.remarks), report
    live = verify(tmp_path / "history", live=True)
    assert live.findings == [] and any("an open block" in remark for remark in live.remarks)
    assert files(tmp_path / "history" / "A") == held, "looking changes nothing"
    mend(tmp_path / "history")
    assert stored(tmp_path / "history")["A"] == list(range(TICKS))


def test_a_copy_that_is_made_while_a_gateway_writes(tmp_path: Path) -> None:
    """After each flush, of blocks that are closed between them: it is no failure, and a gateway reads all of it."""
    recorder = Recorder(tmp_path / "history", Limits(block_bytes=600, segment_bytes=5000, fsync="never"))
    run = Run("A", 0, 0, 1000)
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / ".lock").touch()
    for t in range(TICKS):
        recorder.write([Batch(run, [PublishedTick(t, tick_of("A", t), 1000 + t)], 0, False, t)])
        copy = tmp_path / f"copy{t}"
        shutil.copytree(tmp_path / "history", copy)
        done = verify(copy)
        assert done.findings == [], f"after {t}"
        if t % 7 == 0:
            assert run_command(copy).returncode == 0
        assert list(opened(copy).ticks["A"]) == list(range(t + 1))
    recorder.close()


def test_damage_in_an_open_block_is_a_finding(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "history", Limits(fsync="never"))
    run = Run("A", 0, 0, 1000)
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / ".lock").touch()
    for t in range(TICKS):
        recorder.write([Batch(run, [PublishedTick(t, tick_of("A", t), 1000 + t)], 0, False, t)])
    (path,) = segments(tmp_path / "history", "A")
    flip(path, path.stat().st_size // 2)
    assert any("is not closed" in line for line in found(tmp_path / "history"))


def test_a_journal_that_is_damaged(history: Path) -> None:
    flip(history / "B" / "journal", 20)
    assert found(history) == ["B/journal: is damaged"]
    before = stored(history)
    mend(history)
    assert stored(history) == before


# ---- what a repair keeps ----


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_wherever_bytes_are_flipped(
    data: st.DataObject, history: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It is found, nothing is served that was not written, and after a repair all is well but what was lost."""
    directory = tmp_path_factory.mktemp("flipped")
    shutil.copytree(history, directory, dirs_exist_ok=True)
    paths = [path for path in directory.rglob("*") if path.is_file() and path.name != ".lock"]
    flips = data.draw(st.integers(1, 3))
    for _ in range(flips):
        path = data.draw(st.sampled_from(sorted(paths)))
        flip(path, data.draw(st.integers(0, path.stat().st_size - 1)))
    for one in directory.glob("*/index"):
        if data.draw(st.booleans()):
            one.unlink()
    before = found(directory)
    mend(directory)
    after = stored(directory)
    assert all(len(ticks) >= TICKS // 3 for ticks in after.values()), "one byte costs one block"
    if any(len(ticks) < TICKS for ticks in after.values()):
        assert before


def test_what_was_published_last_and_is_lost_stays_known(history: Path) -> None:
    """The last block of a run is damaged: after the repair, too, its numbers do not come again."""
    path = segments(history, "B")[-1]
    blocks = [frame for frame in frames(path) if not frame.skippable]
    flip(path, blocks[-1].at + 20)
    mend(history)
    for keep_index in (True, False):
        if not keep_index:
            (history / "B" / "index").unlink()
        run_b = opened(history).runs[1]
        assert (run_b.tip, run_b.total) == (2 * TICKS - 2, TICKS) and run_b.stored < TICKS


def test_a_run_of_which_nothing_is_left(history: Path) -> None:
    for path in segments(history, "A"):
        path.write_bytes(b"\x00" * path.stat().st_size)
    (history / "A" / "index").unlink()
    assert len(found(history)) >= 1
    mend(history)
    assert stored(history)["B"] == list(range(0, 2 * TICKS, 2))


# ---- a repair that is interrupted ----


class Killed(BaseException):
    """The process ends here."""


def spoil(directory: Path) -> None:
    """One of everything: a damaged block, a damaged footer, a wrong name, rubbish at an end, a damaged index."""
    first, second, third = segments(directory, "A")[:3]
    flip(first, 30)
    flip(second, frames(second)[1].at + 40)
    third.rename(third.with_name("0000000000000002.jsonl.zst"))
    with segments(directory, "B")[0].open("ab") as file:
        file.write(b"rubbish" * 40)
    flip(directory / "B" / "index", 50)


def dying(disk: Disk, directory: Path, last: int) -> None:
    disk.calls, disk.dies = 0, (last, Killed)
    with pytest.raises(Killed), DirectoryLock(directory):
        list(repair(directory))
    disk.dies = None


def test_it_may_die_at_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch, tmp_path)

    def spoiled(name: str) -> Path:
        write(tmp_path / name, {"A": range(TICKS), "B": range(0, 2 * TICKS, 2)}, segment_bytes=1200)
        spoil(tmp_path / name)
        return tmp_path / name

    expected_at = spoiled("whole")
    disk.calls = 0
    mend(expected_at)
    calls, expected = disk.calls, stored(expected_at)
    assert calls > 10
    for last in range(1, calls + 1):
        directory = spoiled(f"dies-{last}")
        disk.calls, disk.dies = 0, (last, Killed)
        try:
            with DirectoryLock(directory):
                list(repair(directory))
        except Killed:
            pass
        disk.dies = None
        served = stored(directory)
        assert all(set(served[name]) == set(expected[name]) for name in served), f"after call {last}"
        mend(directory)
        assert stored(directory) == expected, f"after call {last}: {disk.names[last - 1]}"


# ---- beside a gateway ----


@pytest.fixture
def deleting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """A gateway that deletes a segment while it is looked at."""
    from tick_gateway.history.local import verify as module

    def between(path: Path) -> None:
        inner = module._holes

        def holes(run: object) -> Iterator[str]:
            path.unlink(missing_ok=True)
            return inner(run)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "_holes", holes)

    yield between


def test_what_is_deleted_meanwhile(history: Path, deleting: Callable[[Path], None]) -> None:
    path = segments(history, "A")[1]
    deleting(path)
    report = verify(history, live=True)
    assert report.findings == [] and f"A/{path.name}: was deleted meanwhile" in report.remarks


def test_the_lines_are_those_that_zstdcat_prints(history: Path) -> None:
    assert [tick_of("A", t) for t in stored(history)["A"]] == lines(history, "A")
