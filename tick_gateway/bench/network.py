"""A network of the bench's own: two network namespaces with a link that delays, loses and limits packets.

The gateway and the publisher are in one namespace, the readers in the other. The link is a pair of veth devices with
``tc netem`` on both; if the kernel has no netem, a process of the bench forwards packets between two TUN devices
(``relay``): some thousand packets a second, enough for networks that are worth delaying. The namespaces have no names,
only a process each that holds them: when these processes end, even after a crash, everything is gone. It needs root, or
a system that gives users namespaces of their own (``unshare -rn``).
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from types import TracebackType
from typing import Final, Self

from .cases import Profile
from .processes import set_up_child, signals_blocked

GATEWAY_HOST: Final = "198.18.0.1"  # of the range for benchmarks (RFC 2544), which is nobody's on the internet
_READERS_HOST: Final = "198.18.0.2"
_DEVICES: Final = ("tgbench0", "tgbench1")
_QUEUED: Final = 10_000  # packets that a direction of the link holds at most, those on their way included
_SECONDS: Final = 10.0  # that a command may take
_CLONE: Final = {"user": 0x10000000, "net": 0x40000000}
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PACKET_BYTES: Final = 65536
_AT_ONCE: Final = 64  # packets that one direction may take in before the other has its turn


class NetworkUnavailable(Exception):
    """Why this machine cannot provide such a network."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace: that of process ``pid``. ``user``: it belongs to a user namespace that has to be entered."""

    pid: int
    user: bool

    @property
    def prefix(self) -> list[str]:
        """The prefix of a command that runs in it."""
        return [
            "nsenter", "-t", str(self.pid), *(["-U", "--preserve-credentials"] if self.user else []), "-n", "--",
        ]  # fmt: skip


def enter(namespace: Namespace) -> None:
    """Move this process, which must have one thread, into a namespace.

    Raises:
        OSError: it is not available.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for kind in ("user", "net") if namespace.user else ("net",):
        number = os.open(f"/proc/{namespace.pid}/ns/{kind}", os.O_RDONLY)
        try:
            if libc.setns(number, _CLONE[kind]) and kind == "net":
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(number)


class Network:
    """Two namespaces with a link between them: ``with Network(profile) as network``.

    Attributes:
        gateway, readers: the namespaces.
        by: how the link is made.

    Raises:
        NetworkUnavailable: the machine cannot provide one.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.by = ""
        self._holders: list[subprocess.Popen[bytes]] = []
        self._relay: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove all of it; further calls have no effect."""
        if self._relay is not None:
            self._relay.kill()
            self._relay.join()
            self._relay = None
        for holder in self._holders:
            holder.kill()
            holder.wait()
            for pipe in (holder.stdin, holder.stdout):
                if pipe is not None:
                    pipe.close()
        self._holders.clear()

    def _open(self) -> None:
        if not sys.platform.startswith("linux"):
            raise NetworkUnavailable("network namespaces are Linux's")
        for program in ("ip", "tc", "unshare", "nsenter"):
            if shutil.which(program) is None:
                raise NetworkUnavailable(f"the program {program} is missing: install iproute2 and util-linux")
        user = os.geteuid() != 0
        self.gateway = Namespace(self._hold(["unshare", *(["-r"] if user else []), "-n", "--", "cat"]), user)
        self.readers = Namespace(self._hold([*self.gateway.prefix, "unshare", "-n", "--", "cat"]), user)
        try:
            self._veth()
            self.by = "veth and tc netem"
        except NetworkUnavailable as problem:
            self._tun(str(problem))
            self.by = "a relay between two TUN devices, since this machine has no tc netem"

    def _hold(self, command: list[str]) -> int:
        """Start what holds a namespace; returns its process, which is in it by then."""
        try:
            with signals_blocked():
                holder = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C is for the bench, which then ends this too
                )
                self._holders.append(holder)
        except OSError as error:
            raise NetworkUnavailable(f"{command[0]}: {error.strerror}") from None
        assert holder.stdin is not None and holder.stdout is not None and holder.stderr is not None
        with contextlib.suppress(OSError):
            holder.stdin.write(b"\n")
            holder.stdin.flush()
        answer = holder.stdout.readline()
        problem = b"" if answer else holder.stderr.read()
        holder.stderr.close()
        if not answer:
            raise NetworkUnavailable(f"no network namespace: {_sentence(problem)}")
        return holder.pid

    def _veth(self) -> None:
        """Make the veth pair with netem; undone if the kernel has no netem."""
        here, there = _DEVICES
        _run(self.gateway, "ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns",
             str(self.readers.pid))  # fmt: skip
        try:
            for namespace, device in ((self.gateway, here), (self.readers, there)):
                # Packets as they would be on a wire: netem delays and loses each by itself.
                with contextlib.suppress(NetworkUnavailable):
                    _run(namespace, "ip", "link", "set", device, "gso_max_segs", "1")
                _run(namespace, "tc", "qdisc", "add", "dev", device, "root", "netem",
                     "delay", f"{self.profile.delay * 1e6:.0f}us", "loss", f"{self.profile.loss * 100:g}%",
                     "rate", f"{self.profile.rate / 1e3:.0f}kbit", "limit", str(_QUEUED))  # fmt: skip
        except NetworkUnavailable:
            _run(self.gateway, "ip", "link", "delete", here)
            raise
        self._address()

    def _tun(self, before: str) -> None:
        """Make two TUN devices with a relay between them; ``before``: why netem is not used."""
        mine, its = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        job = (self.gateway, self.readers, _DEVICES, self.profile, _QUEUED)
        relaying = context.Process(target=relay, args=(*job, its), daemon=True)
        with signals_blocked():
            relaying.start()
            self._relay = relaying
        its.close()
        try:
            problem = mine.recv() if mine.poll(_SECONDS) else "it does not start"
        except EOFError:
            problem = "it ended"
        if problem:
            raise NetworkUnavailable(f"{before}; and no relay between TUN devices: {problem}")
        self._address()

    def _address(self) -> None:
        pairs = ((self.gateway, GATEWAY_HOST, _READERS_HOST), (self.readers, _READERS_HOST, GATEWAY_HOST))
        for (namespace, own, other), device in zip(pairs, _DEVICES, strict=True):
            _run(namespace, "ip", "address", "add", own, "peer", other, "dev", device)
            _run(namespace, "ip", "link", "set", device, "up")
            _run(namespace, "ip", "link", "set", "lo", "up")


def _run(namespace: Namespace, *command: str) -> None:
    """Run a command in a namespace.

    Raises:
        NetworkUnavailable: it fails.
    """
    try:
        with signals_blocked():
            done = subprocess.run(
                [*namespace.prefix, *command],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NetworkUnavailable(f"{command[0]}: {error}") from None
    if done.returncode:
        raise NetworkUnavailable(f"{' '.join(command[:2])}: {_sentence(done.stderr)}")


def _sentence(said: bytes) -> str:
    """The output of a program, in one line."""
    return " ".join(said.decode("utf-8", "replace").split()).rstrip(".") or "it failed and did not say why"


# ---- a link without netem ----


def open_tun(device: str) -> int:
    """A TUN device in this process's namespace; it is gone when the descriptor is closed.

    Raises:
        OSError: it is not to be had.
    """
    import fcntl  # which other systems lack

    number = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(number, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError:
        os.close(number)
        raise
    return number


class Direction:
    """Packets in one direction: each waits for its turn on the wire, and then travels.

    Args:
        source, target: the two devices.
        queued: maximum number of packets in flight; more are lost, as in a router.
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
        """Receive the packets of the source."""
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
        """Deliver the packets that are due."""
        now = time.perf_counter()
        while self._under_way and self._under_way[0][0] <= now:
            packet = self._under_way.popleft()[1]
            try:
                os.write(self._target, packet)
            except OSError:  # the device is not up yet, or its queue is full: lost, as on any network
                continue


def relay(
    gateway: Namespace, readers: Namespace, devices: Sequence[str], profile: Profile, queued: int, pipe: Pipe
) -> None:
    """The main function of a relaying process: reports why it cannot work, or nothing, and then forwards packets."""
    set_up_child()
    try:
        enter(gateway)
        here = open_tun(devices[0])
        enter(Namespace(readers.pid, user=False))  # whichever user namespace they share was entered before
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
