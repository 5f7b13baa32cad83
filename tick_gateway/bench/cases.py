"""What the bench compares. A case is a transport, a coding and a network: one row in each of the tables here.

The command line, the requests, the order of cases, the verdict and the report are made from these tables, and a test
compares the docs with them. A transport in the registry is measured even without a row, if it is a stream whose ticks
each end in a line break, or a pull that says in ``Tick-Next`` where to continue. Pure values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LOOPBACK: Final = "loopback"
EXTENSION: Final = "permessage-deflate"


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure: a transport, the coding that is asked for, and the network in between, by their names."""

    transport: str
    encoding: str
    network: str

    def __str__(self) -> str:
        return f"{self.transport}, {self.encoding}, {self.network}"


# ---- transports ----


@dataclass(frozen=True, slots=True)
class TransportRow:
    """What the bench knows of a transport in addition to the registry.

    Attributes:
        label: as people call it.
        purpose: when to pick it, whatever the figures say: "Pick LABEL where PURPOSE".
        websocket: it answers a WebSocket's opening handshake.
    """

    label: str
    purpose: str
    websocket: bool = False


TRANSPORT_ROWS: Final = {
    "websocket": TransportRow(
        "WebSocket",
        "you write for a browser or a program that stays connected, or want to pause, seek or change the view while "
        "reading",
        websocket=True,
    ),
    "sse": TransportRow(
        "SSE", "you write for a browser and want the shortest code: EventSource reconnects and resumes by itself"
    ),
    "ndjson": TransportRow(
        "NDJSON", "you read with curl, a script, or any language that can read an answer line by line"
    ),
    "longpoll": TransportRow("long-poll", "something on the way holds back answers that do not end"),
    "incremental": TransportRow("incremental", "you look in now and then, or fetch what was missed in large pieces"),
}

_PURPOSE_OF_A_KIND: Final = {
    "stream": "your client speaks its format and stays connected",
    "pull": "your client asks when it likes",
}


def row_of(transport: str, kind: str) -> TransportRow:
    """The row of a transport, by its name; one without a row is described by its kind."""
    return TRANSPORT_ROWS.get(transport) or TransportRow(transport, _PURPOSE_OF_A_KIND[kind])


# ---- codings ----

ENCODINGS: Final[dict[str, str | None]] = {
    "identity": "",
    "gzip": None,
    "zstd": None,
    "deflate": f"Sec-WebSocket-Extensions: {EXTENSION}; client_no_context_takeover\r\n",
}
"""Codings by the names that ``Accept-Encoding`` has for them, with what a WebSocket's handshake says to ask for one;
None: WebSocket has no such coding."""


# ---- networks ----


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
