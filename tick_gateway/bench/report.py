"""The report: one HTML file that holds everything, its plots included, and asks nothing of any network."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from html import escape
from typing import Final

from ..version import __version__
from .cases import LOOPBACK, PROFILES
from .plot import Bar, Curve, bars, curves
from .scenario import Outcome, Scenario
from .table import COLUMNS, columns, remarks
from .verdict import Figure, measured, name, verdict

_MOST_POINTS: Final = 150  # of a curve

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1d2733;--soft:#5d6b7a;--line:#d8dee6;--back:#fff;--panel:#f5f7fa}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ef;--soft:#98a5b3;--line:#364250;--back:#141a21;--panel:#1c242d}}
body{margin:2rem auto;max-width:72rem;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);
background:var(--back)}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem}p,li{max-width:48rem}
.soft{color:var(--soft)}.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem;white-space:nowrap}
th,td{padding:.3rem .6rem;text-align:right;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600}th:first-child,td:first-child,.t{text-align:left}
figure{margin:1.5rem 0;padding:.8rem;background:var(--panel);border-radius:.5rem}
figcaption{font-weight:600;margin-bottom:.4rem}
svg{width:100%;height:auto;display:block}text{font:12px system-ui,sans-serif;fill:var(--ink)}
.l{text-anchor:end}.m{text-anchor:middle}.g{stroke:var(--line);fill:none}.s{fill:none;stroke-width:2}
"""
_HUES: Final = ("#2f7ed8", "#d9822b", "#3d9970", "#b04a9c", "#c0392b", "#7f8c2f", "#4aa3a2", "#8a6fd1")


def machine() -> str:
    """What it was measured on, in a few words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.system()} {platform.release()}, {platform.machine()}, {cores} cores, " \
           f"Python {platform.python_version()}"  # fmt: skip


def report(scenario: Scenario, outcomes: Sequence[Outcome]) -> str:
    """The whole page."""
    rows = list(outcomes)
    colours = "".join(f".c{i}{{fill:{hue}}}.s{i}{{stroke:{hue}}}" for i, hue in enumerate(_HUES))
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>tick-gateway bench</title><style>{_STYLE}{colours}</style></head><body>",
        "<h1>The transports against each other</h1>",
        f'<p class="soft">tick-gateway {__version__}, {time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}, '
        f"{escape(machine())}.<br>{escape(setup(scenario))}</p>",
        "<h2>When to pick which</h2><ul>",
        *(f"<li>{escape(line)}</li>" for line in verdict(scenario, rows)),
        "</ul><h2>Figures</h2>",
        _table(scenario, rows),
        *(f'<p class="soft">{escape(line)}</p>' for line in remarks(rows)),
        "<h2>Plots</h2>",
        *_plots(scenario, measured(rows)),
        *_networks(scenario, rows),
        _MEANING,
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def setup(scenario: Scenario) -> str:
    """What was run, in a sentence or two."""
    asked = (("fields", scenario.fields), ("every", scenario.every), ("batch", scenario.batch))
    view = [f"{key}={value}" for key, value in asked if value not in ("", 0) and (key, value) != ("every", 1)]
    seen = f", seen as {', '.join(view)}" if view else ""
    whose = f"the gateway at {scenario.url}" if scenario.url else "a gateway of its own for each"
    count = f"{scenario.clients} connection{'s' * (scenario.clients != 1)}"
    return (
        f"{count} of each transport to {whose}, {scenario.rate:g} ticks a second of about {scenario.size:,} bytes for "
        f"{scenario.seconds:g} s{seen}. A pull takes up to {scenario.limit:,} ticks and asks again at once; where "
        f"nothing came, {scenario.pause:g} s after it asked. Ticks are a flock of birds, so that they compress "
        "as a simulation's do."
    )


def _table(scenario: Scenario, rows: Sequence[Outcome]) -> str:
    shown = columns(scenario)
    named = [column for column in shown if column in COLUMNS[:3]]
    head = "".join(f"<th>{escape(column.heading)}</th>" for column in shown)
    lines = []
    for row in rows:
        if row.not_run:
            cells = "".join(f"<td>{escape(column.cell(row))}</td>" for column in named)
            reason = f'<td class="t" colspan="{len(shown) - len(named)}">not run: {escape(row.not_run)}</td>'
            lines.append(f"<tr>{cells}{reason}</tr>")
        else:
            lines.append("<tr>" + "".join(f"<td>{escape(column.cell(row))}</td>" for column in shown) + "</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _label(scenario: Scenario, row: Outcome) -> str:
    words = [name(row)]
    words += [row.case.encoding] if len(scenario.encodings) > 1 else []
    words += [row.case.network] if len(scenario.networks) > 1 else []
    return ", ".join(words)


def _plots(scenario: Scenario, rows: Sequence[Outcome]) -> list[str]:
    far: list[tuple[str, str, Figure]] = [
        ("Latency, median", "ms", lambda o: o.ms(0.5)),
        ("Latency, 99th percentile", "ms", lambda o: o.ms(0.99)),
        ("First tick after connecting, median", "ms", lambda o: _ms(o.first_tick.percentile(0.5))),
        (f"Catching up {scenario.catch_up:,} ticks", "ms", lambda o: None if o.catch_up is None else o.catch_up * 1e3),
    ]
    near: list[tuple[str, str, Figure]] = [
        ("CPU of the gateway", "µs a tick and connection", lambda o: o.cpu_us),
        ("On the wire", "bytes a tick", lambda o: o.bytes_per_tick),
        ("Memory of the gateway", "KiB a connection", lambda o: None if o.memory is None else o.memory / 1024),
    ]  # the gateway's own: hardly another on another network
    colour = {transport: index for index, transport in enumerate(scenario.transports)}
    found = []
    for network in scenario.networks:
        here = [row for row in rows if row.case.network == network]
        lines = [
            Curve(_label(scenario, row), _points(row), colour[row.case.transport], row.coding != "identity")
            for row in here
        ]
        where = f" on {network}" if len(scenario.networks) > 1 else ""
        found.append(curves(f"Latency{where}: share of ticks that took no longer", "ms", lines))
    first = next((row.case.network for row in rows), "")
    for figures, shown in ((near, [row for row in rows if row.case.network == first]), (far, rows)):
        for title, unit, figure in figures:
            found.append(
                bars(title, unit, [Bar(_label(scenario, r), figure(r), colour[r.case.transport]) for r in shown])
            )
    return [text for text in found if text]


def _points(row: Outcome) -> list[tuple[float, float]]:
    points = [(value / 1e6, share) for value, share in row.latency.curve()]
    step = max(len(points) // _MOST_POINTS, 1)
    return [*points[:-1:step], *points[-1:]]


def _ms(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e6


def _networks(scenario: Scenario, rows: Sequence[Outcome]) -> list[str]:
    """What the networks do, and how they came about."""
    named = [network for network in scenario.networks if network != LOOPBACK]
    if not named:
        return []
    items = []
    for network in named:
        by = next((row.network for row in rows if row.case.network == network and row.network), "")
        reason = next((row.not_run for row in rows if row.case.network == network and row.not_run), "")
        how = f"by {by}" if by else f"not run: {reason}"
        items.append(f"<li>{escape(f'{network} ({PROFILES[network].means}): {PROFILES[network]}; {how}')}</li>")
    return ["<h2>Networks</h2><ul>", *items, "</ul>"]


_MEANING: Final = """<h2>What the figures mean</h2><ul class="soft">
<li>p50, p99, max: from publishing a tick to reading it, by one clock.</li>
<li>B/tick: bytes of TCP's content in both directions, requests and heads included.</li>
<li>CPU µs: what the system charged to the gateway's processes while the ticks were published and delivered, over ticks
times connections. Taking the ticks in is part of it: with few connections, most of it.</li>
<li>KiB/conn: growth of the gateway's resident memory, connections idle.</li>
<li>first ms: from a connection's first packet to its first tick, median.</li>
<li>catch-up: a reader that comes late, from its first packet to the last tick of those that it missed.</li>
<li>lost, again, behind: ticks that did not come in their turn, came twice, or had not come at the end.</li>
</ul>"""
