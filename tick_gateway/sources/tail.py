"""A directory of another program as a source: each tick is published soon after it was written.

With ``--data``, existing ticks are imported into history before the port opens, and a note beside the history says how
far the directory was read; it is written after the ticks that it covers were stored. Without, the directory itself is
the history.

Reading blocks, so it has a thread of its own. It checks the newest file a hundred times a second: that is cheap, and
works on every file system.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from bisect import bisect_right
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar, Final

import click

from ..bus.tick_bus import TickBus
from ..errors import GatewayError, NotServing, OwnSource, RunClosed, SettingError, Tailing
from ..history.engine import HistoryEngine, Progress
from ..history.external.directory import DirectoryEvent, FileGone, SourceDirectory, has_files, skipped_names
from ..history.external.importing import import_files, write_note
from ..history.external.in_place import InPlace
from ..history.external.run_splitter import TickSequence
from ..history.external.source_file import Unread
from ..history.local.directory import run_directories
from ..history.local.limits import Limits
from ..history.local.lock import LOCK
from ..runtime import Runtime
from ..settings import Settings
from .base import Source, SourceTask

log = logging.getLogger("tick_gateway.files")

POLL_SECONDS: Final = 0.01
_NOTE_SECONDS: Final = 1.0
_UNREAD_SECONDS: Final = 0.5  # between two checks of what cannot be read
_SHARE: Final = 0.02  # of the thread's time, for notes and these checks
_AHEAD_BYTES: Final = 4 << 20  # published at most before it waits for the loop
_STOP_SECONDS: Final = 0.1  # between two checks whether the gateway is shut down
_JOIN_SECONDS: Final = 5.0
_FOREVER: Final = threading.TIMEOUT_MAX


def _is_history(path: Path) -> bool:
    """Whether a directory holds only a gateway's own history, and nothing else to follow."""
    try:
        return os.path.exists(path / LOCK) and not has_files(path) and bool(run_directories(path))
    except OSError:  # it cannot be read, which is reported when it is followed
        return False


class Tail(SourceTask):
    """Follows a directory for one gateway.

    Args:
        tail: the directory; it may not exist yet.

    Raises:
        SettingError: it is not a directory, or holds a gateway's own history.
    """

    alone: ClassVar[str] = str(Tailing())

    def __init__(self, settings: Settings, *, tail: Path) -> None:
        super().__init__()
        if tail.exists() and not tail.is_dir():
            raise SettingError("--tail", f"{tail} is no directory")
        if _is_history(tail):
            raise SettingError("--tail", f"{tail} is a history already: a gateway serves it with --data {tail}")
        self._path = tail
        self._settings = settings
        self._data = Path(settings.data) if settings.data else None
        self._directory: SourceDirectory  # set by ``prepare`` with ``--data``, else by ``attach``
        self._live: InPlace | None = None  # the history, if the directory is the history
        self._unread = Unread()
        self._notes: _NoteWriter | None = None  # with ``--data``
        self._stop = threading.Event()
        self._whole = True  # everything that was read was published
        self._told: set[str] = set()
        self._ahead = 0  # bytes published since the loop was last waited for

    @property
    def followed(self) -> Path:
        """See ``SourceTask.followed``."""
        return self._path

    @property
    def unread(self) -> Unread:
        """See ``SourceTask.unread``."""
        return self._unread

    def refusal(self) -> OwnSource:
        """See ``SourceTask.refusal``: it lasts as long as the gateway."""
        return Tailing()

    def prepare(self, progress: Progress | None) -> None:
        """With ``--data``: import existing ticks into history.

        Raises:
            HistoryError: another process keeps history there, or it cannot be written.
            SettingError: the directory is the history's own.
        """
        if self._data is not None:
            settings = self._settings
            self._directory, _ = import_files(self._path, self._data, Limits.of(settings), settings.max_tick, progress)
        if not self._path.exists():
            log.warning("%s is not there yet; its files are read as soon as it is", self._path)
        with contextlib.suppress(OSError):  # reported when its files are looked for
            if not has_files(self._path) and (more := skipped_names(self._path)):
                log.warning("%s has no files of ticks yet; %s", self._path, more)

    def attach(self, runtime: Runtime) -> None:
        """Without ``--data``, history has already read the directory: continue after that."""
        if isinstance(runtime.history, InPlace):
            self._live = runtime.history
            self._directory = self._live.directory
        self._unread = self._directory.unread()  # reported from the first answer on

    async def publish(self, runtime: Runtime) -> None:
        """See ``SourceTask.publish``; until it is cancelled."""
        loop = asyncio.get_running_loop()
        failed: asyncio.Future[None] = loop.create_future()
        self._notes = _NoteWriter(self._data, runtime.history, loop) if self._data is not None else None

        def work() -> None:
            try:
                self._follow(runtime, loop)
            except Exception as error:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                    loop.call_soon_threadsafe(_fail, failed, error)

        thread = threading.Thread(target=work, name="tick-gateway-tail", daemon=True)
        thread.start()
        try:
            await failed
        finally:
            self._stop.set()
            await loop.run_in_executor(None, thread.join, _JOIN_SECONDS)
            if not thread.is_alive():
                if self._notes is not None and self._whole and await self._notes.stored():
                    self._notes.write(self._directory.note())
                self._directory.close()

    # ---- the thread ----

    def _follow(self, runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
        unread_at = 0.0
        while not self._stop.is_set():
            events = self._directory.read()
            for event in events:
                self._deal_with(runtime.bus, loop, event)
                self._hold(runtime, loop)
            self.skipped = self._directory.splitter.skipped
            if (now := time.monotonic()) >= unread_at:
                self._unread = self._directory.unread()
                took = time.monotonic() - now
                unread_at = now + max(_UNREAD_SECONDS, took / _SHARE)
            if self._notes is not None:
                self._notes.turn(self._directory, bool(events))
            if not events:
                self._stop.wait(POLL_SECONDS)

    def _deal_with(self, bus: TickBus, loop: asyncio.AbstractEventLoop, event: DirectoryEvent) -> None:
        if isinstance(event, FileGone):
            log.info("%s is gone, or was begun anew", event.file.name)
            if self._live is not None:
                loop.call_soon_threadsafe(self._live.gone, event.file)
            return
        index = 0
        while index < len(event.ts) and self._whole:
            index = self._new_from(bus, event, index)
            try:
                while index < len(event.ts) and self._whole:
                    self._publish(bus, event, index)
                    index += 1
            except RunClosed:  # others publish too: what follows is another run
                self._directory.splitter.go_on(event.run)

    def _hold(self, runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until the loop, and the disk, have caught up with what was published: files can wait, and memory is
        bounded. It does not wait for a failing disk, and for a slow one at most some seconds (``VERDICT_SECONDS``)."""
        if self._ahead < _AHEAD_BYTES:
            return
        self._ahead = 0
        settled = asyncio.run_coroutine_threadsafe(runtime.history.settled(), loop)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                settled.result(_STOP_SECONDS)
                return

    def _new_from(self, bus: TickBus, sequence: TickSequence, index: int) -> int:
        """The index of the first tick at or after ``index`` that its run does not have: after a crash, history may have
        more than the note says. If others have published since, the run continues under another id."""
        while (known := bus.runs.get(sequence.run.id)) is not None:
            index = bisect_right(sequence.ts, known.tip, index)
            if index == len(sequence.ts) or (known is bus.current and not known.ended):
                break
            self._directory.splitter.go_on(sequence.run)
        return index

    def _publish(self, bus: TickBus, sequence: TickSequence, index: int) -> None:
        if self._stop.is_set():
            self._whole = False
            return
        if self._live is not None:
            self._live.announce(sequence, index)
        try:
            taken = bus.offer(sequence.ts[index], sequence.lines[index], sequence.run.id, timeout=_FOREVER)
        except GatewayError as error:
            taken = False
            if isinstance(error, RunClosed):
                raise
            if isinstance(error, NotServing):  # shut down meanwhile
                self._whole = False
                return
            if sequence.run.id not in self._told:
                self._told.add(sequence.run.id)
                log.warning("%s: %s; others like it are passed over, too", sequence.file.name, error)
        finally:
            self._ahead += len(sequence.lines[index])
            if self._live is not None and not taken:
                self._live.retract(sequence, index)


class _NoteWriter:
    """Writes how far a directory was read: now and then, once the ticks up to there are stored; it never waits."""

    def __init__(self, data: Path, history: HistoryEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._data = data
        self._history = history
        self._loop = loop
        self._due = time.monotonic() + _NOTE_SECONDS
        self._news = False  # something was read since the last note
        self._waiting: tuple[dict[str, Any], Future[bool]] | None = None  # a note, and whether what it covers is stored
        self._failed = False
        self._mark = 0  # the start of what was published since the last call of ``stored``, in history's count
        self._sound = True  # its last result

    async def stored(self) -> bool:
        """Whether everything published since the last call is stored. What the disk did not take before that is a hole,
        which a note cannot mend; but the newest ticks have to be stored, or the note would claim more than history
        has."""
        since, self._mark = self._mark, self._history.mark()
        settled = await self._history.settled(since)
        self._sound = settled and (self._sound or self._mark > since)
        return self._sound

    def turn(self, directory: SourceDirectory, news: bool) -> None:
        """Called after everything that was read was published."""
        self._news = self._news or news
        now = time.monotonic()
        if self._waiting is None:
            if not self._news or now < self._due:
                return
            stored = asyncio.run_coroutine_threadsafe(self.stored(), self._loop)
            self._waiting, self._news = (directory.note(), stored), False
        elif self._waiting[1].done():
            (note, stored), self._waiting = self._waiting, None
            if stored.result():  # else the next ticks will show
                self.write(note)
        else:
            return
        took = time.monotonic() - now
        self._due = now + max(_NOTE_SECONDS, took / _SHARE)

    def write(self, note: dict[str, Any]) -> None:
        """Write a note; if that fails, log it once: after a crash, more will be read again."""
        try:
            write_note(self._data, note)
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.warning("how far the files were read cannot be noted: %s", error.strerror)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


SOURCE: Final = Source(
    "tail",
    command="serve",
    options=(
        click.Option(
            ["--tail"],
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="follow the *.jsonl.zst and *.jsonl that another program writes into DIR",
        ),
    ),
    make=Tail,
)
