"""The flush policy: how often the fan-out flushes, how long it gathers, how much is read and written between two turns
of the event loop. Every number of that kind stands here, so that a test hands in a policy of its own.

Values alone: the fan-out owns the clock and the timers.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import DEFAULTS, Settings


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When the fan-out flushes, and where it yields. All times are in seconds, all sizes in bytes.

    Attributes:
        flush_interval: the longest time between two flushes that latency is traded for; where ``fixed``, the time
            between any two.
        fixed: what a round takes does not change the interval.
        shortest_interval: between two flushes, or two hand-overs to history: each costs a publishing thread one
            wake-up of the loop.
        light_factor: the interval as a multiple of the round's CPU time while there is room: rounds take a twentieth
            of the loop's time, and latency stays low.
        heavy_factor: the same where there is none: rounds take little more than half of the time, for throughput, and
            all else that the loop does has the rest.
        round_bytes: ticks that one flush offers to readers at most, so that what is made for each view is bounded.
        slice_bytes: written between two turns of the loop.
        slice_sessions: written to between two turns of the loop, however small the tick: a write is a system call.
        turn_seconds: spent on making bytes between two turns of the loop, where there are many views.
        catch_up_seconds: spent on sessions that catch up between two turns of the loop.
        portion_bytes: read for a session that catches up, before others have their turn.
        command_bytes: taken in of what one client sent, before others have their turn: compressed, they may hold much.
        history_ticks: in one message of the command ``history`` at most.
        waiters: pulls let go between two turns of the loop: each makes its answer at once.
        gather_seconds: how long pulls that gather wait where flushes come close together.
        batch_seconds: how long a batch message waits to be full.
        section_ticks, section_seconds: how long a section of a compressed stream grows before it is cut, so that others
            can join it.
        store_lead: how long before a flush what it will show is handed to history, so that it is stored by then.
        busy_gap: two flushes that are closer than that are traffic in which a pull had better gather.
        sweep_interval: how often sessions are looked at for heartbeats and for readers that are gone.
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
        """What the settings say."""
        return cls(s.flush_interval, fixed=s.flush == "fixed", section_ticks=s.compression_section)

    def interval(self, took: float) -> float:
        """How long after a round's start the next one may begin, in seconds.

        Between ``shortest_interval`` and ``flush_interval`` it follows the light factor; a round that is too long for
        that stretches it by the heavy one.

        Args:
            took: the round's CPU time, in seconds.
        """
        if self.fixed:
            return self.flush_interval
        light = max(self.light_factor * took, self.shortest_interval)
        return max(min(light, self.flush_interval), self.heavy_factor * took)
