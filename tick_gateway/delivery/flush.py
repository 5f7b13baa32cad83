"""The flush policy: how often the fan-out flushes, how long ticks gather, and how much is read and written between two
turns of the event loop. All such numbers are here, so that a test can pass in a policy of its own.

Only values: the fan-out owns the clock and the timers.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import DEFAULTS, Settings


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When the fan-out flushes, and where it yields. All times are in seconds, all sizes in bytes.

    Attributes:
        flush_interval: the longest interval between two flushes for the sake of latency; if ``fixed``, the interval.
        fixed: the time that a round takes does not change the interval.
        shortest_interval: between two flushes, or two hand-overs to history: each wakes the loop from the publisher's
            thread once.
        light_factor: the interval as a multiple of the round's CPU time under light load: rounds take a twentieth of
            the loop's time, and latency stays low.
        heavy_factor: the same under heavy load: rounds take little more than half of the time, for throughput, and the
            loop has the rest for everything else.
        round_bytes: maximum bytes of ticks that one flush offers, which bounds what is made for each view.
        slice_bytes: written between two turns of the loop.
        slice_sessions: sessions written to between two turns of the loop, however small the tick: each write is a
            system call.
        turn_seconds: time to make bytes between two turns of the loop, if there are many views.
        catch_up_seconds: time for sessions that catch up between two turns of the loop.
        portion_bytes: read for one session that catches up before the next one has its turn.
        command_bytes: parsed of one client's input before others have their turn: compressed, it may be much.
        history_ticks: maximum number of ticks in a message of the command ``history``.
        waiters: waiting pulls released between two turns of the loop: each makes its answer at once.
        gather_seconds: how long gathering pulls wait when flushes are frequent.
        batch_seconds: how long a batch message waits to be full.
        section_ticks, section_seconds: how long a section of a compressed stream grows before it is cut, so that others
            can join.
        store_lead: how long before a flush its ticks are handed to history, so that they are stored in time.
        busy_gap: flushes at shorter intervals than this are frequent: pulls should gather.
        sweep_interval: how often sessions are checked for due heartbeats and lost readers.
    """

    flush_interval: float
    fixed: bool = False
    shortest_interval: float = 0.005
    light_factor: float = 20.0
    heavy_factor: float = 1.8
    round_bytes: int = 1 << 20
    slice_bytes: int = 4 << 20
    slice_sessions: int = 256
    turn_seconds: float = 0.003
    catch_up_seconds: float = 0.002
    store_lead: float = 0.002
    busy_gap: float = 0.1
    sweep_interval: float = 1.0
    portion_bytes: int = 128 << 10
    command_bytes: int = 512
    history_ticks: int = 1000
    waiters: int = 16
    gather_seconds: float = 0.03
    batch_seconds: float = 1.0
    section_ticks: int = DEFAULTS.compression_section
    section_seconds: float = 5.0

    @classmethod
    def of(cls, s: Settings) -> FlushPolicy:
        """The policy for the settings."""
        return cls(s.flush_interval, fixed=s.flush == "fixed", section_ticks=s.compression_section)

    def interval(self, took: float) -> float:
        """How long after a round's start the next one may begin, in seconds.

        Under light load it follows the light factor, between ``shortest_interval`` and ``flush_interval``; a round that
        is too long for that extends it by the heavy factor.

        Args:
            took: the round's CPU time, in seconds.
        """
        if self.fixed:
            return self.flush_interval
        light = max(self.light_factor * took, self.shortest_interval)
        return max(min(light, self.flush_interval), self.heavy_factor * took)
