"""Logging what may happen to thousands of readers at once, or again and again: each sentence once a minute at most."""

from __future__ import annotations

import logging
import time
from typing import Final

LOG_SECONDS: Final = 60.0
_MOST: Final = 100  # sentences remembered


class ThrottledLog:
    """Passes on to a logger what it was not told just before."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._told: dict[str, float] = {}  # when, by sentence; oldest first

    def tell(self, level: int, sentence: str, error: BaseException | None = None) -> None:
        """Log a sentence, with the traceback of ``error``."""
        now = time.monotonic()
        if now - self._told.get(sentence, -LOG_SECONDS) < LOG_SECONDS:
            return
        self._told.pop(sentence, None)
        self._told[sentence] = now
        if len(self._told) > _MOST:
            del self._told[next(iter(self._told))]
        self._log.log(level, "%s", sentence, exc_info=error)
