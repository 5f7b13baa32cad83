"""The verdict on the figures, in plain sentences: which transport to pick when. Pure: outcomes in, text out.

A difference of less than a quarter counts as none: runs on a busy machine differ by that much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from .cases import LOOPBACK, row_of
from .scenario import Outcome, Scenario
from .stats import number

_SAME: Final = 1.25  # ratio below which two figures count as equal
_BUSY: Final = 0.1  # of the machine, used by others, above which times are not reliable
_LATE_SHARE: Final = 0.02  # of the ticks that may be missing at the end, before a transport counts as too slow

Figure = Callable[[Outcome], float | None]


def measured(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The outcomes with figures."""
    return [outcome for outcome in outcomes if not outcome.not_run]


def verdict(scenario: Scenario, outcomes: Sequence[Outcome]) -> list[str]:
    """The whole verdict, as a list of paragraphs."""
    done = measured(outcomes)
    if not done:
        return ["Nothing was measured."]
    # Transports are compared on one network and coding: those in which most of them were measured.
    base = max(
        ([o for o in done if (o.case.network, o.coding) == key] for key in {(o.case.network, o.coding) for o in done}),
        key=lambda group: (len(group), group[0].coding == "identity", group[0].case.network == scenario.networks[0]),
    )
    return [
        whole(done),
        *disturbed(done),
        *advice(base),
        *compare(base),
        *(pick(outcome, base) for outcome in base if len(base) > 1),
        *codings(done),
        *networks(done),
    ]


def whole(done: Sequence[Outcome]) -> str:
    """Whether every tick came, once."""
    lost, repeated = sum(o.lost for o in done), sum(o.repeated for o in done)
    late = [o for o in done if not keeps_up(o)]
    text = (
        "Every checked connection had every tick once, in order."
        if not lost and not repeated and not late
        else f"Ticks lost: {lost:,}; ticks that came twice: {repeated:,}."
    )
    for o in late:
        text += f" {name(o)} did not keep up: {o.behind:,} ticks had not come when the patience was over."
    return text


def disturbed(done: Sequence[Outcome]) -> list[str]:
    """Whether the machine did other things meanwhile."""
    most = max((o.others for o in done if o.others is not None), default=0.0)
    if most < _BUSY:
        return []
    return [
        f"Other programs used up to {most:.0%} of this machine meanwhile: times and CPU are worse than they would be, "
        "and not alike for all. Measure again when it is quiet."
    ]


def keeps_up(outcome: Outcome) -> bool:
    """Whether next to nothing was missing at the end."""
    return outcome.behind <= _LATE_SHARE * (outcome.ticks + outcome.behind)


def advice(base: Sequence[Outcome]) -> list[str]:
    """Whether to pick a stream or a pull, and whether it matters which stream."""
    streams, pulls = ([o for o in base if o.kind == kind] for kind in ("stream", "pull"))
    found = []
    if streams and pulls:
        parts = []
        for figure, words in ((_KEYS["latency"], "{} times as long to arrive (99th percentile)"),
                              (_KEYS["CPU"], "{} times the CPU")):  # fmt: skip
            mine, theirs = (min((v for o in group if (v := figure(o)) is not None), default=None)
                            for group in (streams, pulls))  # fmt: skip
            if mine and theirs and theirs > mine * _SAME:
                parts.append(words.format(number(theirs / mine, 2)))
        if parts:
            found.append(
                f"Pick a stream where you can: the best pull takes {_row(parts)}. Pulls are for networks that let "
                "nothing else through, and for those who look in now and then."
            )
        else:
            found.append("Streams and pulls are alike here: pick by what your client does with least code.")
    if len(streams) > 1:
        spreads = [
            max(values) / min(values)
            for figure in _KEYS.values()
            if len(values := [v for o in streams if (v := figure(o))]) == len(streams)
        ]
        if spreads and max(spreads) <= _SAME:
            found.append("The streams do not differ by a quarter in anything: pick by what your client speaks.")
    return found


def compare(base: Sequence[Outcome]) -> list[str]:
    """Which transport is best and worst in each figure."""
    figures: list[tuple[str, str, str, Figure]] = [
        ("The soonest, at the 99th percentile", "the latest", "ms", lambda o: o.ms(0.99)),
        ("The least work for the gateway", "the most", "µs of CPU a tick and connection", lambda o: o.cpu_us),
        ("The fewest bytes", "the most", "bytes a tick", lambda o: o.bytes_per_tick),
        ("The quickest to catch up", "the slowest", "ms", lambda o: None if o.catch_up is None else o.catch_up * 1e3),
    ]
    found = [_ranked(best, worst, unit, figure, base) for best, worst, unit, figure in figures]
    return [text for text in found if text]


def _ranked(title: str, other: str, unit: str, figure: Figure, base: Sequence[Outcome]) -> str:
    known = sorted(((value, name(o)) for o in base if (value := figure(o)) is not None), key=lambda pair: pair[0])
    if len(known) < 2:
        return ""
    best, worst = known[0], known[-1]
    alike = [who for value, who in known if value <= best[0] * _SAME]
    if len(alike) == len(known):
        return f"{title}: all alike, {number(best[0])} to {number(worst[0])} {unit}."
    times = f", {number(worst[0] / best[0], 2)} times as much" if best[0] else ""
    return f"{title}: {_row(alike)} ({number(best[0])} {unit}); {other}: {worst[1]} ({number(worst[0])}{times})."


def pick(outcome: Outcome, base: Sequence[Outcome]) -> str:
    """When to pick a transport, and what it costs here beside the best."""
    purpose = row_of(outcome.case.transport, outcome.kind).purpose
    text = f"Pick {name(outcome)} where {purpose}."
    best = {key: min((v for o in base if (v := figure(o)) is not None), default=None) for key, figure in _KEYS.items()}
    said = []
    for key, figure in _KEYS.items():
        value, least = figure(outcome), best[key]
        if value is not None and least is not None and len(base) > 1 and least and value > least * _SAME:
            said.append(f"{number(value / least, 2)} times the {key}")
    values = [f"{number(outcome.ms(0.5))} ms at the median, {number(outcome.ms(0.99))} ms at the 99th percentile"]
    if outcome.cpu_us is not None:
        values.append(f"{number(outcome.cpu_us)} µs of the gateway's CPU")
    return f"{text} Here: {', '.join(values)}" + (f"; {_row(said)} of the best." if said else ".")


_KEYS: Final[dict[str, Figure]] = {
    "latency": lambda o: o.ms(0.99),
    "CPU": lambda o: o.cpu_us,
    "bytes": lambda o: o.bytes_per_tick,
}


def codings(done: Sequence[Outcome]) -> list[str]:
    """What each coding saves and costs, compared with the same transport without one."""
    plain = {(o.case.transport, o.case.network): o for o in done if o.coding == "identity"}
    found = []
    for o in done:
        other = plain.get((o.case.transport, o.case.network))
        if o.coding == "identity" or other is None or not o.given or not o.bytes_per_tick or not other.bytes_per_tick:
            continue
        share = o.bytes_per_tick / other.bytes_per_tick
        text = f"{name(o)} with {o.coding} takes {share:.0%} of the bytes"
        if o.cpu_us and other.cpu_us:
            ratio = o.cpu_us / other.cpu_us
            text += f" for {'the same' if 1 / _SAME < ratio < _SAME else f'{number(ratio, 2)} times the'} CPU"
        found.append(f"{text}{_on(o)}.")
    return found


def networks(done: Sequence[Outcome]) -> list[str]:
    """What each network does to each transport's latency."""
    near = {(o.case.transport, o.coding): o for o in done if o.case.network == LOOPBACK}
    found: dict[str, list[str]] = {}
    for o in done:
        if o.case.network != LOOPBACK and (late := o.ms(0.99)) is not None:
            other = near.get((o.case.transport, o.coding))
            before = f" instead of {number(other.ms(0.99))}" if other is not None else ""
            coding = f" with {o.coding}" if o.coding != "identity" else ""
            found.setdefault(o.case.network, []).append(f"{name(o)}{coding} {number(late)} ms{before}")
    return [f"On the network {network}, the 99th percentile is: {'; '.join(rows)}." for network, rows in found.items()]


def name(outcome: Outcome) -> str:
    """The name of a transport, for people."""
    return row_of(outcome.case.transport, outcome.kind).label


def _on(outcome: Outcome) -> str:
    return f" on {outcome.case.network}" if outcome.case.network != LOOPBACK else ""


def _row(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
