"""Suggestions for misspelled names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

_MOST: Final = 80  # characters that are looked at: names are short, and what comes over the network may not be


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """``; did you mean NAME?`` for the likely one of ``accepted``, whatever its case; empty where none is near.

    For the end of a sentence: what stands last is what is read first on a terminal.
    """
    lower = {name.lower(): name for name in accepted}
    near = difflib.get_close_matches(word[:_MOST].lower(), lower, n=1, cutoff=0.7)
    return f"; did you mean {lower[near[0]]}?" if near else ""
