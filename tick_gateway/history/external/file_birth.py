"""When a file was created, if the system knows.

``os.stat`` has it on macOS and BSD, ``os.statx`` on Linux from Python 3.15 on. Before that, no part of Python and no
maintained package provides it on Linux; and without it, all ticks in a file that had grown for hours before it was
first read would count as received at its last change. So with older Pythons only, the C library's ``statx`` is called
through ctypes. Remove that part once 3.15 is the oldest supported Python.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_AT_FDCWD: Final = -100  # paths are relative to the working directory
_BIRTH: Final = 0x800  # STATX_BTIME: requested, and set if it is known
_SIZE: Final = 256  # of struct statx
_BIRTH_AT: Final = 80  # in it: seconds and nanoseconds

_BirthNs = Callable[[Path], int | None]
"""When a file was made, ns since the epoch; None: nobody says.

Raises:
    OSError: it cannot be looked at.
"""


def _by_stat(path: Path) -> int | None:
    seconds: float | None = getattr(os.stat(path), "st_birthtime", None)
    return None if seconds is None else int(seconds * 1e9)


def _by_statx(path: Path) -> int | None:
    statx: Any = getattr(os, "statx")  # noqa: B009  # of Python 3.15
    told: int | None = statx(path, _BIRTH).stx_btime_ns
    return told


def _by_c_library() -> _BirthNs | None:
    """The C library's function; None: this is not Linux, or a C library from before 2018."""
    try:
        statx: Any = ctypes.CDLL(None).statx
    except (AttributeError, OSError, TypeError):
        return None
    statx.argtypes = ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p

    def birth(path: Path) -> int | None:
        told = ctypes.create_string_buffer(_SIZE)
        if statx(_AT_FDCWD, os.fsencode(path), 0, _BIRTH, told) != 0:
            return None
        (mask,) = struct.unpack_from("=I", told)
        seconds, nanoseconds = struct.unpack_from("=qI", told, _BIRTH_AT)
        return seconds * 1_000_000_000 + nanoseconds if mask & _BIRTH else None

    return birth


def _way() -> _BirthNs:
    """The function for this system and Python."""
    if hasattr(os, "statx"):
        return _by_statx
    return _by_c_library() or _by_stat


_birth_ns: Final = _way()


def born(path: Path) -> int | None:
    """When a file was created, ms since the epoch; None: unknown to the system or file system, or no such file.

    A copy was created when it was copied, which may be after its last change.
    """
    try:
        found = _birth_ns(path)
    except OSError:
        return None
    return None if found is None else found // 1_000_000
