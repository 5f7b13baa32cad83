"""A history that is open: who holds its directory, and what it begins with."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import pytest

from tests.support.recorded import LIMITS, Writer, files, lay
from tick_gateway.bus.tick_bus import TickBus
from tick_gateway.errors import HistoryError, Locked
from tick_gateway.history.local.lock import DirectoryLock, in_use
from tick_gateway.history.local.store import Store
from tick_gateway.settings import Settings


def opened(directory: Path) -> Store:
    return Store.open_at(directory, TickBus(Settings()), LIMITS)


def test_one_store_a_directory(tmp_path: Path) -> None:
    store = opened(tmp_path / "history")
    assert store.holds(str(tmp_path / "history")) and not store.holds(str(tmp_path))
    with pytest.raises(Locked):
        opened(tmp_path / "history")
    store.release()
    assert not store.holds(str(tmp_path / "history")) and not in_use(tmp_path / "history")


def test_a_directory_that_cannot_be_read_is_let_go(tmp_path: Path) -> None:
    """Whoever mends it can lock it."""
    writer = Writer(tmp_path / "history", LIMITS)
    writer.write([0])
    writer.recorder.close()
    journal = b"TJNL\x02" + bytes(51)
    (writer.folder / "journal").write_bytes(journal + crc32(journal).to_bytes(4, "little"))
    with pytest.raises(HistoryError, match="format 2"):
        opened(tmp_path / "history")
    with DirectoryLock(tmp_path / "history"):
        pass


def test_a_bus_begins_with_what_is_stored(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "history", LIMITS)
    writer.write([0, 1, 2])
    held = files(writer.folder)
    writer.recorder.close()
    lay(writer.folder, held)
    store = opened(tmp_path / "history")
    run = store.bus.runs["R"]
    assert (run.tip, run.count, run.lost, run.restored) == (2, 3, 0, True)
    assert store.archive.first(run) == 0 and store.damage == [] and store.pipeline.state == "ok"
    store.release()


def test_a_directory_that_cannot_be_locked_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a crash left, too, and nothing is written."""
    writer = Writer(tmp_path / "history", LIMITS)
    writer.write([0, 1, 2])
    held = files(writer.folder)
    writer.recorder.close()
    lay(writer.folder, held)

    def refused(_: DirectoryLock) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryLock, "acquire", refused)
        store = opened(tmp_path / "history")
    assert store.pipeline.state == "failing"
    assert store.pipeline.reason == "the directory cannot be written to: Read-only file system"
    run = store.bus.runs["R"]
    assert (run.tip, store.archive.first(run)) == (2, 0) and files(writer.folder) == held
    store.release()
