"""The settings: one table for flags, ``TICK_GATEWAY_*`` variables, keywords and the docs.

A setting's name is its flag (``--ring-bytes``), its variable (``TICK_GATEWAY_RING_BYTES``) and its keyword in Python
(``ring_bytes``). Flags and keywords override variables, variables override defaults. Pure: the environment is passed
in, except for the home directory that ``~`` stands for.

To add a setting, add a row to ``Settings`` and a line to ``SettingKeywords``, the same table for type checkers.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypedDict

from .errors import SettingError
from .model.suggestion import did_you_mean

ENV_PREFIX: Final = "TICK_GATEWAY_"
_SIZE: Final = re.compile(r"([0-9]{1,15})\s*(?:([kKmMgG])(?:i?[bB])?)?")
_PREFIXES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TIME: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|[smhd])?")
_SECONDS: Final = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _count(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,15}", text):
        raise ValueError("a whole number, such as 64")
    return int(text)


def _size(text: str) -> int:
    if not (match := _SIZE.fullmatch(text)):
        raise ValueError("a number of bytes, such as 65536, 64k or 64M")
    return int(match[1]) * _PREFIXES[(match[2] or "").lower()]


def _seconds(text: str) -> float:
    if not (match := _TIME.fullmatch(text)):
        raise ValueError("a number of seconds, such as 0.02, or a time such as 20ms, 90s, 15m, 12h or 7d")
    return float(match[1]) * _SECONDS[match[2]]


def _switch(text: str) -> bool:
    if text.lower() not in ("on", "off"):
        raise ValueError("a switch; accepted: on, off")
    return text.lower() == "on"


class _Unit(NamedTuple):
    """A unit of settings: how its text is parsed, and the description of valid keyword values for errors."""

    parse: Callable[[str], Any]
    takes: str


_UNITS: Final = {
    "count": _Unit(_count, "a whole number"),
    "bytes": _Unit(_size, "a whole number of bytes, such as 64 << 20"),
    "seconds": _Unit(_seconds, "a number of seconds"),
    "text": _Unit(str, "a string"),
    "switch": _Unit(_switch, "True or False"),
}

_FROM_OUTSIDE: Final = re.compile(
    r"TICK_GATEWAY(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|"
    r"PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?|NAME|ENV_.+)"
)
"""Variables that Kubernetes gives every container for a service named tick-gateway or tick-gateway-…, and Docker for
a link of that name. ``…_PORT`` is theirs where its value is an address."""

_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")


def _row(
    default: Any,
    unit: str,
    help: str,
    low: float | None = None,
    high: float | None = None,
    *,
    words: tuple[str, ...] = (),
    also: str = "",
    needs_data: bool = False,
) -> Any:
    """A field of ``Settings``.

    Args:
        low, high: the bounds of a number.
        words: the accepted values; empty: any.
        also: other values that the keyword takes, for errors.
        needs_data: it has no effect unless history is kept (setting ``data``).
    """
    metadata = {"unit": unit, "help": help, "low": low, "high": high}
    return field(default=default, metadata=metadata | {"words": words, "also": also, "needs_data": needs_data})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its default. ``unit`` is one of count, bytes, seconds, text, switch.

    Raises:
        SettingError: a value of the wrong type or out of range.
    """

    host: str = _row(
        "", "text", "address to listen on; empty: all of them, IPv4 and IPv6", also=" (empty: all addresses)"
    )
    port: int = _row(8000, "count", "TCP port to listen on; 0: a free one", 0, 65535)
    ring: int = _row(10_000, "count", "ticks that memory holds at most", 1)
    ring_bytes: int = _row(64 << 20, "bytes", "bytes that they may take", 1 << 10)
    inbox: int = _row(10_000, "count", "ticks that may wait for the event loop", 1)
    inbox_bytes: int = _row(64 << 20, "bytes", "bytes that may wait for the event loop", 1 << 10)
    max_tick: int = _row(8 << 20, "bytes", "the largest tick that is accepted", 16)
    max_body: int = _row(64 << 20, "bytes", "the largest JSON body of a POST; NDJSON bodies have no end", 16)
    nan: str = _row(
        "refuse", "text", "NaN and Infinity in in-process records: refuse, or null", words=("refuse", "null")
    )
    publish_timeout: float = _row(
        0.0, "seconds", "how long an in-process publish waits where the inbox is full", 0, 3600
    )
    publish_token: str = _row("", "text", "bearer token for publishing; empty: from this machine alone, without one")
    publish_network: bool = _row(
        True, "switch", "whether anyone publishes by HTTP and WebSocket; off: the program that the gateway is in alone"
    )
    publish_hosts: str = _row(
        "", "text", "Host names, comma-separated, that count as this machine's for publishers without a token"
    )
    flush_interval: float = _row(
        0.025, "seconds", "the longest time between flushes that a busy gateway chooses", 0, 10
    )
    flush: str = _row(
        "adaptive", "text", "adaptive: flush_interval is the longest; fixed: it is kept to, always",
        words=("adaptive", "fixed"),
    )  # fmt: skip
    encoded_bytes: int = _row(32 << 20, "bytes", "encoded bytes that are kept for readers who catch up", 0)
    compression: int = _row(3, "count", "level of gzip, zstd and permessage-deflate for those who ask; 0: off", 0, 9)
    compression_section: int = _row(64, "count", "ticks after which a compressed stream can be joined", 1, 100_000)
    max_views: int = _row(64, "count", "different views that streams may have at once; each costs work a tick", 1)
    max_connections: int = _row(20_000, "count", "streaming connections at once; the next one is told to come back", 1)
    data: str | os.PathLike[str] = _row(  # noqa: RUF009 - it is a str in the end
        "", "text", "directory in which every tick is kept; empty: ticks are kept in memory alone", also=" or a path"
    )
    fsync: str = _row(
        "interval",
        "text",
        "when history is forced to the disk: never, interval, or block",
        words=("never", "interval", "block"),
        needs_data=True,
    )
    fsync_interval: float = _row(1.0, "seconds", "how often, where fsync is interval", 0.001, 3600, needs_data=True)
    block_bytes: int = _row(
        512 << 10, "bytes", "ticks that one block of history holds, about", 1 << 10, 64 << 20, needs_data=True
    )
    block_age: float = _row(
        60.0, "seconds", "after which a block is closed, however little it holds", 0.1, needs_data=True
    )
    segment_bytes: int = _row(64 << 20, "bytes", "after which a file of history is sealed", 1 << 10, needs_data=True)
    segment_age: float = _row(
        86400.0, "seconds", "after which a file of history is sealed; 0: by its size alone", 0, needs_data=True
    )
    retain_bytes: int = _row(
        0, "bytes", "what history may take; beyond it the oldest files are deleted; 0: no bound", 0, needs_data=True
    )
    retain_age: float = _row(0.0, "seconds", "after which files of history are deleted; 0: never", 0, needs_data=True)
    history_level: int = _row(3, "count", "zstd's compression level for history", 1, 19, needs_data=True)
    history_cache: int = _row(64 << 20, "bytes", "decoded blocks that are kept for readers of the past", 0)
    history_queue: int = _row(
        64 << 20, "bytes", "ticks that may wait for the disk; beyond it they leave a hole", 1 << 10, needs_data=True
    )
    drain_timeout: float = _row(5.0, "seconds", "how long a shutdown waits for connections to close", 0, 600)
    backlog: int = _row(4096, "count", "connections that may wait to be accepted", 1, 65535)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", _path(self.data))
        for row in dataclasses.fields(self):
            value, low, high = getattr(self, row.name), row.metadata["low"], row.metadata["high"]
            words = row.metadata["words"]
            bounds = "" if low is None else f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
            if not _is_of(value, row.default):
                asked = _UNITS[row.metadata["unit"]].takes + row.metadata["also"]
                finite = not isinstance(value, float) or math.isfinite(value)
                why = f"it is of type {type(value).__name__}" if finite else "it is not finite"
                accepted = "; accepted: " + (", ".join(words) or bounds) if words or bounds else ""
                raise SettingError(row.name, f"{value!r:.40} is not {asked}: {why}{accepted}")
            if (low is not None and value < low) or (high is not None and value > high):
                raise SettingError(row.name, f"{value} is out of range; accepted: {bounds}")
            if words and value not in words:
                raise SettingError(row.name, f"{value!r:.40} is not accepted; accepted: {', '.join(words)}")

    @property
    def idle(self) -> list[str]:
        """The settings that were given and have no effect, because no history is kept in ``data``."""
        rows = () if self.data else dataclasses.fields(self)
        return [row.name for row in rows if row.metadata["needs_data"] and getattr(self, row.name) != row.default]

    @property
    def nan_policy(self) -> Literal["refuse", "null"]:
        return "null" if self.nan == "null" else "refuse"


def _path(value: Any) -> Any:
    """A directory, with ``~`` expanded to the home directory, which shells do not do in ``--data=~/x``.

    Raises:
        SettingError: no such user has a home directory.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value.startswith("~"):
        return value
    path = os.path.expanduser(value)
    if path.startswith("~"):
        problem = f"{value!r:.80} names the home of a user who has none; a directory of that name is ./{value:.80}"
        raise SettingError("data", problem)
    return path


def _is_of(value: object, default: object) -> bool:
    """Whether a value has its setting's type."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, type(default))


class SettingKeywords(TypedDict, total=False):
    """The settings as keywords, for type checkers: the fields of ``Settings``, with their accepted words."""

    host: str
    port: int
    ring: int
    ring_bytes: int
    inbox: int
    inbox_bytes: int
    max_tick: int
    max_body: int
    nan: Literal["refuse", "null"]
    publish_timeout: float
    publish_token: str
    publish_network: bool
    publish_hosts: str
    flush_interval: float
    flush: Literal["adaptive", "fixed"]
    encoded_bytes: int
    compression: int
    compression_section: int
    max_views: int
    max_connections: int
    data: str | os.PathLike[str]
    fsync: Literal["never", "interval", "block"]
    fsync_interval: float
    block_bytes: int
    block_age: float
    segment_bytes: int
    segment_age: float
    retain_bytes: int
    retain_age: float
    history_level: int
    history_cache: int
    history_queue: int
    drain_timeout: float
    backlog: int


DEFAULTS: Final = Settings()
"""What holds where nothing is set: whoever has a default of its own takes it from here."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A setting, as the command line and the docs show it."""

    name: str
    default: Any
    unit: str
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return ENV_PREFIX + self.name.upper()

    @property
    def told(self) -> str:
        """Its default, formatted for people."""
        if isinstance(self.default, bool):
            return "on" if self.default else "off"
        if self.unit == "bytes" and self.default:
            unit = next(unit for unit in "GMk" if not self.default % _PREFIXES[unit.lower()])
            return f"{self.default // _PREFIXES[unit.lower()]}{unit}"
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default) or "empty"


TABLE: Final = tuple(
    SettingRow(row.name, row.default, row.metadata["unit"], row.metadata["help"])
    for row in dataclasses.fields(Settings)
)


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that are settings, by name.

    Raises:
        SettingError: a variable has our prefix but names no setting.
    """
    known, found = {row.variable: row.name for row in TABLE}, dict[str, str]()
    for name, text in environment.items():
        if not name.startswith(ENV_PREFIX) or _FROM_OUTSIDE.fullmatch(name):
            continue
        if name.endswith("_PORT") and _ADDRESS.match(text):
            continue
        if name not in known:
            raise _no_such(name, sorted(known))
        found[known[name]] = text
    return found


def _no_such(name: str, accepted: list[str]) -> SettingError:
    return SettingError(name, f"no such setting; accepted: {', '.join(accepted)}{did_you_mean(name, accepted)}")


def _parse(row: SettingRow, text: str, given: str) -> Any:
    try:
        return _UNITS[row.unit].parse(text)
    except ValueError as error:
        raise SettingError(given, f"{text!r:.60} is not {error}") from None


def name_as_given(name: str, flags: Mapping[str, str | None], environment: Mapping[str, str]) -> str:
    """A setting's name as the user gave it: its variable or its flag; other names are returned unchanged."""
    row = next((row for row in TABLE if row.name == name), None)
    if row is None:
        return name
    return row.variable if flags.get(name) is None and name in _variables(environment) else row.flag


def parse_settings(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Settings:
    """Settings from the texts of flags (None: not given) and ``TICK_GATEWAY_*`` variables.

    Raises:
        SettingError: a value that does not parse or is out of range, or a variable that names no setting; the error
            uses the name that the user gave.
    """
    variables = _variables(environment)
    if flags.get("data") == "":  # likely an unset shell variable: nobody turns history off in this way
        raise SettingError("--data", "names no directory; leave it out to keep ticks in memory alone")
    values: dict[str, Any] = {}
    for row in TABLE:
        text = flags.get(row.name)
        if text is not None:
            values[row.name] = _parse(row, text, row.flag)
        elif row.name in variables:
            values[row.name] = _parse(row, variables[row.name], row.variable)
    try:
        return Settings(**values)
    except SettingError as error:
        raise SettingError(name_as_given(error.name, flags, environment), error.problem) from None


def keyword_settings(keywords: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from Python keywords and ``TICK_GATEWAY_*`` variables; also returns those without effect, by the name
    that the user gave (see ``Settings.idle``).

    Raises:
        SettingError: as for ``parse_settings``, or a keyword that is not a setting.
    """
    for name in keywords:
        if name not in {row.name for row in TABLE}:
            raise _no_such(name, [row.name for row in TABLE])
    texts = {name: text for name, text in _variables(environment).items() if name not in keywords}
    rows = {row.name: row for row in TABLE}
    values = {name: _parse(rows[name], text, rows[name].variable) for name, text in texts.items()}

    def given(name: str) -> str:
        return rows[name].variable if name in texts else name

    try:
        settings = Settings(**values, **keywords)
    except SettingError as error:
        raise SettingError(given(error.name), error.problem) from None
    return settings, [given(name) for name in settings.idle]
