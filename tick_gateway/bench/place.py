"""Network namespaces, which a process of the load enters; and what lies between two of them, as profiles."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Final

from .plan import LOOPBACK

_CLONE: Final = {"user": 0x10000000, "net": 0x40000000}


@dataclass(frozen=True, slots=True)
class Profile:
    """What the link does to packets, in each direction.

    Attributes:
        delay: one way, seconds. loss: share of packets, 0 to 1. rate: bits a second, of all readers together.
        means: in words.
    """

    name: str
    delay: float
    loss: float
    rate: float
    means: str

    def __str__(self) -> str:
        return f"{self.delay * 1e3:g} ms each way, {self.loss:.2g} of packets lost, {self.rate / 1e6:g} Mbit/s"


PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile("lan", 0.00025, 0.0, 1e9, "a wired network in one building"),
        Profile("wifi", 0.003, 0.001, 100e6, "a busy wireless network"),
        Profile("dsl", 0.015, 0.0005, 50e6, "a line to a home"),
        Profile("mobile", 0.035, 0.005, 20e6, "a telephone on 4G"),
        Profile("edge", 0.15, 0.02, 1e6, "a telephone at the edge of coverage"),
        Profile("satellite", 0.3, 0.005, 20e6, "a geostationary satellite"),
    )
}
NETWORKS: Final = (LOOPBACK, *PROFILES)


@dataclass(frozen=True, slots=True)
class Place:
    """A network namespace: that of process ``pid``. ``user``: it belongs to a user namespace that has to be entered."""

    pid: int
    user: bool

    @property
    def prefix(self) -> list[str]:
        """What stands before a command that is to run in it."""
        return [
            "nsenter", "-t", str(self.pid), *(["-U", "--preserve-credentials"] if self.user else []), "-n", "--",
        ]  # fmt: skip


def enter(place: Place) -> None:
    """Take this process, which has one thread, into a namespace.

    Raises:
        OSError: it is not to be had.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for kind in ("user", "net") if place.user else ("net",):
        number = os.open(f"/proc/{place.pid}/ns/{kind}", os.O_RDONLY)
        try:
            if libc.setns(number, _CLONE[kind]) and kind == "net":
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(number)
