"""Large JSON, parsed in parts of bounded size: 8 MB of ``{}`` would become hundreds of megabytes of Python objects.

A part ends after a comma. Arrays and objects open at that point are closed after the part and reopened before the
next one, each with a neutral element on the other side of the comma:

    {"t":1,"a":[{"b":2,   "c":3},   {"b":4}]}
    {"t":1,"a":[{"b":2,"":0}]}
               {"":[{"":0,"c":3},0]}
                         {"":[0,{"b":4}]}

The parser accepts all parts if and only if it accepts the whole: what may follow a comma depends only on which
brackets are open. In valid JSON, strings are found as any parser finds them; invalid JSON fails in the first part that
contains an error.

Pure: bytes in, bytes out. Whether bytes are JSON is decided by the parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final, NamedTuple

import orjson

MANY_BYTES: Final = 256 * 1024  # smaller data is always parsed as a whole
_MANY_VALUES: Final = 1 << 16  # so is data with fewer values
_PART_BYTES: Final = 64 * 1024  # maximum size of a part, unless it contains a longer string
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
STRINGS: Final = re.compile(_STRING, re.DOTALL)
_TO_COMMA: Final = re.compile(rb'(?:[^",]++|%b)*+,' % _STRING, re.DOTALL)
_TO_LAST_COMMA: Final = re.compile(rb'(?:(?:[^",]++|%b)*+,)++' % _STRING, re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_OPENERS: Final = b"[{"
_ARRAY: Final = ord("[")
_OPENED: Final = (b'{"":', b"[")  # an object and an array with more elements to come
_DEEPEST: Final = 1024  # orjson's limit
_SHALLOW: Final = 512  # up to this depth, an upper bound is enough
_ROUNDS: Final = 8  # of removing adjacent pairs of brackets, before the rest is counted one by one


class JSONPart(NamedTuple):
    """The data from ``begin`` up to ``end``; ``before`` and ``behind`` complete it to valid JSON.

    Attributes:
        brackets: its brackets, without those inside strings.
        opened: how many arrays and objects are open before it.
    """

    before: bytes
    begin: int
    end: int
    behind: bytes
    brackets: bytes
    opened: int

    @property
    def depth(self) -> int:
        """The nesting depth of valid JSON; exact above ``_SHALLOW``, an upper bound below."""
        rest, rounds = _without_pairs(self.brackets)
        most = self.opened + rounds + rest.count(b"[") + rest.count(b"{")
        return most if most <= _SHALLOW else self.opened + _depth(self.brackets)


def has_many_values(data: bytes) -> bool:
    """Whether the parsed objects may take very much memory."""
    if len(data) <= MANY_BYTES:
        return False
    return data.count(b",") + data.count(b"[") + data.count(b"{") > _MANY_VALUES


def depth_of(data: bytes) -> int:
    """The nesting depth of arrays and objects in valid JSON."""
    return _depth(STRINGS.sub(b"", data).translate(None, _NOT_BRACKETS))


def _depth(brackets: bytes) -> int:
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def parts(data: bytes, at: int = 0) -> Iterator[JSONPart]:
    """Split the JSON value that begins at ``at``, and whatever follows it, into parts."""
    opened = bytearray()  # the stack of open brackets
    begin = at
    while True:
        found = _TO_LAST_COMMA.match(data, begin, begin + _PART_BYTES) or _TO_COMMA.match(data, begin)
        end = found.end() if found else len(data)
        piece = data[begin:end]
        brackets = (STRINGS.sub(b"", piece) if b'"' in piece else piece).translate(None, _NOT_BRACKETS)
        before, count = _opening(opened), len(opened)
        if found:
            _update_open(opened, brackets)
        yield JSONPart(before, begin, end, _closing(opened) if found else b"", brackets, count)
        if not found:
            return
        begin = end


def _update_open(opened: bytearray, brackets: bytes) -> None:
    """Update the stack of open brackets by those that follow."""
    for bracket in _without_pairs(brackets)[0]:
        if bracket in _OPENERS:
            opened.append(bracket)
        elif opened:
            opened.pop()
        if not opened or len(opened) > _DEEPEST:  # the value is complete, or too deep for any parser
            return


def _without_pairs(brackets: bytes) -> tuple[bytes, int]:
    """Remove adjacent pairs of brackets for some rounds; also returns by how much that may have reduced the depth."""
    rounds = 0
    while rounds < _ROUNDS and (rest := brackets.replace(b"[]", b"").replace(b"{}", b"")) != brackets:
        brackets, rounds = rest, rounds + 2  # one round may remove `{[]}`
    return brackets, rounds


def _opening(opened: bytearray) -> bytes:
    if not opened:
        return b""
    return b"".join([_OPENED[one == _ARRAY] for one in opened]) + b"0,"


def _closing(opened: bytearray) -> bytes:
    if not opened:
        return b""
    last = b"0" if opened[-1] == _ARRAY else b'"":0'
    return last + bytes(opened[::-1]).translate(bytes.maketrans(_OPENERS, b"]}"))


def loads(data: bytes) -> tuple[Any, int]:
    """Parse JSON with many values as ``orjson.loads`` would; also returns its depth (see ``JSONPart.depth``).

    An object comes back with its last member ``t``, if any, and possibly without others; an array comes back empty.

    Raises:
        orjson.JSONDecodeError: as ``orjson.loads``, but for the order in which faults are found.
    """
    record: Any = None
    depth = 0
    for part in parts(data):
        try:
            found = orjson.loads(part.before + data[part.begin : part.end] + part.behind)
        except orjson.JSONDecodeError as error:
            text = data.decode(errors="replace")
            at = len(data[: part.begin].decode(errors="replace")) + error.pos - len(part.before)
            raise orjson.JSONDecodeError(error.msg, text, min(at, len(text))) from None
        depth = max(depth, part.depth)
        if record is None:
            record = {} if isinstance(found, dict) else [] if isinstance(found, list) else found
        if isinstance(found, dict) and "t" in found:
            record["t"] = found["t"]
    return record, depth
