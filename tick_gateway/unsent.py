"""How much of what was written to a connection its peer has not taken.

A stream's peer that takes nothing for long is gone, or has stopped reading for good. One that reads slowly is none of
these: its system takes some bytes now and then, in steps that may be seconds apart, and what is left grows less.
"""

from __future__ import annotations

import array
import asyncio

from .descriptors import number

try:
    import fcntl
    import termios
except ImportError:  # Windows, where only what the process itself holds is known
    fcntl = None  # type: ignore[assignment]


def unsent(transport: asyncio.WriteTransport) -> int:
    """Bytes that are with the process, or with its system and not acknowledged by the peer's."""
    count = transport.get_write_buffer_size()
    descriptor = number(transport)
    if fcntl is not None and descriptor >= 0:
        found = array.array("i", [0])
        try:
            fcntl.ioctl(descriptor, termios.TIOCOUTQ, found)  # of a socket: SIOCOUTQ (Linux: tcp(7))
        except OSError:
            return count
        count += found[0]
    return count
