"""What the bench was asked to measure (``Scenario``), and the result of each case (``Outcome``).

Pure: values, and their JSON form.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from .cases import Case
from .stats import Histogram

FEWEST: Final = 50  # connections from which memory is told: with fewer, what an allocator keeps hides it


class BenchError(Exception):
    """Why nothing can be measured; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """The request of the command line.

    Attributes:
        url: the gateway to measure; empty: each case gets one of its own.
        pid: that gateway's process, where it is known.
        token: for publishing.
        cacert, insecure: whom to trust, for https.
        transports, encodings, networks: what is measured, each with each.
        clients: connections of a case. checked: how many of them are read tick by tick.
        processes: the reading processes that they are spread over.
        rate: ticks a second. size: of a tick, bytes. seconds: how long.
        fields, every, batch: the view; empty, 1, 0: everything as it is.
        limit: ticks that an answer of a pull holds at most.
        pause: seconds after which a pull that was answered with nothing asks again.
        catch_up: ticks that a late reader has to read; 0: not measured.
        patience: seconds that any one wait may last.
    """

    url: str
    pid: int | None
    token: str
    cacert: str | None
    insecure: bool
    transports: tuple[str, ...]
    encodings: tuple[str, ...]
    networks: tuple[str, ...]
    clients: int
    checked: int
    processes: int
    rate: float
    size: int
    seconds: float
    fields: str
    every: int
    batch: int
    limit: int
    pause: float
    catch_up: int
    patience: float

    def cases(self) -> list[Case]:
        """In the order in which they are measured."""
        return [
            Case(transport, encoding, network)
            for network in self.networks
            for transport in self.transports
            for encoding in self.encodings
        ]

    def as_dict(self) -> dict[str, Any]:
        """The scenario as JSON, without the token."""
        return {name: value for name, value in asdict(self).items() if name != "token"}


@dataclass(slots=True)
class Outcome:
    """The result of a case. None: not measured, for the reason in ``why``, by the figure's name.

    Attributes:
        kind: the transport's: ``stream`` or ``pull``.
        coding: the coding that the gateway really used.
        not_run: why there are no figures at all; empty: there are.
        remark: to be shown with the figures.
        network: how the network came about.
        checked: connections that were read tick by tick: figures of ticks are theirs.
        published: ticks. seconds: that publishing them took.
        ticks: delivered to all checked connections. lost, repeated: among them. behind: those that had not come when
            the patience was over. cut: connections that ended too early.
        latency: from publishing to reading. first_tick: from the connection's first packet to the first tick.
        bytes: both ways, of checked connections.
        cpu_seconds: of the gateway, while the ticks were published and delivered.
        memory: bytes a connection, idle.
        catch_up: seconds; median of some rounds.
        others: what other programs used of the machine meanwhile, share of all processors.
    """

    case: Case
    kind: str = "stream"
    coding: str = ""
    not_run: str = ""
    remark: str = ""
    network: str = ""
    clients: int = 0
    checked: int = 0
    published: int = 0
    seconds: float = 0.0
    ticks: int = 0
    lost: int = 0
    repeated: int = 0
    behind: int = 0
    cut: int = 0
    latency: Histogram = field(default_factory=Histogram)
    first_tick: Histogram = field(default_factory=Histogram)
    bytes: int = 0
    cpu_seconds: float | None = None
    memory: float | None = None
    catch_up: float | None = None
    others: float | None = None
    why: dict[str, str] = field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Whether the gateway used the requested encoding."""
        return self.coding == self.case.encoding

    @property
    def delivered(self) -> float:
        """Ticks delivered to all connections; those that only drain count like the checked ones."""
        return self.ticks * self.clients / self.checked if self.checked else 0.0

    @property
    def bytes_per_tick(self) -> float | None:
        return self.bytes / self.ticks if self.ticks else None

    @property
    def cpu_us(self) -> float | None:
        """CPU microseconds of the gateway a tick and connection."""
        return self.cpu_seconds * 1e6 / self.delivered if self.cpu_seconds is not None and self.delivered else None

    def ms(self, share: float) -> float | None:
        """A percentile of the latency, milliseconds."""
        return _ms(self.latency.percentile(share))

    def as_dict(self) -> dict[str, Any]:
        """The outcome as JSON; every name says its unit."""
        case = self.case
        head = {"transport": case.transport, "network": case.network, "encoding_asked": case.encoding}
        if self.not_run:
            return head | {"not_run": self.not_run, "encoding_got": self.coding or None}
        return head | {
            "not_run": None,
            "encoding_got": self.coding,
            "remark": self.remark or None,
            "network_by": self.network or None,
            "clients": self.clients,
            "checked_clients": self.checked,
            "cut_clients": self.cut,
            "published_ticks": self.published,
            "published_seconds": round(self.seconds, 3),
            "delivered_ticks": round(self.delivered),
            "lost": self.lost,
            "repeated": self.repeated,
            "behind": self.behind,
            "latency_ms": {"p50": self.ms(0.5), "p99": self.ms(0.99), "max": _most(self.latency)},
            "bytes_per_tick": _rounded(self.bytes_per_tick, 1),
            "cpu_us_per_tick": _rounded(self.cpu_us, 2),
            "memory_bytes_per_connection": _rounded(self.memory, 0),
            "first_tick_ms": {"p50": _ms(self.first_tick.percentile(0.5)), "max": _most(self.first_tick)},
            "catch_up_ms": _rounded(self.catch_up * 1e3 if self.catch_up is not None else None, 1),
            "others_share_of_machine": _rounded(self.others, 2),
            "not_measured": self.why,
        }


def _ms(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else round(nanoseconds / 1e6, 3)


def _most(histogram: Histogram) -> float | None:
    return _ms(histogram.largest) if histogram.count else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
