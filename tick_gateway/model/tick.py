"""Ticks and positions, and ``parse``, the one place that decides whether published bytes are a tick.

A tick is kept as the bytes that were published. What ``parse`` returns fits every framing without another check,
because it contains neither CR nor LF.

Pure: no I/O, no clock (callers pass ``at``), no asyncio.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import orjson

from ..errors import Malformed, TooBig
from . import large_json
from .invalid_json import BOM, explain

MAX_T: Final = 2**53 - 1  # the largest integer that every JSON reader keeps exactly (RFC 8259, section 6)
MAX_NESTING: Final = 512
WHITE_SPACE: Final = b" \t\r\n"  # JSON's own
RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
UNKNOWN_RUN: Final = "-"  # stands for an invalid position: no run can have this id
_INTEGER: Final = re.compile(r"-1|0|[1-9][0-9]{0,15}")
_HINTS: Final[dict[type, str]] = {
    list: "; several ticks come one by one (jq -c '.[]')",
    str: "; was it encoded twice?",
}
_HINTS_INSIDE: Final = {**_HINTS, list: "; publish several ticks one by one"}
_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")
_LINE_ENDS: Final = tuple((char.encode(), b"\\u%04x" % ord(char)) for char in "\x85\u2028\u2029")


class PublishedTick(NamedTuple):
    """One published tick.

    Attributes:
        t: its number, 0 <= t < 2^53.
        data: the JSON object, UTF-8, one line, as published.
        at: when the gateway received it, milliseconds since the epoch (UTC).
    """

    t: int
    data: bytes
    at: int


class Position(NamedTuple):
    """The last tick that a client has; ``t`` = -1 is before the run's first tick."""

    run: str
    t: int

    def __str__(self) -> str:
        return f"{self.run}:{self.t}"


def parse_position(text: str) -> Position | int:
    """Read ``RUN:T``, or a bare ``T`` (an int: of the current run).

    Raises:
        ValueError: with the accepted forms, where it is neither.
    """
    run, colon, number = text.rpartition(":")
    if _INTEGER.fullmatch(number) and (not colon or RUN_ID.fullmatch(run)):
        t = int(number)
        if t <= MAX_T:
            return Position(run, t) if colon else t
    raise ValueError(f"{text!r:.80} is no position; accepted: RUN:T or T, with -1 <= T < 2^53")


def nesting(data: bytes) -> int:
    """The nesting depth of arrays and objects in valid JSON; 0: at most ``MAX_NESTING``."""
    if data.count(b"[") + data.count(b"{") <= MAX_NESTING:  # nearly always: too few brackets to be too deep
        return 0
    return large_json.depth_of(data)


def escape_line_ends(data: bytes) -> bytes:
    """Valid JSON with U+0085, U+2028 and U+2029 escaped. Strings may contain them, but many line readers take them for
    line ends (``str.splitlines``, Node's readline, Java)."""
    if data.isascii() or not (b"\xe2\x80" in data or b"\xc2\x85" in data):
        return data
    for char, escape in _LINE_ENDS:
        data = data.replace(char, escape)
    return data


def shorten(line: bytes, limit: int, *, ended: bool = True) -> bytes:
    """The first ``limit`` bytes of a line, and the next byte that is not white space, if any: with it, ``parse`` sees
    that the line is too long. White space around the line does not count, except at the end of a line that has not
    ``ended``."""
    line = line.strip(WHITE_SPACE) if ended else line.lstrip(WHITE_SPACE)
    return line[:limit] + line[limit:].lstrip(WHITE_SPACE)[:1] if len(line) > limit else line


class PartialLine:
    """A line that arrives in pieces. Of a line longer than ``limit``, only what ``shorten`` returns is kept.

    Attributes:
        size: bytes received, whether kept or not.
    """

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._parts: list[bytes] = []
        self._kept = 0

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self._kept > self._limit:  # known to be too long
            return
        if self._kept == self._limit and self._parts[0][0] not in WHITE_SPACE:
            part = part.lstrip(WHITE_SPACE)[:1]
        if part:
            self._parts.append(part)
            self._kept += len(part)
        if self._kept > self._limit:
            kept = shorten(b"".join(self._parts), self._limit, ended=False)
            self._parts, self._kept = [kept] if kept else [], len(kept)

    def end(self) -> bytes:
        """Return the line; the next part begins another one."""
        parts, size = self._parts, self.size
        self._parts, self._kept, self.size = [], 0, 0
        line = parts[0] if len(parts) == 1 else b"".join(parts)
        return line if size <= self._limit else shorten(line, self._limit)

    def __bytes__(self) -> bytes:
        return b"".join(self._parts)


def parse(data: bytes, max_tick: int, *, inside: bool = False) -> tuple[int, bytes]:
    """Check published bytes and return the tick's ``t`` and the bytes to deliver.

    White space around the object and a byte order mark before it are dropped, line breaks between tokens become spaces,
    and characters that readers may take for line breaks are escaped (``escape_line_ends``). Nothing else changes.

    Args:
        inside: published in-process, so errors do not name shell tools.

    Raises:
        TooBig: more than ``max_tick`` bytes.
        Malformed: not UTF-8, not strict JSON (RFC 8259), a lone surrogate or a number beyond binary64 (both allowed by
            RFC 8259, but not accepted by readers), not an object, nested deeper than 512, or ``t`` is not an integer
            literal with 0 <= t < 2^53.
    """
    data = data.strip(WHITE_SPACE)
    if len(data) > max_tick:
        raise TooBig(len(data), max_tick)
    try:
        if large_json.has_many_values(data):
            record, depth = large_json.loads(data)
        else:
            record, depth = orjson.loads(data), -1
    except orjson.JSONDecodeError as error:
        if data.startswith(BOM) and not (rest := data[len(BOM) :].lstrip(WHITE_SPACE)).startswith(BOM):
            return parse(rest, max_tick, inside=inside)
        if "depth" in error.msg or "ecursion" in error.msg:
            raise Malformed(f"the tick is nested deeper than {MAX_NESTING}") from None
        raise Malformed(explain(data, error, inside=inside)) from None
    if not isinstance(record, dict):
        hint = (_HINTS_INSIDE if inside else _HINTS).get(type(record), "")
        raise Malformed(f"a tick is a JSON object, this is {_kind(record)}{hint}")
    t = record.get("t")
    if type(t) is not int:  # bool is a subclass of int, and floats such as 5.0 are no integer literals
        if "t" not in record:
            raise Malformed('the tick has no member "t" (its number)')
        raise Malformed(f"t must be an integer literal with 0 <= t < 2^53, this is {_kind(t)}")
    if not 0 <= t <= MAX_T:
        raise Malformed(f"t must be 0 <= t < 2^53, this is {t}", t)
    if (depth if depth >= 0 else nesting(data)) > MAX_NESTING:
        raise Malformed(f"the tick is nested deeper than {MAX_NESTING}", t)
    if b"\n" in data or b"\r" in data:
        data = data.translate(_LINE_BREAKS)  # outside strings: JSON does not allow raw ones inside
    escaped = escape_line_ends(data)
    if escaped is not data and len(escaped) > max_tick:
        raise TooBig(len(escaped), max_tick)
    return t, escaped


def _kind(value: object) -> str:
    """Name the kind of a JSON value, for an error."""
    match value:
        case bool():
            return "true or false"
        case None:
            return "null"
        case str():
            return "a string"
        case int():
            return f"the number {value}"
        case float():
            return f"the number {value!r}"
        case list():
            return "an array"
        case _:
            return "an object"
