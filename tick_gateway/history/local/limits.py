"""The limits of history: sizes and ages. Pure: no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass

from ...settings import DEFAULTS, Settings


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of history; ages in seconds, 0: no limit.

    Attributes:
        block_bytes, block_ticks, block_age: when a block is closed.
        segment_bytes, segment_age: when a segment is sealed.
        retain_bytes, retain_age: total size of sealed segments, and the maximum age of their newest tick.
        level: of the compression, 1 to 19.
        fsync: ``never``, ``interval`` or ``block``.
        fsync_interval: seconds.
    """

    block_bytes: int = DEFAULTS.block_bytes
    block_ticks: int = 8192
    block_age: float = DEFAULTS.block_age
    segment_bytes: int = DEFAULTS.segment_bytes
    segment_age: float = DEFAULTS.segment_age
    retain_bytes: int = DEFAULTS.retain_bytes
    retain_age: float = DEFAULTS.retain_age
    level: int = DEFAULTS.history_level
    fsync: str = DEFAULTS.fsync
    fsync_interval: float = DEFAULTS.fsync_interval

    @classmethod
    def of(cls, s: Settings) -> Limits:
        """The limits in the settings."""
        return cls(
            block_bytes=s.block_bytes, block_age=s.block_age, segment_bytes=s.segment_bytes,
            segment_age=s.segment_age, retain_bytes=s.retain_bytes, retain_age=s.retain_age, level=s.history_level,
            fsync=s.fsync, fsync_interval=s.fsync_interval,
        )  # fmt: skip
