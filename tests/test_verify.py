"""``tick-gateway verify``: what is wrong is found, what can be mended is, and what was sound stays as it was."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.events import Ledger
from tests.history_files import lines, segments, whole
from tests.made_history import tick_of, write
from tick_gateway.history.catalog import locked, read_directory
from tick_gateway.history.segment import Foot
from tick_gateway.history.verify import DAMAGED_SUFFIX, repair, verify

DOCS = Path(__file__).parent.parent / "docs"
TICKS = 60


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tick_gateway", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Two runs, of which the first is over, in several segments of several blocks."""
    directory = tmp_path / "history"
    write(directory, {"A": range(TICKS), "B": range(0, TICKS * 2, 2)})
    return directory


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)


def stored(directory: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Every tick that a gateway would serve, by run."""
    found: dict[str, list[tuple[int, bytes]]] = {}
    for one in read_directory(directory)[0]:
        ticks = found.setdefault(one.id, [])
        for entry in one.entries:
            block = entry.volume.read(entry)
            ticks += zip(block.ts, block.lines.split(b"\n"), strict=False)
    return found


def test_a_sound_history(history: Path) -> None:
    done = run(history)
    assert (done.returncode, done.stdout) == (0, "")
    assert re.search(rf"^{2 * TICKS} ticks in \d+ blocks of \d+ segments, 2 runs: no damage$", done.stderr, re.M)


def test_a_damaged_block_is_found_and_cut_out(history: Path) -> None:
    path = segments(history, "A")[1]
    before = stored(history)
    flip(path, 30)
    done = run(history)
    assert done.returncode == 1
    assert done.stdout.startswith(f"A/{path.name}: the CRC of the block at 0 ")
    assert done.stderr.rstrip().endswith(": 1 finding")
    mended = run(history, "--repair")
    assert (mended.returncode, mended.stdout) == (0, ""), mended.stderr
    assert f"A/{path.name}: written anew; ticks lost: {int(path.name[:16])} to " in mended.stderr
    assert "not stored between" in mended.stderr, "the hole is told as a remark"
    assert path.with_name(path.name + DAMAGED_SUFFIX).exists()
    after = stored(history)
    assert after["B"] == before["B"] and 0 < len(after["A"]) < len(before["A"])
    assert set(after["A"]) < set(before["A"])
    whole(*segments(history, "A"), *segments(history, "B"))
    again = run(history, "--repair")
    assert again.returncode == 0 and "written anew" not in again.stderr, "there is nothing left to mend"


def test_an_index_that_is_damaged_or_gone(history: Path) -> None:
    flip(history / "A" / "index", 40)
    (history / "B" / "index").unlink()
    done = run(history)
    assert done.returncode == 1 and done.stdout.startswith("A/index: ")
    assert "B: there is no index" in done.stderr
    before = stored(history)
    assert run(history, "--repair").returncode == 0
    assert run(history).stderr.count("index") == 0 and stored(history) == before


def test_a_deleted_segment_is_a_hole_and_no_damage(history: Path) -> None:
    segments(history, "A")[1].unlink()
    done = run(history)
    assert done.returncode == 0 and re.search(
        r"^A: \d+ ticks or more are not stored between \d+ and \d+$", done.stderr, re.M
    )


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_wherever_a_byte_is_flipped(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It is found, nothing is served that was not written, and after a repair all is well but what was lost."""
    directory = tmp_path_factory.mktemp("flipped")
    ledger: Ledger = write(directory, {"A": range(TICKS), "B": range(TICKS)})
    assert ledger is not None
    paths = [*segments(directory, "A"), *segments(directory, "B")]
    path = data.draw(st.sampled_from(paths))
    flip(path, data.draw(st.integers(0, path.stat().st_size - 1)))
    for one in directory.glob("*/index"):
        if data.draw(st.booleans()):
            one.unlink()
    with locked(directory):
        repair(directory)
    report = verify(directory)
    assert report.findings == []
    for name, ticks in stored(directory).items():
        assert all(line == tick_of(name, t) for t, line in ticks)
        assert len(ticks) >= TICKS // 2, "one byte costs one block"
    whole(*segments(directory, "A"), *segments(directory, "B"))


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    for arguments, problem in (
        ((tmp_path / "nowhere",), "nowhere is no directory"),
        ((tmp_path / "nowhere", "--repair"), "nowhere is no directory"),
        ((), "Missing argument 'DIR'."),
    ):
        done = run(*arguments)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and problem in done.stderr


def test_a_directory_in_use_is_checked_and_not_repaired(history: Path) -> None:
    with locked(history):
        assert run(history).returncode == 0
        refused = run(history, "--repair")
    assert refused.returncode == 2 and "in use by" in refused.stderr and refused.stderr.count("\n") == 1


def test_the_pages_mark_is_byte_for_byte_what_is_written() -> None:
    page = (DOCS / "reference" / "segments.md").read_text("utf-8")
    shown = re.search(r"```\n(5c 2a .*?)```", page, re.S)
    assert shown is not None
    mark = Foot("r", 0, 1000, 5, 3, 9, 9, 0, 0, sealed=True, ended=True)
    assert bytes.fromhex(shown[1]) == mark.pack()


def test_the_lines_are_those_that_zstdcat_prints(history: Path) -> None:
    assert [line for _, line in stored(history)["A"]] == lines(history, "A")
