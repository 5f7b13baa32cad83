"""What is done to files so that nothing of them is lost: writing all of it, and keeping what is cut out.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path


def write_at(fd: int, data: bytes, at: int) -> None:
    """Write all of it at an offset.

    Raises:
        OSError: not all of it could be written.
    """
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, at)
        if not done:
            raise OSError(errno.EIO, "nothing could be written")
        view, at = view[done:], at + done


def set_aside(path: Path, offset: int, data: bytes) -> Path:
    """Keep damaged bytes beside the file that they are cut out of; returns where. Done again, it changes nothing.

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
    """The name under which bytes that were cut out of a file are kept: not one that others have already."""
    number = 1
    while True:
        kept = path.with_name(f"{path.name}.{offset}{f'-{number}' if number > 1 else ''}.damaged")
        if not kept.exists() or (data is not None and kept.read_bytes() == data):
            return kept
        number += 1


def sync_directory(directory: Path) -> None:
    """Force a directory's list of files to the disk.

    Raises:
        OSError: it could not be done.
    """
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
