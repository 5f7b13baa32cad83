"""A link without netem: passes packets between two TUN devices, one in each namespace, as a profile says.

One process, some thousand packets a second: enough for what the bench sends over networks that are worth delaying.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import time
from collections import deque
from multiprocessing.connection import Connection as Pipe
from typing import TYPE_CHECKING, Final

from .place import Place, Profile, enter
from .proc import on_its_own

if TYPE_CHECKING:
    from collections.abc import Sequence

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PACKET_BYTES: Final = 65536
_AT_ONCE: Final = 64  # packets that one direction may take in before the other has its turn


def open_tun(device: str) -> int:
    """A TUN device in this process's namespace; it is gone when the descriptor is closed.

    Raises:
        OSError: it is not to be had.
    """
    number = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(number, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(number)
        raise
    return number


class Direction:
    """Packets one way: first they wait for their turn on the wire, then they travel.

    Args:
        source, target: the two devices.
        queued: packets that may be under way; what comes beyond is lost, as in a router.
    """

    def __init__(self, source: int, target: int, profile: Profile, queued: int) -> None:
        self.source = source
        self._target = target
        self._profile = profile
        self._queued = queued
        self._free = 0.0  # when the wire is
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._random = random.Random(1)

    @property
    def due(self) -> float | None:
        """When the next packet arrives, on the clock of ``time.perf_counter``."""
        return self._under_way[0][0] if self._under_way else None

    def take(self) -> None:
        """Take in what the source has."""
        for _ in range(_AT_ONCE):
            try:
                packet = os.read(self.source, _PACKET_BYTES)
            except BlockingIOError:
                return
            now = time.perf_counter()
            self._free = max(self._free, now) + len(packet) * 8 / self._profile.rate
            if len(self._under_way) < self._queued and self._random.random() >= self._profile.loss:
                self._under_way.append((self._free + self._profile.delay, packet))

    def give(self) -> None:
        """Deliver what has arrived by now."""
        now = time.perf_counter()
        while self._under_way and self._under_way[0][0] <= now:
            packet = self._under_way.popleft()[1]
            try:
                os.write(self._target, packet)
            except OSError:  # the device is not up yet, or its queue is full: lost, as on any network
                continue


def relay(gateway: Place, readers: Place, devices: Sequence[str], profile: Profile, queued: int, pipe: Pipe) -> None:
    """A relaying process, from its first to its last line: says why it cannot, or nothing, and then passes packets."""
    on_its_own()
    try:
        enter(gateway)
        here = open_tun(devices[0])
        enter(Place(readers.pid, user=False))  # whichever user namespace they share was entered before
        there = open_tun(devices[1])
    except OSError as error:
        pipe.send(f"{error.filename or 'TUN'}: {error.strerror}")
        return
    pipe.send("")
    directions = {
        here: Direction(here, there, profile, queued),
        there: Direction(there, here, profile, queued),
    }
    while True:
        dues = [one.due for one in directions.values() if one.due is not None]
        wait = max(min(dues) - time.perf_counter(), 0.0) if dues else 1.0
        ready, _, _ = select.select(list(directions), [], [], wait)  # finer than epoll, which waits whole milliseconds
        for number in ready:
            directions[number].take()
        for one in directions.values():
            one.give()
