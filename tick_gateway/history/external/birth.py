"""When a file was made, where the system says; Python itself does not on Linux."""

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


def _find_statx() -> Callable[..., int] | None:
    try:
        found: Any = ctypes.CDLL(None).statx
    except (AttributeError, OSError, TypeError):  # another system than Linux, or a C library from before 2018
        return None
    found.argtypes = ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p
    call: Callable[..., int] = found
    return call


_statx: Final = _find_statx()


def born(path: Path) -> int | None:
    """When a file was made, ms since the epoch; None: the system or the file system does not say, or it is not there.

    A copy was made when it was copied: that may be after the time of its last change.
    """
    if _statx is None:
        try:
            seconds = getattr(os.stat(path), "st_birthtime", None)  # macOS and BSD
        except OSError:
            return None
        return None if seconds is None else int(seconds * 1000)
    told = ctypes.create_string_buffer(_SIZE)
    if _statx(_AT_FDCWD, os.fsencode(path), 0, _BIRTH, told) != 0:
        return None
    (mask,) = struct.unpack_from("=I", told)
    seconds, nanoseconds = struct.unpack_from("=qI", told, _BIRTH_AT)
    return seconds * 1000 + nanoseconds // 1_000_000 if mask & _BIRTH else None
