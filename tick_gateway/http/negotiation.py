"""Content negotiation (RFC 9110): the content coding of an answer, which clients read only the first frame of a body,
and whether a client already has an answer.

Pure: header values in, names and booleans out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ..errors import NotAcceptable

_ONE_FRAME: Final = re.compile(r"(?:got|node|undici)\b")
_TAG: Final = re.compile(r'"([^"\s]*)"')
_QUALITY: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def qualities(header: str) -> dict[str, float]:
    """The quality values in an ``Accept-Encoding`` header by coding, in lower case; a malformed one counts as 0."""
    found: dict[str, float] = {}
    for part in header.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if not name:
            continue
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                quality = float(value) if _QUALITY.fullmatch(value.strip()) else 0.0
        found[name.lower()] = quality
    return found


def choose(header: str, codings: Sequence[str]) -> str:
    """The content coding to answer in; empty: none (identity).

    Args:
        codings: the available ones, in order of preference.

    Raises:
        NotAcceptable: the request refuses all of them and identity.
    """
    best = max(codings, key=lambda coding: quality(header, coding), default="")  # the first of equal ones
    if best and accepts(header, best):
        return best
    if refuses_identity(header):
        raise NotAcceptable(header, codings)
    return ""


def refuses_identity(header: str) -> bool:
    """Whether a request does not accept an uncoded answer."""
    found = qualities(header)
    return found.get("identity", found.get("*", 1.0)) <= 0


def reads_first_frame_only(user_agent: str) -> bool:
    """Whether a client, by its ``User-Agent``, decodes the first zstd frame of a body and silently drops the others,
    like all that use Node's zlib (seen in fetch of Node 24, undici 7, got 14)."""
    return _ONE_FRAME.match(user_agent) is not None


def matches_etag(header: str, tag: str) -> bool:
    """Whether an ``If-None-Match`` header has an entity tag, weakly compared (RFC 9110, section 13.1.2)."""
    return header.strip() == "*" or tag in _TAG.findall(header)


def quality(header: str, coding: str) -> float:
    """The quality value of a coding, from 0 (refused) to 1."""
    found = qualities(header)
    return found.get(coding, found.get("*", 0.0))


def accepts(header: str, coding: str) -> bool:
    """Whether a request accepts a coding, and does not prefer identity to it. An empty header accepts none."""
    value = quality(header, coding)
    return value > 0 and value >= qualities(header).get("identity", 0.0)
