"""The bench's own processes: each makes a part of the load, and ends with the controlling process."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Final, Self

from .scenario import BenchError

_PR_SET_PDEATHSIG: Final = 1
_HELD: Final = {signal.SIGINT, signal.SIGTERM}


def end_with_parent() -> None:
    """Unblock signals, and end this process with its parent, however that ends (Linux)."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def stop_on_signals() -> None:
    """Make SIGTERM end the controlling process like Ctrl-C, by ``KeyboardInterrupt``, so that it cleans up."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM for the duration.

    For starting a process: an exception in the hooks around a fork is lost, and one right after it leaves a process
    that nobody knows. The new process starts with both blocked, too: see ``end_with_parent``.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def set_up_child() -> None:
    """Set up a child process that makes load: the controlling process handles Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()


def allow_files(count: int) -> None:
    """Let this process and its children open this many files, as far as the system allows."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < count:
            most = count if hard == resource.RLIM_INFINITY else min(count, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Workers:
    """The processes of a case, and their messages: ``with Workers() as workers``."""

    def __init__(self) -> None:
        # A fork has all modules in memory already; where there is none, a child takes its time to start.
        methods = multiprocessing.get_all_start_methods()
        self._context = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
        self._members: dict[Pipe, BaseProcess] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for pipe in list(self._members):
            self.stop(pipe)

    def start(self, work: Callable[..., None], *given: object) -> Pipe:
        """Start ``work(*given, pipe)`` in a process of its own; returns the pipe's other end."""
        mine, its = self._context.Pipe()
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_child, args=(work, (*given, its), (*self._members, mine)), daemon=True
        )
        with signals_blocked():
            process.start()
            self._members[mine] = process
        its.close()
        return mine

    def pid(self, pipe: Pipe) -> int | None:
        return self._members[pipe].pid

    def receive(self, seconds: float) -> list[tuple[Pipe, Any]]:
        """Wait up to this many seconds for messages; returns as soon as there are any.

        Raises:
            BenchError: a process died.
        """
        heard: list[tuple[Pipe, Any]] = []
        for pipe in wait(list(self._members), timeout=max(seconds, 0)):
            assert isinstance(pipe, Pipe)
            try:
                heard.append((pipe, pipe.recv()))
            except (EOFError, OSError):
                raise BenchError("a process of the bench ended before its work was done") from None
        return heard

    def stop(self, pipe: Pipe) -> None:
        """End a process at once."""
        process = self._members.pop(pipe)
        pipe.close()
        with contextlib.suppress(AttributeError):
            process.kill()
        process.join()


def _child(work: Callable[..., None], given: tuple[Any, ...], others: tuple[Pipe, ...]) -> None:
    for pipe in others:  # of the one that steers: as long as a copy is open here, its end goes unnoticed
        pipe.close()
    work(*given)
