"""Suggestions for misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

_MOST: Final = 80  # characters to compare: input from the network may be long


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """``; did you mean NAME?`` for the likely one of ``accepted``, whatever its case; empty where none is near.

    For the end of a sentence: the end is what people read first on a terminal.
    """
    lower = {name.lower(): name for name in accepted}
    near = difflib.get_close_matches(word[:_MOST].lower(), lower, n=1, cutoff=0.7)
    return f"; did you mean {lower[near[0]]}?" if near else ""
