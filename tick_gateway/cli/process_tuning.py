"""Settings of the interpreter and of malloc, for a process that is only a gateway."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from typing import Final

_GC_THRESHOLD: Final = 50_000  # a collection walks every session; the hot path makes next to no cycles
_SWITCH_SECONDS: Final = 0.0005
_M_MMAP_THRESHOLD: Final = -3  # glibc's malloc.h
_LARGE_BYTES: Final = 1 << 20


def tune_memory() -> None:
    """Return large blocks of memory to the system as soon as they are free: ticks of megabytes would fragment the heap.

    Call it before anything is read.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # musl has no such function, and no need of it
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def tune_process() -> None:
    """Exempt imported modules from the garbage collector, let it run less often, and switch threads sooner, so that the
    loop does not wait for threads that read history."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 100)
