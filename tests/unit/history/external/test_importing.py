"""``tick-gateway import``: another program's files into history, whatever interrupts it."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.support.backend import Writer, line_of, run_of
from tests.support.blocking_client import ask, request
from tests.support.gateway_process import GatewayProcess, Running, publish
from tests.support.recorded import stored
from tick_gateway.errors import HistoryError
from tick_gateway.history.external import importing
from tick_gateway.history.external.directory import SourceDirectory
from tick_gateway.history.local.active_segment import ActiveSegment
from tick_gateway.history.local.limits import Limits
from tick_gateway.history.local.lock import DirectoryLock
from tick_gateway.history.local.recorder import Recorder

MAX_TICK = 1 << 20
SMALL = Limits(block_bytes=2000, segment_bytes=8000, level=1, fsync="never")


class Backend:
    """A directory with some runs in it, and what they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wanted: list[tuple[str, int, bytes]] = []
        self._serial = 0
        self._run = ""
        self._tip = -1
        folder.mkdir()

    def write(self, name: str, numbers: range) -> None:
        with Writer(self.folder / name) as writer:
            for t in numbers:
                self._serial += 1
                line = line_of(t, self._serial, 60, noise=True)
                if t <= self._tip or not self._run:
                    self._run = run_of(name.partition(".")[0], line)
                self._tip = t
                writer.write(line)
                self.wanted.append((self._run, t, line))

    def lives(self) -> None:
        """Three runs in four files."""
        self.write("s1.jsonl.zst", range(300))
        self.write("s2.jsonl", range(300, 500))
        self.write("s2.jsonl", range(0, 100, 5))
        self.write("s10.jsonl.zst", range(100, 600, 5))
        self.write("s11.jsonl.zst", range(50, 200))


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    return Backend(tmp_path / "backend")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "history"


def import_files(backend: Backend, data: Path) -> importing.ImportResult:
    directory, result = importing.import_files(backend.folder, data, SMALL, MAX_TICK)
    directory.close()
    return result


def test_everything_is_brought_once(backend: Backend, data: Path) -> None:
    backend.lives()
    assert str(import_files(backend, data)) == f"{len(backend.wanted)} ticks of 3 runs; 0 bad lines"
    assert stored(data) == backend.wanted
    assert str(import_files(backend, data)) == "0 ticks of 0 runs; 0 bad lines"
    (data / importing.NOTE).unlink()
    again = import_files(backend, data)
    assert (again.ticks, again.known) == (0, len(backend.wanted))
    assert stored(data) == backend.wanted


def test_a_run_that_goes_on_is_continued(backend: Backend, data: Path) -> None:
    for numbers in (range(10), range(10, 20), range(20, 30)):
        backend.write("a.jsonl.zst", numbers)
        assert import_files(backend, data).ticks == 10
        if numbers.start == 10:
            (data / importing.NOTE).unlink()
    assert stored(data) == backend.wanted
    assert len({run for run, _, _ in backend.wanted}) == 1


def test_what_came_behind_a_run_closes_it(backend: Backend, data: Path) -> None:
    """Others published in between: runs never open again, so that the rest is another run."""
    backend.write("a.jsonl", range(10))
    import_files(backend, data)
    other = Backend(data.with_name("other"))
    other.write("b.jsonl", range(5))
    import_files(other, data)
    first = backend.wanted[0][0]
    backend.write("a.jsonl", range(10, 15))
    assert import_files(backend, data).ticks == 5
    found = stored(data)
    assert [(run, t) for run, t, _ in found[-5:]] == [(f"{first}-2", t) for t in range(10, 15)]
    (data / importing.NOTE).unlink()
    assert import_files(backend, data).ticks == 0
    assert stored(data) == found


class Stopped(BaseException):
    """The process dies here."""


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A process that dies at a step; ``[steps that are left]``."""
    left = [1 << 60]

    def step() -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise Stopped

    def around(owner: object, name: str, *, after: bool) -> None:
        inner = getattr(owner, name)

        def call(*arguments: object, **named: object) -> object:
            step()
            result = inner(*arguments, **named)
            if after:
                step()
            return result

        monkeypatch.setattr(owner, name, call)

    for name in ("write", "end", "_close_block", "_seal"):
        around(Recorder, name, after=True)
    around(ActiveSegment, "flush", after=True)
    around(importing, "write_note", after=True)
    around(SourceDirectory, "read", after=True)
    monkeypatch.setattr(importing, "_NOTE_SECONDS", 0.0)
    monkeypatch.setattr(importing, "_NOTE_SHARE", float("inf"))  # however long a note takes
    close = Recorder.close

    def dead(recorder: Recorder) -> None:
        if left[0] > 0:
            close(recorder)
        else:
            recorder._drop_files()  # who is dead writes nothing more

    monkeypatch.setattr(Recorder, "close", dead)
    yield left


def test_it_may_die_at_any_step(backend: Backend, data: Path, dying: list[int]) -> None:
    backend.lives()
    before = dying[0]
    import_files(backend, data)
    steps = before - dying[0]
    assert steps > 30
    for at in range(1, steps + 1):
        shutil.rmtree(data)
        dying[0] = at
        with pytest.raises(Stopped):
            import_files(backend, data)
        dying[0] = 1 << 60
        import_files(backend, data)
        assert stored(data) == backend.wanted, f"it died at step {at}"


def test_it_may_die_again_and_again(backend: Backend, data: Path, dying: list[int]) -> None:
    backend.lives()
    turns = random.Random(7)
    deaths = 0
    while True:
        dying[0] = turns.randrange(12, 22)
        try:
            import_files(backend, data)
            break
        except Stopped:
            deaths += 1
            assert backend.wanted[: len(stored(data))] == stored(data), "nothing is torn, nothing is out of order"
    assert deaths > 2
    assert stored(data) == backend.wanted


def test_a_note_that_says_more_than_history_has(backend: Backend, data: Path) -> None:
    """As after a loss of power: what is missing is read again."""
    backend.write("a.jsonl", range(3000))
    import_files(backend, data)
    (run,) = [path for path in data.iterdir() if path.is_dir()]
    sealed = sorted(run.glob("*.zst"))
    for path in sealed[len(sealed) // 2 :]:
        path.unlink()
    (run / "index").unlink()
    assert 0 < len(stored(data)) < 3000
    import_files(backend, data)
    assert stored(data) == backend.wanted


def test_a_note_that_is_lost_and_files_that_were_deleted(backend: Backend, data: Path) -> None:
    """The files in which a run begins name it: what is left of it is known by its ticks."""
    for number in range(4):
        backend.write(f"s{number}.jsonl.zst", range(number * 10, number * 10 + 10))
    import_files(backend, data)
    before = stored(data)
    for number in range(2):
        (backend.folder / f"s{number}.jsonl.zst").unlink()
    (data / importing.NOTE).write_bytes(b"")
    again = import_files(backend, data)
    assert (again.ticks, again.known) == (0, 20) and stored(data) == before
    (data / importing.NOTE).unlink()
    backend.write("s3.jsonl.zst", range(40, 45))
    assert import_files(backend, data).ticks == 5
    assert [t for _, t, _ in stored(data)] == list(range(45)) and len({run for run, _, _ in stored(data)}) == 1


def test_a_note_of_another_directory_and_one_that_is_none(backend: Backend, data: Path) -> None:
    backend.write("a.jsonl", range(5))
    import_files(backend, data)
    other = Backend(data.with_name("other"))
    other.write("b.jsonl", range(5))
    import_files(other, data)
    for note in ("", "[]", "{", '{"version":1}', json.dumps({"version": 99, "directory": str(backend.folder)})):
        (data / importing.NOTE).write_text(note)
        assert import_files(other, data).ticks == 0
    assert stored(data) == backend.wanted + other.wanted


def _stored_bytes(data: Path) -> int:
    """What its segments take; one that holds nothing yet may go while it is looked at."""
    total = 0
    for path in data.rglob("*.zst"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def test_killed_and_started_again(command: Command, backend: Backend, data: Path) -> None:
    for number in range(8):
        backend.write(f"s{number}.jsonl.zst", range(number * 4000, number * 4000 + 4000))
    turns = random.Random()
    kills = 0
    for _ in range(5):
        process = Running([sys.executable, "-m", "tick_gateway", "import", backend.folder, "--data", data])
        size = turns.randrange(400_000)
        while process.process.poll() is None:  # a moment that its own progress sets
            if _stored_bytes(data) >= size:
                process.kill()
                kills += 1
        process.wait()
    done = command("import", backend.folder, "--data", data)
    assert done.code == 0, done
    assert kills and stored(data) == backend.wanted


def test_the_command(backend: Backend, data: Path) -> None:
    backend.lives()
    with (backend.folder / "s12.jsonl").open("wb") as file:
        file.write(b'nonsense\n{"t":1}\nmore\n{"t":2}')
    with Running([sys.executable, "-m", "tick_gateway", "import", backend.folder, "--data", data]) as process:
        assert process.wait() == 0 and not process.stdout.lines
    warning, summary = process.stderr.lines
    assert warning.startswith("s12.jsonl, line 1: not valid JSON")
    assert summary == f"{len(backend.wanted) + 2} ticks of 4 runs; 2 bad lines, in {data}"
    with GatewayProcess("serve", "--data", str(data)) as gateway:
        runs = ask(gateway.port, request("GET", "/runs")).json()["runs"]
        assert [(run["first"], run["last"], run["count"]) for run in runs] == [
            (0, 499, 500),
            (0, 595, 120),
            (50, 199, 150),
            (1, 2, 2),
        ]
        body = ask(gateway.port, request("GET", f"/ticks/123?run={runs[0]['run']}")).body
        assert body == backend.wanted[123][2]


def test_what_cannot_be_done_is_said_in_one_line(
    command: Command, backend: Backend, data: Path, tmp_path: Path
) -> None:
    def refused(*arguments: str | Path) -> str:
        done = command("import", *arguments)
        assert (done.code, done.out) == (2, "") and done.err.count("\n") == 1, done
        return done.err

    backend.write("a.jsonl", range(3))
    assert "no directory" in refused(tmp_path / "nothing", "--data", data)
    assert "no directory" in refused(backend.folder / "a.jsonl", "--data", data)
    assert "--data" in refused(backend.folder)
    assert "directory that history is kept in" in refused(backend.folder, "--data", tmp_path)
    assert "bytes" in refused(backend.folder, "--data", data, "--max-tick", "many")
    assert "--data: names no directory" in refused(backend.folder, "--data", "")
    assert "--data: " in refused(backend.folder, "--data", backend.folder / "a.jsonl")
    assert "a.jsonl is no directory" in refused(backend.folder, "--data", backend.folder / "a.jsonl")
    done = command("import", backend.folder, "--data", tmp_path / "own")
    assert done.code == 0 and "own is a history already: a gateway serves it with --data" in refused(
        tmp_path / "own", "--data", data
    )
    (tmp_path / "above" / "run").mkdir(parents=True)
    (tmp_path / "above" / "run" / "a.jsonl").write_bytes(b'{"t":1}\n')
    assert "has no *.jsonl.zst and no *.jsonl at its top" in refused(tmp_path / "above", "--data", data)
    with GatewayProcess("serve", "--data", str(data)) as gateway:
        publish(gateway.url, ['{"t":1}'])
        assert "in use by process" in refused(backend.folder, "--data", data)


def test_a_locked_history_in_python(backend: Backend, data: Path) -> None:
    with DirectoryLock(data), pytest.raises(HistoryError, match="in use"):
        import_files(backend, data)
