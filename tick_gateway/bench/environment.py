"""The gateway that is measured: at an address, or one of the bench's own for each case."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from ..client.tls import Secured, TrustError, reason, trust
from ..settings import ENV_PREFIX, Settings
from .network import GATEWAY_HOST, Namespace
from .processes import end_with_parent, signals_blocked
from .scenario import BenchError, Scenario

Address = tuple[int, tuple[str, int]]

RUN_PREFIX: Final = "bench-"
"""How the names of the bench's own runs begin."""

_PORTS: Final = {"http": 80, "https": 443}
_PORT: Final = re.compile(rb"http://\S+?:(\d+)/")
_LOOK_SECONDS: Final = 0.01
_SPARE_TICKS: Final = 1000  # that memory holds beyond what a late reader reads
_PID_GRACE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """A running gateway.

    Attributes:
        readers, publisher: where the two connect to: address family, and what ``connect`` takes.
        host: for the header of that name. base: what the gateway is mounted under, without a slash at its end.
        pid: of its process, or None.
        tls: how it is spoken to over https; None: it is http.
    """

    readers: Address
    publisher: Address
    host: str
    base: str
    pid: int | None
    tls: Secured | None = None


def target_of(scenario: Scenario) -> Target:
    """The gateway at the scenario's address.

    Raises:
        BenchError: the address is invalid, nobody answers, or somebody else is publishing there.
    """
    url = scenario.url
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
        if not host:
            raise ValueError
    except (ValueError, KeyError):
        raise BenchError(f"--url: {url!r:.200} is no address such as http://localhost:8000") from None
    try:
        context = trust(scenario.cacert, scenario.insecure)
    except TrustError as error:
        raise BenchError(str(error)) from None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise BenchError(f"--url: there is no host {host:.200}") from None
    base = parts.path.rstrip("/")
    meta = _meta(f"{parts.scheme}://{parts.netloc}{base}/meta", url, scenario.patience, context)
    if meta.get("rate") and not str(meta.get("run")).startswith(RUN_PREFIX):
        raise BenchError(
            f"--url: ticks were published to {url} within the last ten seconds, and the bench would end that run; "
            "stop the publisher and wait for as long"
        )
    where = (int(family), (str(address[0]), int(address[1])))
    secured = Secured(host, scenario.cacert, scenario.insecure) if parts.scheme == "https" else None
    return Target(where, where, parts.netloc, base, scenario.pid, secured)


def _meta(address: str, url: str, patience: float, context: ssl.SSLContext) -> dict[str, Any]:
    try:
        with urlopen(address, timeout=patience, context=context) as answer:
            meta = json.load(answer)
        if not isinstance(meta["transports"], dict):
            raise ValueError
    except HTTPError as error:
        raise BenchError(f"--url: {url} answers {error.code} where a gateway has its /meta") from None
    except HTTPException:
        raise BenchError(f"--url: {url} answers, but not in HTTP, or breaks off") from None
    except (URLError, OSError) as error:
        raise BenchError(f"--url: {url} does not answer: {reason(getattr(error, 'reason', error))}") from None
    except (ValueError, KeyError, TypeError):
        raise BenchError(f"--url: {url} answers, but is no tick-gateway") from None
    return dict(meta)


class OwnGateway:
    """A gateway in a process of its own, as started by ``tick-gateway serve``: ``with OwnGateway(…) as target``.

    Raises:
        BenchError: it does not start.
    """

    def __init__(self, scenario: Scenario, namespace: Namespace | None) -> None:
        ring = max(Settings().ring, scenario.catch_up + _SPARE_TICKS)
        ring_bytes = max(Settings().ring_bytes, ring * (scenario.size + 200))
        self._command = [
            *(namespace.prefix if namespace is not None else []), sys.executable, "-m", "tick_gateway", "serve",
            "--port", "0", "--host", "127.0.0.1" if namespace is None else "0.0.0.0",
            "--ring", str(ring), "--ring-bytes", str(ring_bytes),
        ]  # fmt: skip
        self._host = "127.0.0.1" if namespace is None else GATEWAY_HOST
        self._patience = scenario.patience
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Target:
        self._said = tempfile.TemporaryFile()
        try:
            with signals_blocked():
                process = self._process = self._start()
            port = self._port(process)
        except BaseException:
            self.__exit__()
            raise
        family = int(socket.AF_INET)
        return Target((family, (self._host, port)), (family, ("127.0.0.1", port)), f"localhost:{port}", "", process.pid)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            env={name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)},
            start_new_session=True,  # Ctrl-C is for the bench, which then ends this too
            preexec_fn=end_with_parent if os.name == "posix" else None,
        )

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_PID_GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._said.close()

    def _port(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the line that shows its port."""
        end = time.monotonic() + self._patience
        while time.monotonic() < end:
            ended = process.poll() is not None
            self._said.seek(0)
            said = self._said.read()
            if match := _PORT.search(said):
                return int(match[1])
            if ended:
                raise BenchError(f"the gateway does not start: {said.decode('utf-8', 'replace').strip()[-300:]}")
            time.sleep(_LOOK_SECONDS)
        raise BenchError(f"the gateway did not start within {self._patience:g} s")
