"""Lines that are no tick, and what the gateway says of each. Where it is "at most", the line has about 2,000 bytes."""

from __future__ import annotations

REFUSED: list[tuple[bytes, str]] = [
    (b"nonsense", "not valid JSON"),
    (b"\xff\xfe", "UTF-8"),
    (b'{"t":1,"x":"\xff"}', "UTF-8"),
    (b"[1]", "this is an array"),
    (b"7", "this is the number 7"),
    (b'"t"', "this is a string"),
    (b"null", "this is null"),
    (b"{}", 'no member "t"'),
    (b'{"T":1}', 'no member "t"'),
    (b'{"t":-1}', "0 <= t < 2^53"),
    (b'{"t":1.0}', "the number 1.0"),
    (b'{"t":1.5}', "the number 1.5"),
    (b'{"t":1e3}', "the number 1000.0"),
    (b'{"t":9007199254740992}', "0 <= t < 2^53"),
    (b'{"t":18446744073709551616}', "integer literal"),
    (b'{"t":true}', "true or false"),
    (b'{"t":null}', "this is null"),
    (b'{"t":"1"}', "a string"),
    (b'{"t":[1]}', "an array"),
    (b'{"t":01}', "not valid JSON"),
    (b'{"t":1,}', "not valid JSON"),
    (b'{"t":1', "not valid JSON"),
    (b'{"t":1}}', "not valid JSON"),
    (b'{"t":1} {"t":2}', "not valid JSON"),
    (b'{"t":1,"x":NaN}', "NaN and Infinity are no JSON"),
    (b'{"t":1,"x":-Infinity}', "NaN and Infinity are no JSON"),
    (b'{"t":1,"x":1.}', "not valid JSON"),
    (b'{"t":1,"x":"\x01"}', "not valid JSON"),
    (b'{"t":1,"x":"\\ud800"}', "the escape \\ud800 is a lone surrogate"),
    (b'{"t":1,"x":1e999}', "the number 1e999 is beyond"),
    (b'{"t":1,"x":' + b"9" * 1400 + b"}", "beyond 1.8e308"),
    (b'{"t":1,"x":' + b"[" * 513 + b"]" * 513 + b"}", "nested deeper than 512"),
    (b'{"t":1,"x":"' + b"x" * 2000 + b'"}', "at most"),
]

MARKED = ["\ufeff", " " * 7, "\n", "\r\n", "NaN", "[", '{"t":1}', '{"t":', "]", ",", "\x0b" * 6, "7" * 7, "e", "1"]
"""Pieces of text at which a reader of JSON or of lines may go wrong."""
