"""The table of outcomes in a terminal: redrawn while it fills, or one line per case if the output is no terminal."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TextIO

from .cases import LOOPBACK
from .scenario import Outcome, Scenario
from .stats import Histogram, number

_EVERY_SECONDS: Final = 0.1


class Column(NamedTuple):
    """A column: its heading, its width, and its content."""

    heading: str
    width: int
    cell: Callable[[Outcome], str]


def _largest(histogram: Histogram) -> float | None:
    return histogram.largest / 1e6 if histogram.count else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


COLUMNS: Final = (
    Column("transport", 11, lambda o: o.case.transport),
    Column("coding", 8, lambda o: o.case.encoding),
    Column("network", 9, lambda o: o.case.network),
    Column("ticks", 9, lambda o: f"{o.delivered:,.0f}"),
    Column("p50 ms", 7, lambda o: number(o.ms(0.5))),
    Column("p99 ms", 7, lambda o: number(o.ms(0.99))),
    Column("max ms", 7, lambda o: number(_largest(o.latency))),
    Column("B/tick", 7, lambda o: number(o.bytes_per_tick)),
    Column("CPU µs", 7, lambda o: number(o.cpu_us)),
    Column("KiB/conn", 8, lambda o: number(_scaled(o.memory, 1 / 1024))),
    Column("first ms", 8, lambda o: number(_scaled(o.first_tick.percentile(0.5), 1e-6))),
    Column("catch-up ms", 11, lambda o: number(_scaled(o.catch_up, 1e3))),
    Column("lost", 5, lambda o: str(o.lost)),
    Column("again", 5, lambda o: str(o.repeated)),
    Column("behind", 6, lambda o: str(o.behind)),
)
_NAMES: Final = 3  # columns that say which case it is


def columns(scenario: Scenario) -> list[Column]:
    """The columns for a scenario: the network only if there are several."""
    return [column for column in COLUMNS if column.heading != "network" or scenario.networks != (LOOPBACK,)]


def remarks(outcomes: list[Outcome]) -> list[str]:
    """The remarks below the table, each once."""
    found: dict[str, None] = {}
    for outcome in outcomes:
        if outcome.remark:
            found[f"{outcome.case}: {outcome.remark}"] = None
        for name, why in outcome.why.items():
            figure = {"cpu": "CPU µs", "memory": "KiB/conn", "catch_up": "catch-up"}[name]
            case = f"{outcome.case}: " if name == "catch_up" else ""
            found[f"{case}{figure} not measured: {why}"] = None
    return list(found)


class Table:
    """Shows outcomes as they arrive.

    Args:
        out: where to; redrawn where it is a terminal.
    """

    def __init__(self, scenario: Scenario, out: TextIO) -> None:
        self._columns = columns(scenario)
        self._out = out
        self._live = out.isatty()
        self._done: list[Outcome] = []
        self._drawn = 0  # lines of the last drawing
        self._next = 0.0

    def show(self, outcome: Outcome, doing: str) -> None:
        """Show what is known of a case, and what is being done; empty: it is finished."""
        if not doing:
            self._done.append(outcome)
        if not self._live:
            if not doing:
                lines = [self._heading()] if len(self._done) == 1 else []
                self._print("\n".join([*lines, self._row(outcome)]))
            return
        now = time.monotonic()
        if doing and now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        lines = [self._heading(), *map(self._row, self._done)]
        if doing:
            lines += [self._row(outcome), f"  {outcome.case}: {doing} …"]
        self._draw(lines)

    def end(self) -> None:
        """Finish the table; further output is below it."""
        if self._live and self._done:
            self._draw([self._heading(), *map(self._row, self._done)], final=True)
        elif self._live and self._drawn:
            self._draw([])

    def _draw(self, lines: list[str], final: bool = False) -> None:
        width, height = shutil.get_terminal_size()
        shown = lines if final else [line[: width - 1] for line in lines[-(height - 1) :]]
        up = f"\x1b[{self._drawn}A\r" if self._drawn else ""
        self._out.write(f"{up}\x1b[J" + "".join(f"{line}\n" for line in shown))
        self._out.flush()
        self._drawn = 0 if final else len(shown)

    def _print(self, line: str) -> None:
        self._out.write(f"{line}\n")
        self._out.flush()

    def _heading(self) -> str:
        return self._line([column.heading for column in self._columns])

    def _row(self, outcome: Outcome) -> str:
        if not outcome.not_run:
            return self._line([column.cell(outcome) for column in self._columns])
        names = [column for column in self._columns if column in COLUMNS[:_NAMES]]
        cells = [f"{column.cell(outcome):<{column.width}}" for column in names]
        return "  ".join([*cells, f"not run: {outcome.not_run}"])

    def _line(self, cells: list[str]) -> str:
        padded = [
            f"{cell:<{column.width}}" if column in COLUMNS[:_NAMES] else f"{cell:>{column.width}}"
            for column, cell in zip(self._columns, cells, strict=True)
        ]
        return "  ".join(padded).rstrip()
