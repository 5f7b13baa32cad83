"""Request bodies of publishers: bytes as they arrive become the bytes of single records.

NDJSON is split line by line without end; JSON (an object, an array, or several objects in a row) is taken as a whole.
Objects in a row are what is left of NDJSON where the line breaks went (``curl -d @file`` drops them), too.
``Records`` tells the two apart, since few publishers name the media type that they send. What a record is worth is not
decided here: ``tick.parse`` does that.

Pure: no I/O, no asyncio.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from typing import Final, NamedTuple

from ..diagnosis import BOM, foreign, web_form
from ..errors import BodyError
from ..tick import MAX_NESTING, WHITE_SPACE, Unfinished, shorten

EMPTY: Final = "the body is empty; accepted: NDJSON, a JSON object or a JSON array"
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_JOINED: Final = re.compile(rb"\}[ \t\r]*\{")  # objects side by side; or text in a string
_LINES: Final = ("ndjson", "jsonl", "jsonlines")  # how the names of NDJSON's media types end
_FORM: Final = "application/x-www-form-urlencoded"  # what curl says that it sends, unless it is told otherwise
_OPENERS: Final = (b"{", b"[", b",", b":")  # how no line of NDJSON ends, but the first of a pretty-printed object does


class Line(NamedTuple):
    """A record's bytes and where it stood: its line (NDJSON) or place (JSON), from 1."""

    number: int
    data: bytes


class Lines:
    """Splits NDJSON. ``max_line`` bounds what is kept of an unfinished line, in bytes; white space around it does not
    count.

    A longer line is given out as ``max_line`` + 1 bytes (see ``tick.shorten``), so that whoever takes it sees that it is
    too long; the rest of it, to its newline, is dropped. What comes out does not depend on how the bytes came in.
    """

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._unfinished = Unfinished(max_line)
        self._number = 0  # lines that are finished

    def feed(self, data: bytes) -> list[Line]:
        """The lines that are complete now; blank ones are counted and left out."""
        blank = 0
        if _is_blank(data) and (count := len(data) - len(data.translate(None, b"\n"))) > 2:
            # Blank lines may come without end, and compressed in no time: a million of them is no list.
            data, blank = data[: data.index(b"\n") + 1] + data[data.rindex(b"\n") :], count - 2
        lines = data.split(b"\n")
        self._unfinished.add(lines[0])
        if len(lines) == 1:
            return []
        lines[0] = self._unfinished.end()
        last = lines.pop()
        limit, found, number = self._max_line, [], self._number
        for line in lines:
            number += 1
            if not _is_blank(line):
                found.append(Line(number, line if len(line) <= limit else shorten(line, limit)))
        self._number = number + blank
        self._unfinished.add(last)
        return found

    def end(self) -> list[Line]:
        """The last line, where no newline ended it."""
        line = self._unfinished.end()
        self._number += 1
        return [] if _is_blank(line) else [Line(self._number, line)]


def _is_blank(line: bytes) -> bool:
    return not line or (line.isspace() and not line.strip(WHITE_SPACE))  # isspace looks no further than it has to


class Records:
    """A body of whichever form, as it comes in; text in UTF-8, with a byte order mark before it or without.

    NDJSON is recognised by its media type, or by a first line that is a line of NDJSON; whatever begins as an array or
    as a pretty-printed object is JSON, and is gathered to its end.

    Args:
        media_type: what the request says that it sends.
        max_line: the longest line, in bytes.
        max_body: the largest body of JSON, in bytes.
    """

    def __init__(self, media_type: str, max_line: int, max_body: int) -> None:
        self._lines: Lines | None = Lines(max_line)
        self._declared_json = media_type == "application/json" or media_type.endswith("+json")
        self._is_form = media_type == _FORM
        self._decided = media_type.endswith(_LINES)
        self._max_line, self._max_body = max_line, max_body
        self._parts: list[bytes] = []  # what is held until the form shows, or of JSON
        self._size = 0
        self._head = b""  # the first four bytes
        self._lead = b""  # what came before it, without white space: nothing, or some of the mark
        self._begun = b""  # the first byte that is no white space and of no byte order mark
        self._before = 0  # bytes that came before that

    def feed(self, data: bytes) -> list[Line]:
        """The records that are complete now.

        Raises:
            BodyError: more than ``max_body`` of JSON, or no text in UTF-8.
        """
        if len(self._head) < 4:
            self._head += data[: 4 - len(self._head)]
            if len(self._head) == 4 and (other := foreign(self._head)) is not None:
                raise BodyError(f"the body is {other}", 415)
        if self._decided and self._lines is not None:
            return self._lines.feed(data)
        self._parts.append(data)
        self._size += len(data)
        if not self._decided and self._decide(data) and self._lines is not None:
            held, self._parts = b"".join(self._parts), []
            return self._lines.feed(held)
        if self._size > self._max_body and (self._decided or self._is_form):
            problem = f"the JSON has more than {self._max_body} bytes (setting max_body); NDJSON may be of any length"
            cure = " (curl: --data-binary leaves its lines whole)" if self._is_form else ""
            raise BodyError(problem + cure, 413, "too_big")
        return []

    def end(self) -> Iterator[Line]:
        """The records that are left at the body's end.

        Raises:
            BodyError: the body was JSON and is none; the records before the fault have been given.
        """
        held = b"".join(self._parts)
        if self._lines is None or (not self._decided and (self._declared_json or _is_row(held))):
            yield from values(held)
        else:
            yield from self._lines.feed(held)
            yield from self._lines.end()

    def _decide(self, data: bytes) -> bool:
        """Tell the form by the first line, if it is there or too long; returns whether it could be told. What is told
        depends on the body alone, not on the pieces in which it comes."""
        if not self._begun:
            # White space may come without end, in small pieces: each is looked at once.
            lead = (self._lead + data).lstrip(WHITE_SPACE)
            data = _without_mark(lead)
            self._lead, self._begun = lead[: len(BOM)], data[:1]
            self._before = self._size - len(lead if len(lead) < len(BOM) else data)
        if not self._is_form and self._before > self._max_line:
            whole = self._declared_json
        elif self._begun == b"[":
            whole = True
        elif not self._begun or not self._shows_line(data):
            return False
        else:
            line, newline, _ = _without_mark(b"".join(self._parts)).partition(b"\n")
            if not newline or len(line) > self._max_line:
                whole = self._declared_json
            else:
                whole = not _is_value(line) if self._declared_json else line.rstrip().endswith(_OPENERS)
        if whole:
            self._lines = None
        self._decided = True
        return True

    def _shows_line(self, data: bytes) -> bool:
        """Whether the first line has come, by the newest piece: to its end, or as much as a line may have."""
        if self._is_form:
            return b"\n" in data[: max(len(data) - max(self._size - self._max_body, 0), 0)]
        return b"\n" in data or self._size - self._before > self._max_line


def _without_mark(data: bytes) -> bytes:
    """Text without white space and a byte order mark before it; empty where it may still become one."""
    data = data.lstrip(WHITE_SPACE)
    return data.removeprefix(BOM).lstrip(WHITE_SPACE) if len(data) >= len(BOM) or not BOM.startswith(data) else b""


def _is_value(line: bytes) -> bool:
    try:
        text = line.decode()
        return _space(text, _scan(text, 0)) == len(text)
    except (UnicodeDecodeError, BodyError):
        return False


def _is_row(data: bytes) -> bool:
    """Whether another object follows the first one on its line."""
    if not _JOINED.search(data):
        return False
    try:
        text = _without_mark(data).decode()
        return text.startswith("{") and text.startswith("{", _space(text, _scan(text, 0)))
    except (UnicodeDecodeError, BodyError):
        return False


def values(data: bytes) -> Iterator[Line]:
    """The records of a JSON body: one object, the elements of an array, or several objects in a row, byte for byte.

    Raises:
        BodyError: the body is not UTF-8 or not JSON; the records before the fault have been given.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BodyError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    at = _space(text, 0)
    if text.startswith("\ufeff", at):
        at = _space(text, at + 1)
    if at == len(text):
        raise BodyError(EMPTY)
    if text[at] == "[":
        at = yield from _elements(text, at + 1)
        if at < len(text):
            raise BodyError(f"the body is not valid JSON: something follows the array, at character {at}")
        return
    number = 0
    while at < len(text):
        number += 1
        end = _scan(text, at)
        yield Line(number, text[at:end].encode())
        at = _space(text, end)


def _elements(text: str, at: int) -> Generator[Line, None, int]:
    """The elements of an array that begins before ``at``; returns where its end is, and what space follows."""
    at = _space(text, at)
    if text[at : at + 1] == "]":
        return _space(text, at + 1)
    number = 0
    while True:
        number += 1
        end = _scan(text, at)
        yield Line(number, text[at:end].encode())
        at = _space(text, end)
        separator = text[at : at + 1]
        at = _space(text, at + 1)
        if separator == "]":
            return at
        if separator != ",":
            raise BodyError(f"the body is not valid JSON: the array has no comma or end before character {at}")


def _scan(text: str, at: int) -> int:
    """The end of the value that begins at ``at``."""
    try:
        _, end = _DECODER.raw_decode(text, at)
    except RecursionError:
        raise BodyError(f"a record is nested deeper than {MAX_NESTING}; it begins at character {at}") from None
    except ValueError as error:
        hint = web_form(text)
        raise BodyError(f"the body is not valid JSON: {error}{hint and '; '}{hint}") from None
    return end


def _space(text: str, at: int) -> int:
    """The first character at or after ``at`` that is no white space."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


_DECODER: Final = json.JSONDecoder(parse_int=len, parse_float=len)  # nobody asks what the numbers are
