"""Why published bytes are no valid JSON: one sentence with the cause and, where there is one, the remedy.

Called only after the strict parser refused the bytes, so valid ticks cost nothing here. Certain causes come first:
another text encoding; then JSON that the grammar allows and common readers do not accept; then syntax errors.

Pure: bytes in, a sentence out.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

BOM: Final = b"\xef\xbb\xbf"
_UTF16: Final = "UTF-16 or UTF-32, not UTF-8: write it as UTF-8 (PowerShell: -Encoding utf8)"
_COMPRESSED: Final = {b"\x1f\x8b": ("gzip", "zcat"), b"\x28\xb5\x2f\xfd": ("zstd", "zstdcat")}
_FORM: Final = re.compile(r"%7B|%5B|[\w.-]+=", re.IGNORECASE)
_CONSTANT: Final = re.compile(r"-?(?:nan|inf(?:inity)?)\b", re.IGNORECASE)
_PYTHON: Final = re.compile(r"'|(?:True|False|None)\b")
_ONE_LINE: Final = "an object takes one line (jq -c)"
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_NUMBER: Final = re.compile(r"-?[0-9.eE+-]+")


def other_encoding(head: bytes) -> str | None:
    """What the data is instead of UTF-8 text, by its first four bytes; None: it may be UTF-8."""
    for magic, (name, tool) in _COMPRESSED.items():
        if head.startswith(magic):
            return f"compressed with {name}: decompress it first ({tool}), or POST it with Content-Encoding: {name}"
    return _UTF16 if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head else None


def explain(data: bytes, error: orjson.JSONDecodeError, *, inside: bool = False) -> str:
    """Why the parser refused ``data`` with ``error``; ``inside``: published in-process, so no shell tool is
    suggested."""
    if not data:
        return "not valid JSON: it is empty"
    if (other := other_encoding(data[:4])) is not None:
        return f"not valid JSON: it is {other}"
    try:
        text = data.decode()
    except UnicodeDecodeError as fault:
        if data[fault.start] == 0xED and data[fault.start + 1 : fault.start + 2] >= b"\xa0":
            return f"it has a lone surrogate at byte {fault.start}, which UTF-8 does not have"
        return f"not valid JSON: it is not UTF-8, by byte 0x{data[fault.start]:02x} at {fault.start}"
    rest = text[error.pos : error.pos + 400]
    if "infinity" in error.msg:
        number = _NUMBER.match(rest)
        shown = number[0] if number else "a number"
        shown = shown if len(shown) <= 40 else f"{shown[:20]}... ({len(shown)} characters or more)"
        return f"the number {shown} is beyond 1.8e308 (binary64), which JSON readers take for infinity"
    if "surrogate" in error.msg:
        # Depending on its release, orjson reports the position of either end.
        found = _SURROGATE.search(text, max(error.pos - 12, 0), error.pos + 12)
        return f"the escape {found[0] if found else ''} is a lone surrogate, which UTF-8 does not have"
    hint = _hint_inside(rest) if inside else _hint(text, error.pos, rest)
    return f"not valid JSON: {error}{hint and '; '}{hint}"


def web_form(text: str) -> str:
    """What to do about a body in a web form's encoding; empty: it has none."""
    if _FORM.match(text):
        return "this is the encoding of web forms: send JSON (curl: --data-binary)"
    if text.startswith("--"):
        return "this is a form in parts: send the file itself (curl: --data-binary)"
    return ""


def _hint_inside(rest: str) -> str:
    """A hint for a string that is published in-process."""
    if _CONSTANT.match(rest):
        return "NaN and Infinity are no JSON"
    if _PYTHON.match(rest):
        return "this is how Python shows it: publish the dict itself, or json.dumps of it"
    return "a string is published as a tick's JSON, a dict as it is"


def _hint(text: str, at: int, rest: str) -> str:
    """The likely mistake, and what to do about it; empty where none is likely."""
    if _CONSTANT.match(rest):
        return "NaN and Infinity are no JSON"
    if _PYTHON.match(rest):
        return "this is how Python shows it, json.dumps makes JSON of it"
    if form := web_form(text):
        return form
    if at >= len(text) or text[0] in '"}]':
        return _ONE_LINE
    if rest[0] in "{[" and text[:at].rstrip().endswith("}"):
        return "one tick a line, or a message"
    return ""
