"""Splits publishers' request bodies into the bytes of single records as they arrive.

NDJSON is split line by line, without end; JSON (an object, an array, or several concatenated objects) is buffered as a
whole. Concatenated objects also result from NDJSON whose line breaks were dropped (``curl -d @file``). ``Records``
detects the format, because few publishers send the right media type. ``tick.parse`` decides whether a record is a tick.

Pure: no I/O, no asyncio.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..errors import BodyError, BodyTooBig
from ..model.invalid_json import BOM, other_encoding, web_form
from ..model.large_json import parts
from ..model.tick import MAX_NESTING, WHITE_SPACE, PartialLine, shorten

EMPTY: Final = "the body is empty; accepted: NDJSON, a JSON object or a JSON array"
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_JOINED: Final = re.compile(rb"\}[ \t\r]*\{")  # objects side by side; may also be text in a string
_WINDOW_BYTES: Final = 256 * 1024  # of JSON, decoded at a time
_HINT_BYTES: Final = 4096
_LINES: Final = ("ndjson", "jsonl", "jsonlines")  # the ends of NDJSON's media types
_FORM: Final = "application/x-www-form-urlencoded"  # what curl sends unless told otherwise
OPENERS: Final = (b"{", b"[", b",", b":")  # ends of a pretty-printed object's first line, but of no line of NDJSON


class Line(NamedTuple):
    """A record's bytes and its line number (NDJSON) or index (JSON), from 1."""

    number: int
    data: bytes


class LineSplitter:
    """Splits NDJSON. ``max_line`` bounds what is buffered of an incomplete line, in bytes; white space around it does
    not count.

    A longer line is returned as ``max_line`` + 1 bytes (see ``tick.shorten``), which shows that it is too long; the
    rest, up to its newline, is dropped. The result does not depend on the pieces in which the bytes arrive.
    """

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._partial = PartialLine(max_line)
        self._number = 0  # complete lines so far

    def feed(self, data: bytes) -> list[Line]:
        """The lines that are complete now; blank ones are counted but not returned."""
        blank = 0
        if _is_blank(data) and (count := len(data) - len(data.translate(None, b"\n"))) > 2:
            # The number of blank lines is not bounded, and they compress to nothing: do not make a list of a million of
            # them.
            data, blank = data[: data.index(b"\n") + 1] + data[data.rindex(b"\n") :], count - 2
        lines = data.split(b"\n")
        self._partial.add(lines[0])
        if len(lines) == 1:
            return []
        lines[0] = self._partial.end()
        last = lines.pop()
        limit, found, number = self._max_line, [], self._number
        for line in lines:
            number += 1
            if not _is_blank(line):
                found.append(Line(number, line if len(line) <= limit else shorten(line, limit)))
        self._number = number + blank
        self._partial.add(last)
        return found

    def end(self) -> list[Line]:
        """The last line, if no newline ended it."""
        line = self._partial.end()
        self._number += 1
        return [] if _is_blank(line) else [Line(self._number, line)]


def _is_blank(line: bytes) -> bool:
    # isspace is fast: it stops at the first other character
    return not line or (line.isspace() and not line.strip(WHITE_SPACE))


class Records:
    """Splits a body of either format: UTF-8 text, with or without a byte order mark.

    NDJSON is recognised by its media type or by its first line. A body that begins with an array or a pretty-printed
    object is JSON, which is buffered to its end.

    Args:
        media_type: the request's ``Content-Type``, without parameters.
        max_line: the longest line, in bytes.
        max_body: the largest body of JSON, in bytes.
    """

    def __init__(self, media_type: str, max_line: int, max_body: int) -> None:
        self._lines: LineSplitter | None = LineSplitter(max_line)
        self._declared_json = media_type == "application/json" or media_type.endswith("+json")
        self._is_form = media_type == _FORM
        self._decided = media_type.endswith(_LINES)
        self._max_line, self._max_body = max_line, max_body
        self._parts: list[bytes] = []  # buffered: until the format is known, or JSON
        self._size = 0
        self._head = b""  # the first four bytes
        self._lead = b""  # what came before it, without white space: nothing, or a part of the byte order mark
        self._begun = b""  # the first byte after white space and a byte order mark
        self._before = 0  # number of bytes before that

    def feed(self, data: bytes) -> list[Line]:
        """The records that are complete now.

        Raises:
            BodyError: more than ``max_body`` of JSON, or not UTF-8 text.
        """
        if len(self._head) < 4:
            self._head += data[: 4 - len(self._head)]
            if len(self._head) == 4 and (other := other_encoding(self._head)) is not None:
                raise BodyError(f"the body is {other}", 415)
        if self._decided and self._lines is not None:
            return self._lines.feed(data)
        self._parts.append(data)
        self._size += len(data)
        if not self._decided and self._decide(data) and self._lines is not None:
            held, self._parts = b"".join(self._parts), []
            return self._lines.feed(held)
        if self._size > self._max_body and (self._decided or self._is_form):
            raise BodyTooBig(self._max_body, " (curl: --data-binary leaves its lines whole)" if self._is_form else "")
        return []

    def end(self) -> Iterator[Line]:
        """The records that are left at the body's end.

        Raises:
            BodyError: the body should be JSON and is not; the records before the fault were already yielded.
        """
        held = b"".join(self._parts)
        if self._lines is None or (not self._decided and (self._declared_json or is_row(held))):
            yield from values(held)
        else:
            yield from self._lines.feed(held)
            yield from self._lines.end()

    def _decide(self, data: bytes) -> bool:
        """Detect the format by the first line, if it is complete or too long; returns whether that was possible. The
        result depends on the body alone, not on the pieces in which it arrives."""
        if not self._begun:
            # The white space may be endless and come in small pieces: look at each piece once.
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
                whole = not _is_value(line) if self._declared_json else line.rstrip().endswith(OPENERS)
        if whole:
            self._lines = None
        self._decided = True
        return True

    def _shows_line(self, data: bytes) -> bool:
        """Whether the newest piece completes the first line, or makes it as long as a line may be."""
        if self._is_form:
            return b"\n" in data[: max(len(data) - max(self._size - self._max_body, 0), 0)]
        return b"\n" in data or self._size - self._before > self._max_line


def _without_mark(data: bytes) -> bytes:
    """Text without white space and a byte order mark before it; empty if it may be the start of one."""
    data = data.lstrip(WHITE_SPACE)
    return data.removeprefix(BOM).lstrip(WHITE_SPACE) if len(data) >= len(BOM) or not BOM.startswith(data) else b""


def _is_value(line: bytes) -> bool:
    try:
        text = _JSONText(line)
        text.value()
        return not text.next()
    except BodyError:
        return False


def is_row(data: bytes) -> bool:
    """Whether the text begins with an object that is followed by another one on the same line."""
    if not _JOINED.search(data):
        return False
    try:
        text = _JSONText(_without_mark(data))
        if text.next() != "{":
            return False
        text.value()
        return text.next() == "{"
    except BodyError:
        return False


def values(data: bytes) -> Iterator[Line]:
    """The records of a JSON body: one object, the elements of an array, or several concatenated objects, byte for byte.

    Raises:
        BodyError: the body is not UTF-8 or not JSON; the records before the fault were already yielded.
    """
    text = _JSONText(data)
    if text.next() == "\ufeff":
        text.step()
    if not (first := text.next()):
        raise BodyError(EMPTY)
    if first == "[":
        text.step()
        yield from _elements(text)
        if text.next():
            raise BodyError(f"the body is not valid JSON: something follows the array, at character {text.at}")
        return
    number = 0
    while text.next():
        number += 1
        yield Line(number, text.value())


def _elements(text: _JSONText) -> Iterator[Line]:
    """The elements of an array whose bracket was read; reads no further than its end."""
    if text.next() == "]":
        text.step()
        return
    number = 0
    while True:
        number += 1
        yield Line(number, text.value())
        separator = text.next()
        text.step()
        if separator == "]":
            return
        if separator != ",":
            text.next()
            raise BodyError(f"the body is not valid JSON: the array has no comma or end before character {text.at}")


class _JSONText:
    """Reads JSON of any size value by value: decodes a window of text at a time, and keeps little of a value while
    looking for its end.

    Raises:
        BodyError: the text is not UTF-8.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._begin = self._end = 0  # the window in the data, in bytes
        self._chars = 0  # characters before it
        self._window = ""
        self._at = 0  # the current character in it
        if not data.isascii():
            _check_utf8(data)
        self._move()

    @property
    def at(self) -> int:
        """The index of the current character."""
        return self._chars + self._at

    def next(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            match = _SPACE.match(self._window, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._window) or self._last:
                return self._window[self._at : self._at + 1]
            self._move()

    def step(self) -> None:
        """Skip that character, if there is one."""
        self._at += self._at < len(self._window)

    def value(self) -> bytes:
        """The value that begins here.

        Raises:
            BodyError: there is none.
        """
        self.next()
        while True:
            try:
                _, end = _DECODER.raw_decode(self._window, self._at)
                if end + len("e+") < len(self._window) or self._last:  # a number may be cut inside its exponent
                    found = self._window[self._at : end].encode()
                    self._at = end
                    return found
            except RecursionError:
                raise BodyError(self._too_deep()) from None
            except ValueError as error:
                if self._last:
                    assert isinstance(error, json.JSONDecodeError)
                    raise self._fault(error.msg, self._place(error.pos)) from None
            if not self._at:
                return self._large()
            self._move()

    @property
    def _last(self) -> bool:
        """Whether the window reaches the end of the data."""
        return self._end == len(self._data)

    def _place(self, at: int) -> int:
        """The byte offset in the data of a character of the window."""
        return self._begin + len(self._window[:at].encode())

    def _move(self, begin: int | None = None) -> None:
        """Move the window to the current character, or to a byte offset."""
        before, self._begin = self._begin, self._place(self._at) if begin is None else begin
        self._chars += len(self._data[before : self._begin].decode())
        piece = self._data[self._begin : self._begin + _WINDOW_BYTES]
        self._window, size = codecs.utf_8_decode(piece, "strict", False)
        self._end, self._at = self._begin + size, 0

    def _large(self) -> bytes:
        """The value at the start of the window, which is larger than the window."""
        begin = self._begin
        for part in parts(self._data, begin):
            before = len(part.before)
            text = (part.before + self._data[part.begin : part.end]).decode()
            try:
                _, end = _DECODER.raw_decode(text + part.behind.decode())
            except RecursionError:
                raise BodyError(self._too_deep()) from None
            except ValueError as error:
                assert isinstance(error, json.JSONDecodeError)
                place = part.begin + len(text[before : error.pos].encode()) + min(error.pos - before, 0)
                raise self._fault(error.msg, place) from None
            if end <= len(text):
                stop = part.begin + len(text[before:end].encode())
                self._move(stop)
                return self._data[begin:stop]
        raise AssertionError("the last part ends where the data does")

    def _too_deep(self) -> str:
        return f"a record is nested deeper than {MAX_NESTING}; it begins at character {self.at}"

    def _fault(self, problem: str, place: int) -> BodyError:
        """An error at a byte, in the words of ``json``."""
        data = self._data
        line, column = data.count(b"\n", 0, place) + 1, len(data[data.rfind(b"\n", 0, place) + 1 : place].decode()) + 1
        at = f"line {line} column {column} (char {len(data[:place].decode())})"
        hint = web_form(data[:_HINT_BYTES].decode(errors="ignore"))
        return BodyError(f"the body is not valid JSON: {problem}: {at}{hint and '; '}{hint}")


def _check_utf8(data: bytes) -> None:
    at = 0
    while at < len(data):
        final = at + _WINDOW_BYTES >= len(data)
        try:
            at += codecs.utf_8_decode(data[at : at + _WINDOW_BYTES], "strict", final)[1]
        except UnicodeDecodeError as error:
            raise BodyError(f"the body is not UTF-8: {error.reason} at byte {at + error.start}") from None


_DECODER: Final = json.JSONDecoder(parse_int=len, parse_float=len)  # only the extent of numbers matters
