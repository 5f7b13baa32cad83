"""The contract of a source: how ticks come in.

A source is one module that ends in a ``Source``, and one line in the registry (``sources/__init__.py``). It is of one
of two kinds:

    routes      others publish at them: POST /publish, /ws/publish
    a task      it brings ticks itself, beside the server, in a gateway that a command starts: --stdin, --tail, demo

The registry drives routing, /openapi.json, the flags of commands and the docs check. Ticks go to ``runtime.bus``;
nothing here knows who reads them.
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
    """A source at work in one gateway's own process: ``prepare``, ``attach``, then ``run``.

    Attributes:
        alone: why nobody else may publish meanwhile: what follows on "this gateway", and says what else to do.
        skipped: lines of its input that were no ticks.
        over: it has ended, and others may publish.
    """

    alone: ClassVar[str]
    skipped: int = 0

    def __init__(self) -> None:
        self.over = False

    @property
    def followed(self) -> Path | None:
        """The directory of another program that it follows; without ``data``, that is the history, too."""
        return None

    @property
    def unread(self) -> Unread | None:
        """What of its input cannot be read; None: there is nothing to be read again."""
        return None

    def refusal(self) -> OwnSource | None:
        """What other publishers are told; None: they may publish."""
        return None if self.over else OwnSource(self.alone)

    def prepare(self, progress: Progress | None) -> None:
        """Called before history is opened; may wait for the disk.

        Raises:
            HistoryError, SettingError: it cannot begin as it was asked for.
        """
        return

    def attach(self, runtime: Runtime) -> None:
        """Called when the runtime is wired and has not started; the port is not open yet."""
        return

    async def run(self, runtime: Runtime) -> None:
        """Publish until there is no more, or it is cancelled."""
        try:
            await self.publish(runtime)
        finally:
            self.over = True

    @abstractmethod
    async def publish(self, runtime: Runtime) -> None:
        """What ``run`` does.

        Raises:
            GatewayError: it gave up; the gateway ends.
        """


@dataclass(frozen=True, slots=True)
class Source:
    """One way for ticks to come in.

    Attributes:
        name: its name in the registry and the tests.
        routes: where others publish; of a task, none.
        command: the command of ``tick-gateway`` that starts the task.
        options: that command's, for it; of ``serve``, the first one asks for this source.
        make: the task, from the settings and the options' values, by their names.
    """

    name: str
    routes: tuple[Route, ...] = ()
    command: str = ""
    options: tuple[click.Option, ...] = ()
    make: Callable[..., SourceTask] | None = None

    @property
    def flag(self) -> str:
        """The flag that asks for it."""
        return self.options[0].opts[0]

    def begin(self, settings: Settings, values: dict[str, object]) -> SourceTask:
        """Its task, with the values of a command's options, others' among them.

        Raises:
            SettingError: it cannot be made so.
        """
        assert self.make is not None, f"{self.name} is no task"
        return self.make(settings, **{str(option.name): values[str(option.name)] for option in self.options})


# ---- what routes have in common ----

PUBLISHING: Final = (ParameterError, NotAllowed, OwnSource, Tailing)
"""The errors with which every route for publishers may refuse one."""


def admit(request: web.Request, runtime: Runtime) -> None:
    """Let a publisher in.

    Raises:
        NotAllowed: see ``authorize``.
        OwnSource: the gateway's ticks come from a source of its own.
    """
    authorize(request, runtime.settings)
    # Who may not publish anyway is not told where ticks come from.
    if runtime.source is not None and (refusal := runtime.source.refusal()) is not None:
        raise refusal


def run_of(request: web.Request) -> str | None:
    """The run that the publisher names, by the header ``Tick-Run`` or the parameter ``run``.

    Raises:
        ParameterError: another parameter, a name that is no run id, or two that differ.
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
