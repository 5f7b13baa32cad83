"""Logging what may happen to thousands of readers at once, or again and again, or with every tick: each sentence once a
minute at most, and only so many sentences a minute."""

from __future__ import annotations

import logging
import time
from typing import Final

LOG_SECONDS: Final = 60.0
_MOST: Final = 20  # different sentences a minute


class ThrottledLog:
    """Passes on to a logger what it was not told within the last minute, while that is not too much."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._told: dict[str, float] = {}  # when, by sentence; oldest first

    def tell(self, level: int, sentence: str, error: BaseException | None = None) -> None:
        """Log a sentence, with the traceback of ``error``."""
        now = time.monotonic()
        while self._told and now - next(iter(self._told.values())) >= LOG_SECONDS:
            del self._told[next(iter(self._told))]
        if sentence in self._told or len(self._told) >= _MOST:
            return
        self._told[sentence] = now
        self._log.log(level, "%s", sentence, exc_info=error)
