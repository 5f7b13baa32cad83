"""Splits the text of a pipe or a file into records, each as soon as it is complete.

NDJSON is split line by line. If the first line is not NDJSON, because it opens an array or an object that continues on
the next line, or contains several objects, the text is split at brackets instead: ``jq .`` and ``json.dump(indent=2)``
write such text. The elements of an array are returned before its end: a simulation may never close it. ``tick.parse``
decides whether a record is a tick.

Pure: no I/O, no asyncio.
"""

from __future__ import annotations

import re
from typing import Final

from ..errors import BodyError
from ..model.invalid_json import BOM, other_encoding
from ..model.tick import WHITE_SPACE, shorten
from .record_splitter import OPENERS, Line, LineSplitter, is_row

_BETWEEN: Final = WHITE_SPACE + b","  # what may stand between two records
_BLANK_BYTES: Final = 1 << 16  # of blank text before the first line with content, which shows the format
_BRACKET: Final = re.compile(rb"[{}\[\]]")
_IN_RECORD: Final = re.compile(rb'[{}\[\]"]')
_IN_STRING: Final = re.compile(rb'\\.|"', re.DOTALL)
_ARRAY: Final = re.compile(rb"\[[ \t\r]*(?:[\[{\]]|$)")  # but not a log's "[info]"


class Pipe:
    """Splits UTF-8 text, with or without a byte order mark; ``max_record`` bounds what is buffered of an incomplete
    record, in bytes.

    A longer record is returned as its first ``max_record`` + 1 bytes, which shows that it is too long. A record's line
    number is that of the line where it begins, from 1.
    """

    def __init__(self, max_record: int) -> None:
        self._max_record = max_record
        self._splitter: LineSplitter | BracketSplitter | None = None  # None until the first line shows which
        self._head = b""  # the first four bytes
        self._held = bytearray()  # up to the end of the first line that is not blank

    def feed(self, data: bytes) -> list[Line]:
        """The records that are complete now.

        Raises:
            BodyError: this is not UTF-8 text.
        """
        if self._splitter is not None:
            return self._splitter.feed(data)
        if len(self._head) < 4:
            self._head += data[: 4 - len(self._head)]
            if len(self._head) == 4 and (other := other_encoding(self._head)) is not None:
                raise BodyError(f"it is {other}")
        self._held += data
        if b"\n" not in data and len(self._held) <= self._max_record:
            return []
        text = self._text()
        line, newline, _ = text.partition(b"\n")
        blank = len(self._held) - len(text)
        if not newline and len(line) <= self._max_record and blank <= _BLANK_BYTES:
            return []
        return self._begin(bytes(line) if blank <= _BLANK_BYTES else b"")

    def end(self) -> list[Line]:
        """The records that are left at the end.

        Raises:
            BodyError: a record or an array is incomplete.
        """
        found: list[Line] = []
        if self._splitter is None:
            found = self._begin(bytes(self._text()))
        assert self._splitter is not None
        return found + self._splitter.end()

    def _text(self) -> bytearray:
        """The buffered text, without a byte order mark and white space before it."""
        return self._held.lstrip(WHITE_SPACE).removeprefix(BOM).lstrip(WHITE_SPACE)

    def _begin(self, first: bytes) -> list[Line]:
        first = first[: self._max_record]  # so that the format does not depend on how a long line was cut into pieces
        several = _ARRAY.match(first) or first.rstrip().endswith(OPENERS) or is_row(first)
        self._splitter = BracketSplitter(self._max_record) if several else LineSplitter(self._max_record)
        held, self._held = bytes(self._held), bytearray()
        if held.lstrip(WHITE_SPACE).startswith(BOM):
            held = held.replace(BOM, b"", 1)
        return self._splitter.feed(held)


class BracketSplitter:
    """Splits JSON at its brackets, into the elements of arrays and concatenated objects. Anything else between them is
    returned too, for the parser to refuse."""

    def __init__(self, max_record: int) -> None:
        self._max_record = max_record
        self._held = bytearray()
        self._at = 0  # how far it was scanned
        self._from = 0  # where data not yet returned begins
        self._start = -1  # where the open record begins; -1: there is none
        self._line = self._begun = 1  # the line numbers of ``_from`` and of the open record
        self._depth = 0
        self._in_array = False
        self._in_string = False
        self._cut = False  # the open record was too long: its beginning was returned, the rest is dropped

    def feed(self, data: bytes) -> list[Line]:
        """The records that are complete now."""
        found: list[Line] = []
        self._held += data
        while self._look(found):
            pass
        if len(self._held) - self._from > self._max_record:
            self._cut_off(found)
        del self._held[: self._from]
        self._at -= self._from
        self._start = max(self._start - self._from, 0) if self._start >= 0 else -1
        self._from = 0
        return found

    def end(self) -> list[Line]:
        """The records left between brackets.

        Raises:
            BodyError: a record or an array is open.
        """
        if self._start >= 0:
            raise BodyError(f"the record that begins in line {self._begun} breaks off")
        found: list[Line] = []
        given = self._cut
        self._give(found, self._from, len(self._held))
        if self._in_array and not found and not given:
            raise BodyError("the array breaks off: it has no closing bracket")
        return found

    def _look(self, found: list[Line]) -> bool:
        """Scan to the next bracket that matters; returns whether there was one."""
        marks = _IN_STRING if self._in_string else _IN_RECORD if self._start >= 0 else _BRACKET
        mark = marks.search(self._held, self._at)
        if mark is None:
            # A lone backslash at the end is scanned again, together with the character that it escapes.
            lone = self._in_string and self._at < len(self._held) and self._held.endswith(b"\\")
            self._at = len(self._held) - lone
            return False
        self._at = mark.end()
        match mark[0]:
            case b'"':
                self._in_string = not self._in_string
            case b"[" if self._depth == 0:
                self._give(found, self._from, mark.start())
                self._drop(self._at)
                self._depth, self._in_array = 1, True
            case b"]" if self._start < 0 and self._in_array:
                self._give(found, self._from, mark.start())
                self._drop(self._at)
                self._depth, self._in_array = 0, False
            case b"{" | b"[":
                if self._start < 0:
                    self._give(found, self._from, mark.start())
                    self._drop(mark.start())
                    self._start, self._begun = mark.start(), self._line
                self._depth += 1
            case b"}" | b"]" if self._start >= 0:
                self._depth -= 1
                if self._depth == int(self._in_array):
                    self._give(found, self._start, self._at)
                    self._drop(self._at)
                    self._start = -1
        return True

    def _cut_off(self, found: list[Line]) -> None:
        """Return the beginning of a record once it is known to be too long; white space after it does not count."""
        if not self._cut:
            if self._start < 0:
                self._drop(len(self._held) - len(self._held[self._from :].lstrip(_BETWEEN)))
            rest = self._held[self._from + self._max_record :]
            if len(rest) <= self._max_record and not rest.strip(_BETWEEN):
                return
            self._give(found, self._from, len(self._held))
            self._cut = True
        self._drop(self._at)

    def _give(self, found: list[Line], start: int, end: int) -> None:
        """Return the record that ends here, unless its beginning was returned already."""
        data = b"" if self._cut else bytes(self._held[start:end]).lstrip(_BETWEEN)
        self._cut = False
        if data:
            begin = end - len(data)
            line = self._line + self._held.count(b"\n", self._from, begin)
            found.append(Line(line, shorten(data.rstrip(_BETWEEN), self._max_record)))

    def _drop(self, until: int) -> None:
        self._line += self._held.count(b"\n", self._from, until)
        self._from = until
