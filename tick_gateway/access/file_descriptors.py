"""File descriptors: each connection and each open file of history needs one, and a process has a limited number.

The last ones are reserved, so that history can write and ``/healthz`` can answer when readers hold all of theirs:

    0 ────────────── readers ──────────── answers ──── limit
      whatever comes          │ publishers,     │ files:
                              │ pulls, refusals │ history, sources

The kernel assigns the lowest free number. So a connection's number shows how many descriptors were in use when it was
accepted, and nothing has to be counted.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any, Final

from ..logs import ThrottledLog

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

log = logging.getLogger("tick_gateway")

_RESERVED: Final = 128  # not for readers, half of them only for files; at most a quarter of the limit
MIN_DESCRIPTORS: Final = 32  # the least that a gateway needs: the first 15 or so go to the process itself
_STDERR: Final = 2  # of standard error; below it are standard output and input
_OPEN_MAX: Final = 10_240  # what macOS allows where it reports no limit
_UNBOUNDED: Final = 1 << 30


def open_standard_streams() -> None:
    """Open /dev/null in place of standard input, output and error if the process was started without them (``<&- >&-
    2>&-``). Otherwise a socket or a file of history would get these numbers: output to standard error would go there,
    and libuv aborts a process that closes one of the three."""
    while (last := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        continue
    os.close(last)


def raise_limit() -> int:
    """Raise the soft limit, often 1,024, as far as this process may; returns the new limit."""
    if resource is None:
        return _UNBOUNDED
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, _OPEN_MAX):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            break
        except (ValueError, OSError):
            continue
    return _soft_limit()


class Descriptors:
    """Which connections are allowed, by the number of their descriptor.

    Attributes:
        limit: how many descriptors this process may have.
        readers: streams need a number below this one.
        answers: descriptors from this number on are reserved for files: no connection is accepted until a lower one is
            free.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit if limit is not None else _soft_limit()
        kept = min(_RESERVED, self.limit // 4)
        self.readers = self.limit - kept
        self.answers = self.limit - kept // 2
        self._log = ThrottledLog(log)

    def scarce(self, transport: asyncio.BaseTransport | None) -> bool:
        """Whether a connection has a reserved descriptor: it may get one answer, and is then closed."""
        return descriptor_of(transport) >= self.readers

    def free(self, probe: int) -> bool:
        """Whether one more connection may be accepted; ``probe`` is any open descriptor.

        Raises:
            OSError: no descriptor is left.
        """
        copy = os.dup(probe)
        os.close(copy)
        return copy < self.answers

    @property
    def shortage(self) -> str:
        """Why a reader is refused when descriptors are scarce, for the log."""
        return (
            f"{self.readers} of the {self.limit} file descriptors that this process may have (ulimit -n) are in use; "
            "the rest is kept for history, publishers and pulls"
        )

    def tell(self, sentence: str) -> None:
        """Log a warning, at most once a minute."""
        self._log.tell(logging.WARNING, sentence)


def descriptor_of(transport: asyncio.BaseTransport | None) -> int:
    """A connection's descriptor; -1 if it has none, or it is unknown."""
    sock: Any = transport.get_extra_info("socket") if transport is not None else None
    try:
        return -1 if sock is None else int(sock.fileno())
    except OSError:  # uvloop: already closed
        return -1


def _soft_limit() -> int:
    if resource is None:
        return _UNBOUNDED
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNBOUNDED if soft == resource.RLIM_INFINITY else soft
