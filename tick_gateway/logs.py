"""Throttled logging, for events that thousands of readers, or every tick, can trigger: each sentence is logged at most
once a minute, and only a limited number of different sentences a minute."""

from __future__ import annotations

import logging
import time
from typing import Final

LOG_SECONDS: Final = 60.0
_MOST: Final = 20  # different sentences a minute


class ThrottledLog:
    """Forwards sentences to a logger, except those logged within the last minute and those above the limit."""

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
