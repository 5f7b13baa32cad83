"""File operations: writing completely, replacing a file in one step, keeping what is cut out. None of them blocks on
something else in a file's place, such as a pipe.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

_AT_ONCE: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
READ: Final = os.O_RDONLY | _AT_ONCE
"""How a file is opened that may be a pipe."""
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _AT_ONCE


def write_at(fd: int, data: bytes, at: int) -> None:
    """Write all data at an offset.

    Raises:
        OSError: not everything could be written.
    """
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, at)
        if not done:
            raise OSError(errno.EIO, "nothing could be written")
        view, at = view[done:], at + done


def read_file(path: Path) -> bytes:
    """All of a file.

    Raises:
        OSError: it cannot be read.
    """
    with os.fdopen(os.open(path, READ), "rb") as file:
        return file.read()


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file in one step.

    Raises:
        OSError: it failed; the old file is unchanged.
    """
    temporary = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(temporary, _WRITE, 0o666), "wb") as file:
        file.write(data)
    temporary.replace(path)


def set_aside(path: Path, offset: int, data: bytes) -> Path:
    """Keep damaged bytes beside the file that they are cut out of; returns the path. Repeating it changes nothing.

    Raises:
        OSError: they cannot be written.
    """
    kept = free_name(path, offset, data)
    if kept.exists():
        return kept
    temporary = kept.with_name(f"{kept.name}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(kept)
    return kept


def free_name(path: Path, offset: int, data: bytes | None = None) -> Path:
    """The path under which to keep bytes that were cut out of a file; not one that has other bytes already."""
    number = 1
    while True:
        kept = path.with_name(f"{path.name}.{offset}{f'-{number}' if number > 1 else ''}.damaged")
        if not kept.exists() or (data is not None and kept.read_bytes() == data):
            return kept
        number += 1


def sync_directory(directory: Path) -> None:
    """Force a directory's entries to the disk.

    Raises:
        OSError: it failed.
    """
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
