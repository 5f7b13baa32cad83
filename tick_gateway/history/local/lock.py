"""The lock of a directory of history: one process at a time writes there.

It is held by an open file, so it ends with the process, however that ends. It waits for the disk, but never for another
process; not for the event loop.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path
from typing import IO, Final

from ...errors import Locked
from .directory import check_directory

try:
    import fcntl
except ImportError:  # Windows has no such lock: the operator has to take care
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("tick_gateway.history")

LOCK: Final = ".lock"  # no run begins with a dot
_TRIES: Final = 5  # in_use() holds it for a moment
_TRY_SECONDS: Final = 0.02


class DirectoryLock:
    """The lock of a directory; ``with`` acquires and releases it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file: IO[str] | None = None

    @property
    def held(self) -> bool:
        """Whether it was acquired and not released."""
        return self._file is not None

    def acquire(self) -> None:
        """Create the directory if it does not exist, and lock it.

        Raises:
            Locked: another process holds it.
            HistoryError: it is not a directory, or it is that of a run.
            OSError: the directory cannot be made or written to.
        """
        assert self._file is None, "it is held already"
        self._file = _lock(self.directory)

    def renew(self) -> bool:
        """Hold the lock file that is in the directory now: one that was removed with the directory keeps nobody out.

        Returns:
            Whether the previous one had been removed.

        Raises:
            OSError: it cannot be acquired.
        """
        before, removed = self._file, False
        if before is not None:
            removed = not _is_in(before, self.directory)
        if before is None or removed:
            try:
                self._file = _lock(self.directory)
            except Locked as error:
                raise OSError(errno.EBUSY, str(error)) from None
            if before is not None:
                before.close()
        return removed

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> DirectoryLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def in_use(directory: Path) -> bool:
    """Whether a process holds a directory's lock."""
    try:
        file = (directory / LOCK).open(encoding="ascii")
    except FileNotFoundError:
        return False
    with file:
        return not _try_lock(file, exclusive=False)


def _lock(directory: Path) -> IO[str]:
    check_directory(directory)
    directory.mkdir(parents=True, exist_ok=True)
    file = (directory / LOCK).open("a+", encoding="ascii")
    tries = 0
    while not _try_lock(file, exclusive=True):
        tries += 1
        if tries == _TRIES:
            file.seek(0)
            holder = file.read(20).strip()
            file.close()
            raise Locked(str(directory), holder)
        time.sleep(_TRY_SECONDS)
    try:
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
    except OSError as error:  # the disk is full: the number is only for people
        log.warning("history: the number of this process cannot be written to %s: %s", LOCK, error.strerror)
    return file


def _try_lock(file: IO[str], *, exclusive: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_in(file: IO[str], directory: Path) -> bool:
    """Whether an open lock file is the one in the directory."""
    try:
        ours, there = os.fstat(file.fileno()), os.stat(directory / LOCK)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
