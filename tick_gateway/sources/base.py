"""The contract of a source of ticks.

A source is a module that ends in a ``Source``, and a line in the registry (``sources/__init__.py``). It has one of two
forms:

        routes      clients publish to them: POST /publish, /ws/publish
        a task      publishes by itself, in a gateway that a command starts: --stdin, --tail, demo

The registry drives routing, /openapi.json, the flags of commands and the docs check. Sources publish to
``runtime.bus`` and know nothing of readers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import click
from aiohttp import web

from ..access.publishers import authorize
from ..errors import NotAllowed, OwnSource, ParameterError, Tailing, UnknownParameter
from ..history.engine import Progress
from ..history.external.source_file import Unread
from ..http.route import Route
from ..model.query import run_id
from ..runtime import Runtime
from ..settings import Settings


class SourceTask(ABC):
    """A source that runs in the gateway's own process: first ``prepare``, then ``attach``, then ``run``.

    Attributes:
        alone: why nobody else may publish meanwhile: completes "this gateway ...", and says what to do instead.
        skipped: lines of its input that were not ticks.
        over: it has ended, and others may publish.
    """

    alone: ClassVar[str]
    skipped: int = 0

    def __init__(self) -> None:
        self.over = False

    @property
    def followed(self) -> Path | None:
        """The directory of another program that it follows, which without ``data`` is the history, too; None: none."""
        return None

    @property
    def unread(self) -> Unread | None:
        """The part of its input that cannot be read; None: it cannot happen."""
        return None

    def refusal(self) -> OwnSource | None:
        """The error for all other publishers; None: they may publish."""
        return None if self.over else OwnSource(self.alone)

    def prepare(self, progress: Progress | None) -> None:
        """Called before history is opened; may wait for the disk.

        Raises:
            HistoryError, SettingError: it cannot start as requested.
        """
        return

    def attach(self, runtime: Runtime) -> None:
        """Called when the runtime is wired and has not started; the port is not open yet."""
        return

    async def run(self, runtime: Runtime) -> None:
        """Publish until the input ends, or until it is cancelled."""
        try:
            await self.publish(runtime)
        finally:
            self.over = True

    @abstractmethod
    async def publish(self, runtime: Runtime) -> None:
        """The work of ``run``.

        Raises:
            GatewayError: it gave up, and the gateway ends.
        """


@dataclass(frozen=True, slots=True)
class Source:
    """One way to publish ticks.

    Attributes:
        name: its name in the registry and the tests.
        routes: for clients that publish; a task has none.
        command: the command of ``tick-gateway`` that starts the task.
        options: additional options of that command; with ``serve``, the first one selects this source.
        make: makes the task, from the settings and the values of the options, by name.
    """

    name: str
    routes: tuple[Route, ...] = ()
    command: str = ""
    options: tuple[click.Option, ...] = ()
    make: Callable[..., SourceTask] | None = None

    @property
    def flag(self) -> str:
        """The flag that selects it."""
        return self.options[0].opts[0]

    def begin(self, settings: Settings, values: dict[str, object]) -> SourceTask:
        """Make its task, from the values of all options of a command.

        Raises:
            SettingError: the values are not valid.
        """
        assert self.make is not None, f"{self.name} is no task"
        return self.make(settings, **{str(option.name): values[str(option.name)] for option in self.options})


# ---- common to routes ----

PUBLISHING: Final = (ParameterError, NotAllowed, OwnSource, Tailing)
"""The errors with which every route for publishers may refuse one."""


def admit(request: web.Request, runtime: Runtime) -> None:
    """Check that a request may publish.

    Raises:
        NotAllowed: see ``authorize``.
        OwnSource: the gateway's ticks come from a source of its own.
    """
    authorize(request, runtime.settings)
    # A client that may not publish anyway is not told the source.
    if runtime.source is not None and (refusal := runtime.source.refusal()) is not None:
        raise refusal


def run_of(request: web.Request) -> str | None:
    """The run that the publisher names, in the header ``Tick-Run`` or the parameter ``run``.

    Raises:
        ParameterError: another parameter, an invalid run id, or two that differ.
    """
    for name in request.query:
        if name != "run":
            raise UnknownParameter(name[:80], "unknown; accepted: run")
    named = [*request.headers.getall("Tick-Run", ()), *request.query.getall("run", ())]
    if len(set(named)) > 1:
        raise ParameterError("run", "two names are given; the header Tick-Run and the parameter run are the same thing")
    try:
        return run_id(named[0]) if named else None
    except ValueError as error:
        raise ParameterError("run", str(error)) from None
