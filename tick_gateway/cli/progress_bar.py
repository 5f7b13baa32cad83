"""A progress bar on a terminal, for long operations; if standard error is not a terminal, it shows nothing.

Click's bar hides the cursor until it ends, so a signal that kills the process leaves a terminal without one; and it
leaves its line behind. This one writes nothing that needs to be undone.
"""

from __future__ import annotations

import sys
import time
from typing import Final

_WIDTH: Final = 30
_QUIET_SECONDS: Final = 0.5  # shorter operations show no bar
_EVERY_SECONDS: Final = 0.1


class ProgressBar:
    """The progress of an operation.

    Args:
        label: what is being done.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._began = time.monotonic()
        self._next = self._began + _QUIET_SECONDS
        self._drawn = False

    def to(self, done: int, total: int) -> None:
        """``done`` of ``total`` bytes are done."""
        now = time.monotonic()
        if now < self._next or sys.stderr is None or not sys.stderr.isatty():
            return
        self._next, self._drawn = now + _EVERY_SECONDS, True
        share = min(done / total, 1.0) if total else 1.0
        left = (now - self._began) * (1 - share) / share if share else 0.0
        filled = "█" * round(share * _WIDTH)
        size = f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
        sys.stderr.write(f"\r{self._label} {filled:░<{_WIDTH}} {share:4.0%}  {size}, {left:.0f} s left \x1b[K")
        sys.stderr.flush()

    def end(self) -> None:
        """Remove the bar."""
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._drawn = False
