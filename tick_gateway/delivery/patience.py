"""Patience: how long a reader that does not read, does not answer, or waits in vain is kept."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """What a reader may leave undone, and for how long. All times are in seconds.

    Attributes:
        high_water: bytes that its peer has not taken at which a session is no longer live; beyond what the operating
            system holds for it, so that a thousand stalled readers cost some 128 MiB.
        missed_beats: signs of life in a row without any effect after which a peer is taken for gone; more than one,
            since a peer may be busy for a moment.
        stall_seconds: how long a blocked peer is kept at least that takes nothing, however short its heartbeat: a slow
            reader's system takes bytes in steps, which may be seconds apart.
        close_seconds: how long an ended connection may take to drain and close.
        probe_seconds: when a client that has ended its side of the connection is written to: it may read on, or be
            gone.
        half_closed_seconds: how long a pull waits at most whose client may be gone.
        beyond_tip_seconds: how long a pull waits whose position is beyond the tip: many clients give up at 5.
    """

    high_water: int = 128 << 10
    missed_beats: int = 3
    stall_seconds: float = 10.0
    close_seconds: float = 5.0
    probe_seconds: tuple[float, ...] = (0.0, 0.05, 1.0)
    half_closed_seconds: float = 10.0
    beyond_tip_seconds: float = 3.0
