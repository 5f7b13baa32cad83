"""Plots as SVG, drawn by ourselves so that a report is one file that needs nothing else. Pure: numbers in, text out.

Colours are CSS classes ``c0`` to ``c7`` of the page around it, so that they follow its light or dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

from .stats import number

_WIDTH: Final = 760
_LEFT, _RIGHT = 220, 70  # room for the labels on both sides
_BAR, _GAP = 16, 6
_COLOURS: Final = 8


class Bar(NamedTuple):
    """A bar: its label, its value (None: not measured), and which colour it has."""

    label: str
    value: float | None
    colour: int


def bars(title: str, unit: str, rows: Sequence[Bar]) -> str:
    """Bars side by side from zero; empty where there is nothing to draw."""
    most = max((row.value for row in rows if row.value is not None), default=0.0)
    if not most:
        return ""
    height, parts = len(rows) * (_BAR + _GAP) + _GAP, []
    for index, (label, value, colour) in enumerate(rows):
        top = _GAP + index * (_BAR + _GAP)
        middle = top + _BAR * 0.78
        parts.append(f'<text x="{_LEFT - 8}" y="{middle:.1f}" class="l">{escape(label)}</text>')
        length = (value or 0.0) / most * (_WIDTH - _LEFT - _RIGHT)
        parts.append(f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR}" class="c{colour % _COLOURS}"/>')
        said = number(value) if value is not None else "not measured"
        parts.append(f'<text x="{_LEFT + length + 6:.1f}" y="{middle:.1f}">{said}</text>')
    return _figure(f"{title}, {unit}", height, parts)


class Curve(NamedTuple):
    """A rising curve of (value > 0, share), and which colour it has; ``dashed`` to tell two of a colour apart."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: int
    dashed: bool = False


def curves(title: str, unit: str, rows: Sequence[Curve]) -> str:
    """Shares over values on a logarithmic axis; empty where there is nothing to draw."""
    values = [value for row in rows for value, _ in row.points if value > 0]
    if not values:
        return ""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    top, bottom, left, right = 10, 250, 50, _WIDTH - 20
    parts = []

    def across(value: float) -> float:
        return left + (math.log10(value) - low) / (high - low) * (right - left)

    for power in range(low, high + 1):
        x = across(10.0**power)
        parts.append(f'<path d="M{x:.1f} {top}V{bottom}" class="g"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" class="m">{10.0**power:g}</text>')
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * (bottom - top)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" class="g"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" class="l">{share:.0%}</text>')
    for index, row in enumerate(rows):
        path, before = list[str](), bottom * 1.0
        for value, share in row.points:
            x, y = across(max(value, 10.0**low)), bottom - share * (bottom - top)
            path.append(f"{'L' if path else 'M'}{x:.1f} {before:.1f}V{y:.1f}" if not path else f"H{x:.1f}V{y:.1f}")
            before = y
        dashed = ' stroke-dasharray="5 3"' if row.dashed else ""
        parts.append(f'<path d="{"".join(path)}" class="s s{row.colour % _COLOURS}"{dashed}/>')
        x, y = left + 10 + index % 3 * 230, bottom + 42 + index // 3 * 18
        parts.append(f'<path d="M{x} {y - 4}h24" class="s s{row.colour % _COLOURS}"{dashed}/>')
        parts.append(f'<text x="{x + 30}" y="{y}">{escape(row.label)}</text>')
    return _figure(f"{title}, {unit}", bottom + 52 + (len(rows) - 1) // 3 * 18, parts)


def _figure(caption: str, height: float, parts: Sequence[str]) -> str:
    image = f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(caption)}">{"".join(parts)}</svg>'
    return f"<figure><figcaption>{escape(caption)}</figcaption>{image}</figure>"
