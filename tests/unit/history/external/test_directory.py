"""Files of another program: which runs they make, in which order, and what becomes of them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.support.backend import Writer, frame, line_of, run_of
from tick_gateway.history.external import file_registry as registry
from tick_gateway.history.external import receive_times as times
from tick_gateway.history.external.directory import FileGone, SourceDirectory
from tick_gateway.history.external.file_content import natural
from tick_gateway.history.external.frames import FrameDecoder
from tick_gateway.history.external.run_splitter import TickSequence
from tick_gateway.history.external.source_file import SourceFile
from tick_gateway.model.tick import RUN_ID

MAX_TICK = 4096


class Reading:
    """A directory that is read, and what came of it."""

    def __init__(self, path: Path, **options: float) -> None:
        self.path = path
        self.directory = SourceDirectory(path, MAX_TICK, look_seconds=0)
        self.ticks: list[tuple[str, int, bytes]] = []
        self.gone: list[str] = []
        self.sequences: list[TickSequence] = []

    def read(self) -> list[tuple[str, int]]:
        """What came since the last time: runs and numbers."""
        before = len(self.ticks)
        while events := self.directory.read():
            for event in events:
                if isinstance(event, FileGone):
                    self.gone.append(event.file.name)
                else:
                    self.sequences.append(event)
                    self.ticks += zip([event.run.id] * len(event.ts), event.ts, event.lines, strict=True)
        return [(run, t) for run, t, _ in self.ticks[before:]]

    def ts(self) -> list[int]:
        return [t for _, t in self.read()]

    def reopen(self) -> None:
        """Go on as another process would."""
        note = json.loads(json.dumps(self.directory.note()))
        self.directory.close()
        self.directory = SourceDirectory(self.path, MAX_TICK, note, look_seconds=0)


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return Reading(tmp_path)


@pytest.mark.parametrize("ending", [".jsonl.zst", ".jsonl"])
def test_a_file_that_grows(reading: Reading, ending: str) -> None:
    assert reading.ts() == []
    with Writer(reading.path / f"a{ending}") as writer:
        assert reading.ts() == []
        for t in range(0, 50, 5):
            writer.write(line_of(t))
            assert reading.ts() == [t]
    assert reading.ts() == []


def test_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    reading = Reading(tmp_path / "later")
    assert reading.ts() == []
    reading.path.mkdir()
    with Writer(reading.path / "a.jsonl") as writer:
        writer.write(line_of(0))
        assert reading.ts() == [0]
    shutil.rmtree(reading.path)
    assert reading.ts() == []
    assert reading.gone == ["a.jsonl"]
    reading.path.mkdir()
    with Writer(reading.path / "a.jsonl") as writer:
        writer.write(line_of(7))
    assert reading.ts() == [7]


def test_the_order_of_names() -> None:
    names = ["b", "a10", "a9", "a09", "a", "a1b2", "a1b10", "10", "9", "A2", "a-2"]
    assert sorted(names, key=natural) == ["9", "10", "A2", "a", "a1b2", "a1b10", "a09", "a9", "a10", "a-2", "b"]


def test_files_in_the_order_of_their_names(reading: Reading) -> None:
    for number in (10, 9, 100):
        with Writer(reading.path / f"s{number}.jsonl{'.zst' if number == 9 else ''}") as writer:
            writer.write(line_of(number), line_of(number + 1))
    (reading.path / "s1.txt").write_bytes(line_of(0))
    (reading.path / "s2.jsonl").mkdir()
    assert reading.ts() == [9, 10, 11, 100, 101]
    assert {run for run, _, _ in reading.ticks} == {run_of("s9", line_of(9))}
    with Writer(reading.path / "s1.jsonl") as writer:
        writer.write(line_of(200))
    assert reading.ts() == [200], "what appears later is newer"


def test_where_t_falls_a_run_begins(reading: Reading) -> None:
    lines = [line_of(t, serial) for serial, t in enumerate((0, 5, 10, 0, 5, 3))]
    with Writer(reading.path / "a b.jsonl") as writer:
        writer.write(*lines)
    runs = [run_of("a_b", lines[at]) for at in (0, 0, 0, 3, 3, 5)]
    assert reading.read() == list(zip(runs, (0, 5, 10, 0, 5, 3), strict=True))


def test_runs_that_begin_alike(reading: Reading) -> None:
    """A simulation without chance: its lives begin with the same line."""
    with Writer(reading.path / "a.jsonl") as writer:
        for _ in range(3):
            writer.write(line_of(0), line_of(1))
    name = run_of("a", line_of(0))
    assert reading.read() == [(run, t) for run in (name, f"{name}-2", f"{name}-3") for t in (0, 1)]


@pytest.mark.parametrize(
    "stem", ["x" * 200, "-.hidden", "日本", "a/b".replace("/", ":"), "seg_1", "_", "ä1"], ids=["long", *"bcdefg"]
)
def test_every_file_makes_a_name(reading: Reading, stem: str) -> None:
    with Writer(reading.path / f"{stem}.jsonl") as writer:
        for _ in range(3):
            writer.write(line_of(0), line_of(1))
    assert len(names := {run for run, _ in reading.read()}) == 3
    assert all(RUN_ID.fullmatch(name) for name in names)


def test_the_same_tick_again(reading: Reading, caplog: pytest.LogCaptureFixture) -> None:
    with Writer(reading.path / "a.jsonl") as writer:
        writer.write(line_of(4), line_of(4), line_of(5), line_of(5), line_of(5, 1), line_of(6))
        assert reading.ts() == [4, 5, 6]
        reading.reopen()
        writer.write(line_of(6), line_of(7))
    assert reading.ts() == [7]
    assert reading.directory.splitter.skipped == 0
    assert "a.jsonl, line 5: tick 5 comes twice" in caplog.text


def test_a_life_of_one_tick(reading: Reading) -> None:
    with Writer(reading.path / "a.jsonl") as writer:
        writer.write(line_of(0, 1), line_of(0, 2), line_of(0, 3), line_of(1, 4))
    assert [run for run, _ in reading.read()] == [run_of("a", line_of(0, s)) for s in (1, 2, 3, 3)]


def test_bad_lines_are_told_once_a_file(reading: Reading, caplog: pytest.LogCaptureFixture) -> None:
    bad = [b"nonsense", b"[1]", b"{}", b'{"t":-1}', b'{"t":1.5}', b'{"t":NaN}', b"\xff", b'{"t":2,"x":"' + b"x" * 9000]
    for name in ("a.jsonl", "b.jsonl.zst"):
        with Writer(reading.path / name) as writer:
            writer.write(line_of(ord(name[0])), b"", b"  ", *bad, line_of(ord(name[0]) + 10))
    assert reading.ts() == [97, 107, 98, 108]
    assert reading.directory.splitter.skipped == 2 * len(bad)
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition(":")[0] for text in told] == ["a.jsonl, line 4", "b.jsonl.zst, line 4"]


def test_white_space_around_ticks(reading: Reading) -> None:
    (reading.path / "a.jsonl").write_bytes(b' {"t":1}\r\n\r\n\t{"t":2} \n{"t":3}\r\n')
    reading.read()
    assert [line for _, _, line in reading.ticks] == [b'{"t":1}', b'{"t":2}', b'{"t":3}']


def test_a_line_that_is_not_ended(reading: Reading) -> None:
    """It is a tick where a newer file follows, or reading ends there; not before: it may be half of one."""
    (reading.path / "a.jsonl").write_bytes(b'{"t":1}\n{"t":2}')
    assert reading.ts() == [1]
    (reading.path / "b.jsonl").write_bytes(b'{"t":3}\n{"t":4}')
    assert reading.ts() == [2, 3]
    assert [event.ts for event in reading.directory.finish() if isinstance(event, TickSequence)] == [[4]]
    with (reading.path / "b.jsonl").open("ab") as file:
        file.write(b'\n{"t":5}\n')
    assert reading.ts() == [5]


def test_a_line_that_is_torn_at_the_end_of_a_file(reading: Reading, caplog: pytest.LogCaptureFixture) -> None:
    (reading.path / "a.jsonl").write_bytes(b'{"t":1}\n{"t":2,"x"')
    (reading.path / "b.jsonl").write_bytes(b'{"t":3}\n')
    assert reading.ts() == [1, 3]
    assert "a.jsonl, line 2: the line was never ended" in caplog.text


def test_a_backend_that_is_killed_and_appends(reading: Reading, caplog: pytest.LogCaptureFixture) -> None:
    path = reading.path / "a.jsonl.zst"
    for life in range(3):
        writer = Writer(path)
        writer.write(*(line_of(t, life, 100) for t in range(4)))
        writer.die(line_of(4, life, 100), 0.7)
    assert reading.ts() == [0, 1, 2, 3] * 3
    assert "belong to no whole zstd frame" in caplog.text


def test_zstd_that_is_none_is_told(reading: Reading, caplog: pytest.LogCaptureFixture) -> None:
    (reading.path / "a.jsonl.zst").write_bytes(b'{"t":1}\n')
    damaged = bytearray(frame(*(line_of(t, t, 400, noise=True) for t in range(9))))
    damaged[len(damaged) // 2 : len(damaged) // 2 + 250] = bytes(250)
    (reading.path / "b.jsonl.zst").write_bytes(damaged)
    ts = reading.ts()
    assert ts == list(range(len(ts))) and 2 <= len(ts) <= 4
    told = [record.getMessage() for record in caplog.records]
    assert told[0].startswith("a.jsonl.zst: byte 0 belongs to no zstd frame")
    assert told[1].startswith("b.jsonl.zst: byte ")
    with (reading.path / "b.jsonl.zst").open("ab") as file:
        file.write(frame(line_of(9)))
    assert reading.ts() == [9]
    assert len(caplog.records) == 2, "once a file"


def test_lines_without_end_do_not_fill_memory(reading: Reading) -> None:
    path = reading.path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"t":1}\n')
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(b'\n{"t":2}\n')
    peak = 0
    file_ = SourceFile(path, MAX_TICK)
    while file_.pull():
        found = file_.take()
        peak = max(peak, sum(map(len, found.lines)))
    file_.close()
    assert peak < 1 << 20
    assert reading.ts() == [1, 2]
    reading.reopen()
    with path.open("ab") as file:
        file.write(b'{"t":3}\n')
    assert reading.ts() == [3], "offsets count what was not kept"


def test_a_file_that_is_begun_anew(reading: Reading) -> None:
    path = reading.path / "a.jsonl.zst"
    with Writer(path) as writer:
        writer.write(*(line_of(t) for t in range(10)))
    assert reading.ts() == list(range(10))
    with Writer(path, anew=True) as writer:
        writer.write(line_of(0), line_of(1))
        first = run_of("a", line_of(0))
        assert reading.read() == [(f"{first}-2", 0), (f"{first}-2", 1)]
    assert reading.gone == ["a.jsonl.zst"]


def test_an_older_file_that_is_begun_anew(reading: Reading) -> None:
    """A backend that starts over and overwrites its first segment, while others still stand."""
    for number in range(3):
        with Writer(reading.path / f"s{number}.jsonl") as writer:
            writer.write(*(line_of(number * 10 + t, number) for t in range(10)))
    assert reading.ts() == list(range(30))
    with Writer(reading.path / "s0.jsonl", anew=True) as writer:
        writer.write(line_of(0, 7), line_of(1, 7))
        assert reading.read() == [(run_of("s0", line_of(0, 7)), t) for t in (0, 1)]
        writer.write(line_of(2, 7))
        assert reading.ts() == [2]


AGAIN = pytest.mark.parametrize("again", [False, True], ids=["same process", "another process"])


def three_files(reading: Reading) -> list[Path]:
    """A life of 90 ticks in three files, which were read."""
    for number in range(3):
        with Writer(reading.path / f"s{number}.jsonl.zst") as writer:
            writer.write(*(line_of(number * 30 + t, 0, 200) for t in range(30)))
    assert reading.ts() == list(range(90))
    return [reading.path / f"s{number}.jsonl.zst" for number in range(3)]


@AGAIN
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("size", [0.6, 0.99])
def test_a_file_that_is_cut_is_not_read_again(reading: Reading, again: bool, number: int, size: float) -> None:
    """As by somebody who tries what a torn frame does, or a backend that takes back what it had not finished."""
    path = three_files(reading)[number]
    if again:
        reading.reopen()
    os.truncate(path, int(path.stat().st_size * size))
    assert reading.read() == [] and reading.gone == []
    with Writer(path) as writer:
        writer.write(line_of(0, 7), line_of(1, 7))
    assert reading.read() == [(run_of(f"s{number}", line_of(0, 7)), t) for t in (0, 1)]
    reading.reopen()
    assert reading.read() == []


@AGAIN
@pytest.mark.parametrize("number", range(3))
def test_a_file_that_was_away_is_not_read_again(reading: Reading, tmp_path: Path, again: bool, number: int) -> None:
    """Moved out of the directory, which is looked at meanwhile, and back; or deleted, and restored from a copy."""
    path = three_files(reading)[number]
    away = tmp_path / "away"
    path.rename(away)
    with Writer(reading.path / "s3.jsonl.zst") as writer:
        writer.write(line_of(100))
        assert reading.ts() == [100]
        if again:
            reading.reopen()
        shutil.copyfile(away, path)
        assert reading.ts() == []
        writer.write(line_of(101))
        assert reading.ts() == [101]
    with Writer(path) as writer:
        writer.write(line_of(102))
    assert reading.ts() == [102], "what it has more than before is new"
    assert {run for run, _, _ in reading.ticks} == {run_of("s0", line_of(0, 0, 200))}


def test_a_directory_that_is_empty_for_a_while(reading: Reading, tmp_path: Path) -> None:
    """What it lies on is not mounted yet when the gateway starts again."""
    three_files(reading)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for path in sorted(reading.path.glob("s*")):
        path.rename(mounted / path.name)
    for _ in range(2):
        reading.reopen()
        assert reading.ts() == []
    for path in sorted(mounted.iterdir()):
        shutil.copy2(path, reading.path)
    assert reading.ts() == []
    with Writer(reading.path / "s2.jsonl.zst") as writer:
        writer.write(line_of(90))
    assert reading.ts() == [90]


def test_of_files_that_were_taken_away_some_are_remembered(reading: Reading) -> None:
    for number in range(registry._MOST_GONE + 20):
        with Writer(reading.path / f"s{number}.jsonl") as writer:
            writer.write(line_of(number))
        assert reading.ts() == [number]
        (reading.path / f"s{number - 1}.jsonl").unlink(missing_ok=True)
    assert len(reading.directory.note()["gone"]) == registry._MOST_GONE


def test_a_file_that_is_replaced_by_another_one(reading: Reading) -> None:
    path = reading.path / "a.jsonl"
    with Writer(path) as writer:
        writer.write(line_of(0), line_of(1))
        assert reading.ts() == [0, 1]
    with Writer(reading.path / "new") as writer:
        writer.write(line_of(0, 5), line_of(1, 5), line_of(2, 5))
    (reading.path / "new").replace(path)
    assert reading.ts() == [0, 1, 2]
    assert reading.gone == ["a.jsonl"]


@pytest.mark.parametrize("level", [1, 19])
def test_a_file_that_is_compressed_when_it_is_done(reading: Reading, level: int) -> None:
    lines = [line_of(t, t, 50) for t in range(40)]
    plain, packed = reading.path / "a.jsonl", reading.path / "a.jsonl.zst"
    with Writer(plain) as writer:
        writer.write(*lines[:20])
    assert reading.ts() == list(range(20))
    with Writer(plain) as writer:
        writer.write(*lines[20:30])
    packed.write_bytes(zstandard.compress(b"\n".join([*lines, b""]), level))
    assert reading.ts() == list(range(20, 30)), "the copy is not read while the file stands"
    plain.unlink()
    assert reading.ts() == list(range(30, 40))
    packed.write_bytes(zstandard.compress(b"\n".join([*lines, b""]), 20 - level))
    assert reading.ts() == []
    assert reading.gone == []


def test_a_file_that_is_renamed_when_it_is_done(reading: Reading) -> None:
    current = reading.path / "current.jsonl.zst"
    for number in range(4):
        writer = Writer(current)
        writer.write(*(line_of(number * 3 + t) for t in range(2)))
        assert reading.ts()[-2:] == [number * 3, number * 3 + 1]
        current.rename(reading.path / f"done_{number}.jsonl.zst")
        writer.write(line_of(number * 3 + 2))
        writer.close()
        if number % 2:
            assert reading.ts() == [number * 3 + 2]
        else:
            reading.reopen()
    assert [t for _, t, _ in reading.ticks] == list(range(12))
    assert reading.gone == []


def test_a_file_that_grows_again(reading: Reading) -> None:
    """The order of names is not that of time: the file that grows is the newest."""
    for name in ("a", "b"):
        with Writer(reading.path / f"{name}.jsonl") as writer:
            writer.write(line_of(0, ord(name)), line_of(1, ord(name)))
    assert reading.ts() == [0, 1, 0, 1]
    with Writer(reading.path / "a.jsonl") as writer:
        writer.write(line_of(2))
        assert reading.ts() == [2]
        writer.write(line_of(3))
        assert reading.ts() == [3]


def test_a_new_file_before_the_old_one_is_done(reading: Reading) -> None:
    old = Writer(reading.path / "s9.jsonl.zst")
    old.write(line_of(0))
    assert reading.ts() == [0]
    new = Writer(reading.path / "s10.jsonl.zst")
    assert reading.ts() == []
    old.write(line_of(1))
    assert reading.ts() == [1]
    old.write(line_of(2))
    new.write(line_of(3))
    old.close()
    assert reading.ts() == [2, 3]
    new.write(line_of(4))
    new.close()
    assert reading.ts() == [4]


def test_times_are_spread_from_the_birth_of_a_file(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    """To its last change; what is appended, from there to the next one."""
    monkeypatch.setattr(times, "born", lambda path: 1_000_000)
    path = reading.path / "a.jsonl"
    for number in range(2):
        with Writer(path) as writer:
            writer.write(*(line_of(number * 300 + t, 0, 3000) for t in range(300)))
        os.utime(path, (0, 2000 + number * 1000))
        reading.read()
    ats = {sequence.ts[0]: sequence.ats for sequence in reading.sequences}
    assert (min(ats.values())[0], max(ats.values())[1]) == (1_000_000, 3_000_000)
    for t in (t for t in ats if t % 300):
        assert abs(ats[t][0] - (1_000_000 + t * 1_000_000 / 300)) < 50_000


def test_the_birth_of_a_copy_says_nothing(reading: Reading) -> None:
    path = reading.path / "a.jsonl"
    with Writer(path) as writer:
        writer.write(*map(line_of, range(3)))
    os.utime(path, (0, 2000))
    reading.read()
    assert [sequence.ats for sequence in reading.sequences] == [(2_000_000, 2_000_000)]


def test_a_clock_that_is_ahead_does_not_move_time_forward(reading: Reading) -> None:
    path = reading.path / "a.jsonl"
    with Writer(path) as writer:
        writer.write(line_of(1))
    os.utime(path, (0, time.time() + 1000))
    reading.read()
    assert reading.sequences[0].ats[1] <= time.time() * 1000


def test_times_are_spread_between_those_of_files(reading: Reading) -> None:
    for number in range(3):
        path = reading.path / f"s{number}.jsonl"
        with Writer(path) as writer:
            writer.write(*(line_of(number * 100 + t, 0, 3000) for t in range(100)))
        os.utime(path, (0, 1000 + number * 10))
    reading.read()
    ats = [at for sequence in reading.sequences for at in sequence.ats]
    assert ats == sorted(ats)
    assert (ats[0], ats[-1]) == (1_000_000, 1_020_000)
    third = [at for sequence in reading.sequences if sequence.ts[0] >= 200 for at in sequence.ats]
    assert third[0] <= 1_010_200 and len(set(third)) > 2


# ---- everything at once ----


class Backend(RuleBasedStateMachine):
    """A backend and its operator do what they please; every tick comes once and in order, whoever reads."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.reading = Reading(self.folder)
        self.wanted: list[tuple[int, bytes]] = []
        self.t = 0
        self.serial = 0
        self.number = 0
        self.safe: list[Path] = []  # files that were read to their end and are not written to
        self.done: list[Path] = []  # those that are not written to
        self.writer = self._new(True)

    def _new(self, packed: bool) -> Writer:
        self.number += 1
        return Writer(self.folder / f"s{self.number}.jsonl{'.zst' if packed else ''}")

    def _line(self, step: int, size: int) -> bytes:
        self.serial += 1
        line = line_of(self.t, self.serial, size, noise=self.serial % 3 == 0)
        self.t += step
        return line

    @rule(count=st.integers(1, 6), step=st.sampled_from((1, 1, 5)), size=st.sampled_from((0, 30, 500)))
    def write(self, count: int, step: int, size: int) -> None:
        for _ in range(count):
            t, line = self.t, self._line(step, size)
            self.writer.write(line)
            self.wanted.append((t, line))

    @rule(packed=st.booleans())
    def rotate(self, packed: bool) -> None:
        self.writer.close()
        self.done.append(self.writer.path)
        self.writer = self._new(packed)

    @rule()
    def end_frame(self) -> None:
        self.writer.end_frame()

    @rule(share=st.floats(0, 1), packed=st.booleans(), again=st.booleans(), over=st.booleans())
    def killed(self, share: float, packed: bool, again: bool, over: bool) -> None:
        """It dies while it writes a line, and comes back in the same file or in another one."""
        before, path = self.t, self.writer.path
        self.writer.die(self._line(1, 40), share)
        self.t = 0 if over else before
        if again and self.writer.zstd:
            self.writer = Writer(path)
        else:
            self.done.append(path)
            self.writer = self._new(packed)

    @rule()
    def starts_over(self) -> None:
        self.t = 0

    @rule()
    def read(self) -> None:
        self.reading.read()
        self.safe = list(self.done)

    @rule()
    def restart_of_the_gateway(self) -> None:
        self.reading.reopen()

    @precondition(lambda self: self.safe)
    @rule(index=st.integers(0, 99), how=st.sampled_from(("delete", "rename", "compress", "compress again")))
    def tidy(self, index: int, how: str) -> None:
        path = self.safe.pop(index % len(self.safe))
        self.done.remove(path)
        if how == "delete":
            path.unlink()
        elif how == "rename":
            path.rename(path.with_name(path.name.replace(".", "x.", 1)))
        elif path.name.endswith(".jsonl"):
            path.with_name(path.name + ".zst").write_bytes(zstandard.compress(path.read_bytes()))
            path.unlink()
        elif how == "compress again":
            new = path.with_name("new")
            new.write_bytes(zstandard.compress(FrameDecoder().feed(path.read_bytes()), 9))
            new.replace(path)

    @precondition(lambda self: self.reading.ticks and len(self.reading.ticks) == len(self.wanted))
    @rule()
    def overwrite(self) -> None:
        """It begins its newest file anew, all of which was read."""
        self.writer.close()
        self.writer = Writer(self.writer.path, anew=True)
        self.t = 0

    def teardown(self) -> None:
        self.reading.read()
        self.writer.close()
        self.reading.read()
        self.reading.directory.close()
        shutil.rmtree(self.folder)
        got = [(t, line) for _, t, line in self.reading.ticks]
        at = next((at for at, (one, other) in enumerate(zip(got, self.wanted, strict=False)) if one != other), None)
        at = min(len(got), len(self.wanted)) if at is None else at
        assert got == self.wanted, f"{len(got)} of {len(self.wanted)}; they part at {at}"
        runs = [run for run, _, _ in self.reading.ticks]
        falls = [at for at in range(1, len(got)) if got[at][0] <= got[at - 1][0]]
        assert [at for at in range(1, len(runs)) if runs[at] != runs[at - 1]] == falls
        assert len(set(runs)) == len(falls) + bool(runs), "no name comes twice"


Backend.TestCase.settings = settings(
    deadline=None, max_examples=60, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]
)
test_everything_at_once = Backend.TestCase
