"""File systems that a test mounts: small ones, that can be filled, and made read-only."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import needs


@contextmanager
def mounted(directory: Path, options: str) -> Iterator[Path]:
    """A file system in memory, mounted there."""
    directory.mkdir()
    done = subprocess.run(
        [needs.program("mount"), "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True, text=True
    )
    if done.returncode:
        needs.missing("the right to mount", f"run as root ({done.stderr.strip()})")
    try:
        yield directory
    finally:
        subprocess.run([needs.program("umount"), str(directory)], check=True)


def remount(directory: Path, mode: str) -> None:
    subprocess.run([needs.program("mount"), "-o", f"remount,{mode}", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Fill a file system to the last byte."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast
