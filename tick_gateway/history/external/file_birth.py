"""When a file was made, where the system says.

``os.stat`` knows it on macOS and BSD, ``os.statx`` on Linux, from Python 3.15 on. Before that nothing in Python asks
Linux for it, nor does a package that somebody keeps up; and without it all ticks of a file that had grown for hours
before it was first read would count as received at its last change. So with older Pythons, and there alone, the C
library's ``statx`` is called by way of ctypes. That part goes once 3.15 is the oldest Python that is supported.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_AT_FDCWD: Final = -100  # paths are relative to where the process is
_BIRTH: Final = 0x800  # STATX_BTIME: what is asked for, and whether it was told
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
    """How to ask the C library; None: it is another system than Linux, or a C library from before 2018."""
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
    """How this system and this Python are asked."""
    if hasattr(os, "statx"):
        return _by_statx
    return _by_c_library() or _by_stat


_birth_ns: Final = _way()


def born(path: Path) -> int | None:
    """When a file was made, ms since the epoch; None: the system or the file system does not say, or it is not there.

    A copy was made when it was copied: that may be after the time of its last change.
    """
    try:
        found = _birth_ns(path)
    except OSError:
        return None
    return None if found is None else found // 1_000_000
