"""Content negotiation (RFC 9110): which content coding a request gets, which clients cannot read all that they ask for,
and whether a client has an answer already.

Pure: text in, a name out.
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
    """What an ``Accept-Encoding`` header gives each coding, by its lower-case name; what cannot be read counts as 0."""
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
    """The coding to answer in, of those that there are, the best first; empty: the bytes as they are.

    Raises:
        NotAcceptable: the request refuses all that there is, the bytes as they are included.
    """
    best = max(codings, key=lambda coding: quality(header, coding), default="")  # the first of those taken alike
    if best and accepts(header, best):
        return best
    if refuses_identity(header):
        raise NotAcceptable(header, codings)
    return ""


def refuses_identity(header: str) -> bool:
    """Whether a request takes no bytes as they are."""
    found = qualities(header)
    return found.get("identity", found.get("*", 1.0)) <= 0


def reads_first_frame_only(user_agent: str) -> bool:
    """Whether a client, by its ``User-Agent``, reads the first zstd frame of a body and drops the others without a
    word, as all do that decode by Node's zlib (seen in fetch of Node 24, undici 7, got 14)."""
    return _ONE_FRAME.match(user_agent) is not None


def matches_etag(header: str, tag: str) -> bool:
    """Whether an ``If-None-Match`` header has an entity tag, weakly compared (RFC 9110, section 13.1.2)."""
    return header.strip() == "*" or tag in _TAG.findall(header)


def quality(header: str, coding: str) -> float:
    """How much a request likes a coding, 0 (not at all) to 1."""
    found = qualities(header)
    return found.get(coding, found.get("*", 0.0))


def accepts(header: str, coding: str) -> bool:
    """Whether a request takes a coding, and does not like the bytes as they are better.

    Without the header (an empty one) nothing is asked for.
    """
    liked = quality(header, coding)
    return liked > 0 and liked >= qualities(header).get("identity", 0.0)
