"""Patience: how long to keep a reader that does not read, does not answer, or waits in vain."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits for readers. All times are in seconds.

    Attributes:
        high_water: bytes that its peer has not taken at which a session is blocked, in addition to what the operating
            system
            buffers: a thousand stalled readers cost some 128 MiB.
        missed_beats: consecutive unanswered heartbeats after which a peer counts as gone; more than one, because a peer
            may be busy for a moment.
        stall_seconds: the minimum time for which a blocked peer that takes nothing is kept, however short its
            heartbeat: a slow reader's system takes bytes in steps, which may be seconds apart.
        close_seconds: how long an ended connection may take to drain and close.
        probe_seconds: when to write to a client that has closed its side of the connection, to find out whether it
            still reads.
        half_closed_seconds: maximum wait of a pull whose client may be gone.
        beyond_tip_seconds: maximum wait of a pull whose position is beyond the tip: many clients give up after 5.
    """

    high_water: int = 128 << 10
    missed_beats: int = 3
    stall_seconds: float = 10.0
    close_seconds: float = 5.0
    probe_seconds: tuple[float, ...] = (0.0, 0.05, 1.0)
    half_closed_seconds: float = 10.0
    beyond_tip_seconds: float = 3.0
