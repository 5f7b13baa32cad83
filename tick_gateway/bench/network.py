"""A network of the bench's own: two network namespaces with a link between them that delays, loses and holds back.

The gateway and the publisher are in one, the readers in the other. The link is a pair of veth devices with ``tc netem``
on both; where the kernel has no netem, a process of ours passes packets between two TUN devices (``relay``). The
namespaces have no name, only a process each that holds them: when those end, whatever ended the bench, all of it is
gone. Root is needed, or a system that gives users namespaces of their own (``unshare -rn``).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import subprocess
import sys
from types import TracebackType
from typing import Final, Self

from .place import Place, Profile
from .proc import held
from .relay import relay

GATEWAY_HOST: Final = "198.18.0.1"  # of the range for benchmarks (RFC 2544), which is nobody's on the internet
_READERS_HOST: Final = "198.18.0.2"
_DEVICES: Final = ("tgbench0", "tgbench1")
_QUEUED: Final = 10_000  # packets that a direction of the link holds at most, those on their way included
_SECONDS: Final = 10.0  # that a command may take


class NotAllowed(Exception):
    """Why this machine does not give the bench a network of its own."""


class Network:
    """Two places with a link between them: ``with Network(profile) as network``.

    Attributes:
        gateway, readers: the places.
        by: what makes the link.

    Raises:
        NotAllowed: the machine gives none.
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
        """Take all of it away; again has no effect."""
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
            raise NotAllowed("network namespaces are Linux's")
        for program in ("ip", "tc", "unshare", "nsenter"):
            if shutil.which(program) is None:
                raise NotAllowed(f"the program {program} is missing: install iproute2 and util-linux")
        user = os.geteuid() != 0
        self.gateway = Place(self._hold(["unshare", *(["-r"] if user else []), "-n", "--", "cat"]), user)
        self.readers = Place(self._hold([*self.gateway.prefix, "unshare", "-n", "--", "cat"]), user)
        try:
            self._veth()
            self.by = "veth and tc netem"
        except NotAllowed as problem:
            self._tun(str(problem))
            self.by = "a relay between two TUN devices, since this machine has no tc netem"

    def _hold(self, command: list[str]) -> int:
        """Start what holds a namespace; returns its process, which is in it by then."""
        try:
            with held():
                holder = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C is for the bench, which then ends this too
                )
                self._holders.append(holder)
        except OSError as error:
            raise NotAllowed(f"{command[0]}: {error.strerror}") from None
        assert holder.stdin is not None and holder.stdout is not None and holder.stderr is not None
        with contextlib.suppress(OSError):
            holder.stdin.write(b"\n")
            holder.stdin.flush()
        answer = holder.stdout.readline()
        problem = b"" if answer else holder.stderr.read()
        holder.stderr.close()
        if not answer:
            raise NotAllowed(f"no network namespace: {_sentence(problem)}")
        return holder.pid

    def _veth(self) -> None:
        """The pair and what delays it; undone where the kernel has no netem."""
        here, there = _DEVICES
        _run(self.gateway, "ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns",
             str(self.readers.pid))  # fmt: skip
        try:
            for place, device in ((self.gateway, here), (self.readers, there)):
                # Packets as they would be on a wire: netem delays and loses each by itself.
                with contextlib.suppress(NotAllowed):
                    _run(place, "ip", "link", "set", device, "gso_max_segs", "1")
                _run(place, "tc", "qdisc", "add", "dev", device, "root", "netem",
                     "delay", f"{self.profile.delay * 1e6:.0f}us", "loss", f"{self.profile.loss * 100:g}%",
                     "rate", f"{self.profile.rate / 1e3:.0f}kbit", "limit", str(_QUEUED))  # fmt: skip
        except NotAllowed:
            _run(self.gateway, "ip", "link", "delete", here)
            raise
        self._address()

    def _tun(self, before: str) -> None:
        """Two TUN devices with a relay between them; ``before``: why it came to this."""
        mine, its = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        order = (self.gateway, self.readers, _DEVICES, self.profile, _QUEUED)
        relaying = context.Process(target=relay, args=(*order, its), daemon=True)
        with held():
            relaying.start()
            self._relay = relaying
        its.close()
        try:
            problem = mine.recv() if mine.poll(_SECONDS) else "it does not start"
        except EOFError:
            problem = "it ended"
        if problem:
            raise NotAllowed(f"{before}; and no relay between TUN devices: {problem}")
        self._address()

    def _address(self) -> None:
        pairs = ((self.gateway, GATEWAY_HOST, _READERS_HOST), (self.readers, _READERS_HOST, GATEWAY_HOST))
        for (place, own, other), device in zip(pairs, _DEVICES, strict=True):
            _run(place, "ip", "address", "add", own, "peer", other, "dev", device)
            _run(place, "ip", "link", "set", device, "up")
            _run(place, "ip", "link", "set", "lo", "up")


def _run(place: Place, *command: str) -> None:
    """Run a command in a place.

    Raises:
        NotAllowed: it fails.
    """
    try:
        with held():
            done = subprocess.run(
                [*place.prefix, *command], capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=False
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAllowed(f"{command[0]}: {error}") from None
    if done.returncode:
        raise NotAllowed(f"{' '.join(command[:2])}: {_sentence(done.stderr)}")


def _sentence(said: bytes) -> str:
    """What a program said, in one line."""
    return " ".join(said.decode("utf-8", "replace").split()).rstrip(".") or "it failed and did not say why"
