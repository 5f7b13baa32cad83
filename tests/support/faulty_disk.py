"""A disk that does what a test says: fails, from some call on or at a certain one, or stands still.

It stands between the process and the calls with which history is written: ``os.pwrite``, ``os.ftruncate``,
``os.fsync``, ``os.replace``, ``os.mkdir``, and opening files for writing.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CALLS = ("pwrite", "ftruncate", "fsync", "replace", "mkdir")


class Disk:
    """What it does, and what it has done.

    Attributes:
        calls: how many there were.
        failed: how many of them failed.
        error: what they fail with; None: they do what they are to do.
        fails: which calls fail, by number, where ``error`` is set.
        dies: at which call, by number, this is raised in place of it, with half of a write done.
        names: of the calls of the present count.
        gate: where it is not set, calls wait.
        waiting: a call waits at the gate.
        delay: called before each call.
    """

    def __init__(self, patch: pytest.MonkeyPatch, directory: Path) -> None:
        self.calls = self.failed = 0
        self.error: int | None = None
        self.fails: Callable[[int], bool] = lambda call: True
        self.dies: tuple[int, type[BaseException]] | None = None
        self.names: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = False
        self.delay: Callable[[], None] = lambda: None
        self._directory = str(directory)
        for name in CALLS:
            patch.setattr(os, name, self._between(name, getattr(os, name)))
        patch.setattr(os, "open", self._opening(os.open))
        patch.setattr(Path, "open", self._path_opening(Path.open))

    def break_(self, error: int = errno.ENOSPC) -> None:
        """From now on every call fails."""
        self.error, self.fails = error, lambda call: True

    def mend(self) -> None:
        """From now on calls do what they are to do."""
        self.error = None
        self.gate.set()
        self.delay = lambda: None

    def _call(self, name: str) -> None:
        """Count a call, let it wait, and let it fail."""
        self.delay()
        self.waiting = True
        assert self.gate.wait(60), "nobody mended the disk"
        self.waiting = False
        self.names[self.calls :] = [name]
        self.calls += 1
        if self.dies is not None and self.calls == self.dies[0]:
            raise self.dies[1]
        if self.error is not None and self.fails(self.calls):
            self.failed += 1
            raise OSError(self.error, os.strerror(self.error))

    def _between(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def between(*args: Any, **named: Any) -> Any:
            mine = name != "mkdir" or str(args[0]).startswith(self._directory)
            try:
                if mine:
                    self._call(name)
            except BaseException:
                if name == "pwrite" and self.error in (None, errno.ENOSPC):  # some of it was taken
                    call(args[0], args[1][: len(args[1]) // 2], *args[2:])
                raise
            return call(*args, **named)

        return between

    def _opening(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def between(path: Any, flags: int, *args: Any, **named: Any) -> Any:
            if str(path).startswith(self._directory) and flags & (os.O_WRONLY | os.O_RDWR):
                self._call("open")
            return call(path, flags, *args, **named)

        return between

    def _path_opening(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def between(path: Path, mode: str = "r", *args: Any, **named: Any) -> Any:
            if str(path).startswith(self._directory) and set(mode) & set("wa+x"):
                self._call("open")
            return call(path, mode, *args, **named)

        return between
