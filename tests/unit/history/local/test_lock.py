"""The lock of a directory: one process writes there."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests.support.gateway_process import ROOT
from tick_gateway.errors import Locked
from tick_gateway.history.local import lock
from tick_gateway.history.local.lock import LOCK, DirectoryLock, in_use

HOLD = """
import sys
from pathlib import Path
from tick_gateway.history.local.lock import DirectoryLock

with DirectoryLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_a_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "history")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Locked, match=f"in use by process {holder.pid}"):
            DirectoryLock(tmp_path / "history").acquire()
        assert in_use(tmp_path / "history")
        holder.stdin.close()
        holder.wait(60)
    assert not in_use(tmp_path / "history"), "a file that was left behind keeps nobody out"
    with DirectoryLock(tmp_path / "history"):
        assert in_use(tmp_path / "history")


def test_looking_whether_it_is_in_use_keeps_nobody_out(tmp_path: Path) -> None:
    """``in_use`` holds the lock for a moment: whoever wants it then gets it a moment later."""
    (tmp_path / LOCK).touch()
    tries: list[bool] = []
    inner = lock._try_lock

    def busy_twice(file: IO[str], *, exclusive: bool) -> bool:
        tries.append(exclusive)
        return len(tries) > 2 and inner(file, exclusive=exclusive)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "_TRY_SECONDS", 0.0)
        patch.setattr(lock, "_try_lock", busy_twice)
        with DirectoryLock(tmp_path):
            pass
    assert tries == [True] * 3
    assert not in_use(tmp_path / "nowhere")


def test_a_full_disk_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only whose it is cannot be written down then."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with DirectoryLock(tmp_path), pytest.raises(Locked):
        DirectoryLock(tmp_path).acquire()


def test_a_lock_that_was_removed_is_taken_again(tmp_path: Path) -> None:
    """One that nobody finds keeps nobody out."""
    directory = tmp_path / "history"
    with DirectoryLock(directory) as held:
        assert not held.renew() and held.held
        shutil.rmtree(directory)
        assert held.renew() and in_use(directory) and not held.renew()
        with pytest.raises(Locked):
            DirectoryLock(directory).acquire()
    assert not held.held and not in_use(directory)


def test_a_lock_that_another_process_took_meanwhile(tmp_path: Path) -> None:
    directory = tmp_path / "history"
    held, other = DirectoryLock(directory), DirectoryLock(directory)
    held.acquire()
    shutil.rmtree(directory)
    with other:
        with pytest.raises(OSError, match="in use by process") as problem:
            held.renew()
        assert problem.value.errno == errno.EBUSY and held.held
    assert held.renew()
    held.release()
    held.release()


def test_a_lock_that_could_not_be_had_at_first(tmp_path: Path) -> None:
    """It is acquired when it can be; nothing was removed then."""
    (tmp_path / "history").write_bytes(b"")
    late = DirectoryLock(tmp_path / "history" / "deep")
    with pytest.raises(OSError):
        late.acquire()
    assert not late.held
    (tmp_path / "history").unlink()
    assert not late.renew() and late.held
    late.release()
