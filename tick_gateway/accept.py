"""Content negotiation: which of the codings that the gateway has a request asks for (RFC 9110, section 12.5.3).

Pure: text in, a name out.
"""

from __future__ import annotations

import re
from typing import Final

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


def takes(header: str, coding: str, *others: str) -> bool:
    """Whether a request takes a coding, and none of ``others``, nor the bytes as they are, better.

    Without the header (an empty one) nothing is asked for.
    """
    found = qualities(header)
    quality = found.get(coding, found.get("*", 0.0))
    best = max((found.get(other, 0.0) for other in others), default=0.0)
    return quality > 0 and quality >= max(best, found.get("identity", 0.0))
