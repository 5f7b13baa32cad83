"""Request bodies of publishers: bytes as they arrive become the bytes of single records.

NDJSON is split line by line without end; JSON (an object, an array, or several values in a row) is taken as a whole.
Pure: no I/O, no asyncio.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..errors import BodyError, TooBig

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_AFTER_VALUE: Final = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")


class Line(NamedTuple):
    """A record's bytes and where it stood: its line (NDJSON) or place (JSON array), from 1."""

    number: int
    data: bytes


class Lines:
    """Splits an NDJSON body. ``max_line`` bounds what is kept of an unfinished line, in bytes."""

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._parts: list[bytes] = []
        self._size = 0
        self._number = 0

    def feed(self, data: bytes) -> list[Line]:
        """The lines that are complete now; blank ones are counted and left out.

        Raises:
            TooBig: the unfinished line is longer than ``max_line``; nothing can be read behind it.
        """
        head, newline, rest = data.partition(b"\n")
        if not newline:
            return self._keep(head)
        lines = [b"".join([*self._parts, head]) if self._parts else head]
        self._parts, self._size = [], 0
        *whole, last = rest.split(b"\n")
        lines += whole
        found = self._numbered(lines)
        self._keep(last)
        return found

    def end(self) -> list[Line]:
        """The last line, where no newline ended it."""
        last, self._parts, self._size = b"".join(self._parts), [], 0
        return self._numbered([last]) if last else []

    def _keep(self, part: bytes) -> list[Line]:
        if part:
            self._parts.append(part)
            self._size += len(part)
            if self._size > self._max_line:
                raise TooBig(self._size, self._max_line)
        return []

    def _numbered(self, lines: list[bytes]) -> list[Line]:
        found = []
        for line in lines:
            self._number += 1
            if line and not line.isspace():
                found.append(Line(self._number, line))
        return found


def values(data: bytes) -> Iterator[Line]:
    """The records of a JSON body: one object, the elements of an array, or several objects in a row, byte for byte.

    Raises:
        BodyError: the body is not UTF-8 or not JSON; the records before the fault have been yielded.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BodyError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    scan = json.JSONDecoder().raw_decode
    at = _end(_SPACE, text, 0)
    array = text[at : at + 1] == "["
    at = _end(_SPACE, text, at + 1) if array else at
    number = 0
    while at < len(text) and not (array and text[at] == "]"):
        number += 1
        try:
            _, end = scan(text, at)
        except (ValueError, RecursionError) as error:
            raise BodyError(f"the body is not valid JSON: {error}") from None
        yield Line(number, text[at:end].encode())
        at = _end(_AFTER_VALUE if array else _SPACE, text, end)
    if array and text[at : at + 1] != "]":
        raise BodyError("the body is not valid JSON: the array is not closed")
    if number == 0 and not array:
        raise BodyError("the body is empty; accepted: NDJSON, a JSON object or a JSON array")


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
