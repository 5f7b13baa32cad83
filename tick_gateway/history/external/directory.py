"""A directory into which another program writes ticks: the order of its files, and how far they were read.

    files in the order of their names ──► the newest one, polled while it grows ──► a newer one has a whole line: the
                                                                                    old one to its end, then that

Any ``*.jsonl.zst`` and ``*.jsonl`` at the top of the directory counts. A file comes after those that existed before it
was seen, whatever its name. One that was read to its end and grows again comes after all others. One that is replaced
by other content, or truncated and rewritten, is a new one; one that was cut, or was away for a while, is not. A copy
beside a file (``a.jsonl.zst`` beside ``a.jsonl``, with the same first line) is not read until it takes that file's
place. Names that begin with a dot are ignored: programs hide unfinished files, and files that are not theirs, in this
way.

What cannot be read is counted, and does not prevent anything else from being read.

Everything here waits for the disk; none of it is called on the event loop. Used by one thread.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import stat
import time
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from .file_content import SUFFIXES, Replaced, compare, natural, shown, stem_of
from .file_registry import FileRegistry
from .receive_times import ReceiveTimes
from .run_splitter import RunSplitter, TickSequence
from .source_file import LineBatch, SourceFile, Unread

log = logging.getLogger("tick_gateway.files")

NOTE_VERSION: Final = 1
_SOON_SECONDS: Final = 0.05  # until the look after a change: another change may not alter the directory's time
_NO_FILES: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_NAMED: Final = 5  # of the ignored names
_STATS: Final = 200  # files already read whose sizes are checked in one look


class FileGone(NamedTuple):
    """What was read of a file is no longer on disk."""

    file: SourceFile


DirectoryEvent = TickSequence | FileGone


class SourceDirectory:
    """Reads a directory, from its beginning or from where a note says.

    Args:
        path: it may not exist yet.
        max_tick: the largest tick, bytes.
        note: a result of ``note``, from after all events up to there were handled.
        look_seconds: maximum time between two looks at which files exist.

    Attributes:
        splitter: splits what is read into runs, and counts skipped lines.
    """

    def __init__(
        self, path: Path, max_tick: int, note: dict[str, Any] | None = None, *, look_seconds: float = 1.0
    ) -> None:
        self.path = path
        self._look_seconds = look_seconds
        self.splitter = RunSplitter(max_tick)
        self._registry = FileRegistry(path, max_tick)
        self._times = ReceiveTimes()
        self._max_tick = max_tick
        self._waiting: list[SourceFile] = []  # with unread lines, as far as is known
        self._events: list[DirectoryEvent] = []
        self._stamp = -2  # the directory's time of change
        self._look_at = 0.0
        self._inodes: dict[str, int] = {}  # by name, at the last look
        self._vanished: set[str] = set()  # files that were removed before anything of them was read
        self._compared: set[SourceFile] = set()  # copies that were compared with the files beside them
        self._turn = 0  # which sizes are checked next
        self._told: set[str] = set()
        self._unreadable: dict[str, int] = {}  # names that cannot be read now, with their sizes if known
        self._done = self._total = 0  # bytes of files
        if note is not None:
            self._registry.recall(note)
            self.splitter.recall(note["runs"])
            self._times.at = note["at"]
            self._done = sum(file.size for file in self._registry.files)

    def note(self) -> dict[str, Any]:
        """How far it was read, as JSON."""
        return {
            "version": NOTE_VERSION, "directory": str(self.path.resolve()), "at": self._times.at,
            "runs": self.splitter.note(), **self._registry.note(),
        }  # fmt: skip

    def progress(self) -> tuple[int, int]:
        """Bytes of files that were read, and of all that existed at first."""
        if not self._total:
            with contextlib.suppress(OSError):  # reported by the next look
                self._total = sum(_size(self.path / name) for name in _Listing(self.path).files)
        return self._done, self._total

    def unread(self, *, ended: bool = False) -> Unread:
        """The part of the files that was not read, and cannot be as it is; ``ended``: nobody is writing them any
        more."""
        files = size = 0
        newest = self._registry.newest
        for file in {*self._registry.files, *self._waiting}:
            if file.name in self._unreadable or (file not in self._registry and self._registry.is_copy(file)):
                continue
            file.measure()
            left = file in self._registry and file is not newest and file not in self._waiting
            one = file.unread(left=left, ended=ended)
            files, size = files + one.files, size + one.bytes
        files += len(self._unreadable) + (len(self._vanished) if ended else 0)
        return Unread(files, size + sum(self._unreadable.values()))

    def tell_unread(self) -> None:
        """Report what follows the last line of each file, if nobody is writing them any more."""
        for name in sorted(self._vanished):
            log.warning("%s: it was taken away before it was read", shown(name))
        for file in sorted({*self._registry.files, *self._waiting}, key=lambda file: natural(file.name)):
            file.measure()
            if file.why and not file.stuck and (file in self._registry or not self._registry.is_copy(file)):
                told = shown(file.name)
                log.warning("%s: %s; %d bytes behind what was read were not read", told, file.why, file.left)

    def read(self) -> list[DirectoryEvent]:
        """Read some of what comes next; nothing: there is no more now."""
        self._look()
        while not self._events:
            current = self._registry.newest
            if current is not None and self._read_on(current):
                continue  # no event, if all of it was skipped
            following = self._following()
            if following is None:
                break
            if following is current:  # it has been moved
                continue
            if current is not None and current in self._registry and self._read_on(current):
                continue  # written before the newer file
            self._go_over(following)
        events, self._events = self._events, []
        return events

    def finish(self) -> list[DirectoryEvent]:
        """Read what is left if nobody is writing the files any more: last lines without an end that are ticks, and
        copies that have more than the files beside them. Call it until it returns nothing."""
        if (newest := self._registry.newest) is not None:
            self._take_last(newest)
        for file in list(self._waiting):
            if self._events:
                break
            if file in self._registry or not self._registry.is_copy(file):
                self._finish_waiting(file)
            elif (original := self._registry.original(file)) is not None:
                self._finish_copy(file, original)
        events, self._events = self._events, []
        return events

    def _finish_waiting(self, file: SourceFile) -> None:
        """Read a file that has only one line, without an end."""
        if self._pull(file, again=True) or (found := file.take_last()) is None:
            file.close()
            return
        self._go_over(file)
        self._sort(file, found)

    def _finish_copy(self, copy: SourceFile, original: SourceFile) -> None:
        """Continue in a copy that has more than the original; one with different content is reported, and counts as
        unread."""
        if copy in self._compared:
            return
        self._compared.add(copy)
        try:
            more = compare(original.path, copy.path)
        except OSError as error:
            self._cannot_read(copy, error)
            return
        if more is None:
            told = shown(original.name)
            self._tell(copy.path, f"has the first line of {told} and goes on otherwise; it is not read")
            self._unreadable[copy.name] = _size(copy.path)
        elif more > 0:
            self._waiting.remove(copy)
            original.move(copy.path)
            if self._pull(original):
                self._go_over(original)
                self._sort(original, original.take())

    def _go_over(self, file: SourceFile) -> None:
        """Switch to reading a file, and leave the previous one."""
        if (newest := self._registry.newest) is not None and newest is not file:
            self._leave(newest)
        if file in self._waiting:
            self._waiting.remove(file)
        if self._registry.begin(file):
            self._times.begin(file.path)

    def close(self) -> None:
        """Close open files; what was read stays read."""
        for file in [*self._registry.files, *self._waiting]:
            file.close()

    # ---- from file to file ----

    def _read_on(self, file: SourceFile) -> bool:
        """Read the next lines of a file; returns whether there were any."""
        more = (file not in self._registry.missing or file.opened) and self._pull(file)
        if more:
            self._sort(file, file.take())
        elif file in self._registry.missing and not self._may_come_back(file):
            self._drop(file)
        return more or bool(self._events)

    def _sort(self, file: SourceFile, found: LineBatch) -> None:
        begin, end = found.read
        self._done += end - begin
        self._events += self.splitter.sort(file, found, self._times.of(file.path, begin, end))

    def _take_last(self, file: SourceFile) -> None:
        if (found := file.take_last()) is not None:
            self._sort(file, found)

    def _leave(self, file: SourceFile) -> None:
        """From here on a newer file is read."""
        self._take_last(file)
        if file.torn:
            self.splitter.skip_line(file, file.number + 1, "the line was never ended")
        self._times.leave(file.path)
        file.close()

    def _following(self) -> SourceFile | None:
        """The next file with an unread line; possibly the newest one itself, if it was moved."""
        newest = self._registry.newest
        looked: set[SourceFile] = set()
        while left := self._next_waiting(looked):
            for file in left:
                looked.add(file)
                if file in self._registry:
                    if file is not newest and self._shows_line(file):
                        return file
                    self._waiting.remove(file)
                    file.close()
                elif not (file.head and self._registry.is_copy(file)) and self._shows_line(file):
                    lost = newest in self._registry.missing
                    if not self._known(file):
                        return file
                    if lost and newest not in self._registry.missing:
                        return newest
        return None

    def _next_waiting(self, looked: set[SourceFile]) -> list[SourceFile]:
        """Some of the waiting files, in order, without those already looked at: there may be very many."""
        left = (file for file in self._waiting if file not in looked)
        newest = self._registry.newest
        if newest is not None and newest in self._registry.missing:
            return sorted(left, key=lambda file: file.stem != newest.stem)
        return list(islice(left, len(looked) + 1))  # more each time

    def _shows_line(self, file: SourceFile) -> bool:
        """Whether a file has an unread line."""
        if self._pull(file):
            return True
        file.close()
        return False

    def _pull(self, file: SourceFile, *, again: bool = False) -> bool:
        """Read a file if necessary; returns whether it has an unread line. ``again``: even if it has not changed."""
        try:
            more = (again or file.changed()) and file.pull()
        except Replaced:
            self._miss(file)
        except OSError as error:
            self._cannot_read(file, error)
        else:
            if self._unreadable:
                self._unreadable.pop(file.name, None)
            return more
        return False

    # ---- identity of files ----

    def _known(self, new: SourceFile) -> bool:
        """Whether a file has the content of another one, as its copy or in its place; if not, the content that it
        replaced is gone."""
        if self._registry.is_copy(new):
            new.close()
            return True
        file = self._registry.recognize(new)
        if file is None:
            for old in [one for one in self._registry.missing if one.stem == new.stem]:
                self._drop(old, replaced=True)
            return False
        new.close()
        self._waiting.remove(new)
        if file is not self._registry.newest and file not in self._waiting:
            self._waiting.append(file)
        return True

    def _may_come_back(self, file: SourceFile) -> bool:
        """Whether there is a file whose first line may show that it has the content of a missing one."""
        return any(one.stem == file.stem for one in self._waiting)

    def _miss(self, file: SourceFile) -> None:
        """A file is not where it was; what is there now may show what became of it."""
        file.close()
        if file in self._registry:
            self._registry.missing.add(file)
        if not any(one.path == file.path for one in self._waiting if one is not file):
            self._waiting.append(SourceFile(file.path, self._max_tick))

    def _drop(self, file: SourceFile, *, replaced: bool = False) -> None:
        if file.opened:
            self._take_last(file)
        self._registry.drop(file, replaced=replaced)
        if file in self._waiting:
            self._waiting.remove(file)
        self._events.append(FileGone(file))

    def _cannot_read(self, file: SourceFile, error: OSError) -> None:
        if isinstance(error, FileNotFoundError):  # the next look handles that
            return
        self._unreadable[file.name] = max(_size(file.path) - file.size, 0)
        self._tell(file.path, f"cannot be read: {error.strerror}")

    def _tell(self, path: Path, problem: str) -> None:
        if path.name not in self._told:
            self._told.add(path.name)
            log.warning("%s %s", shown(path.name), problem)

    # ---- looking at the directory ----

    def _look(self) -> None:
        """Look at which files exist, if the directory has changed or a second has passed."""
        try:
            stamp = os.stat(self.path).st_mtime_ns
        except OSError:
            stamp = -1
        now = time.monotonic()
        if stamp == self._stamp and now < self._look_at:
            return
        self._look_at = now + (self._look_seconds if stamp == self._stamp else min(_SOON_SECONDS, self._look_seconds))
        self._stamp = stamp
        try:
            listing = _Listing(self.path)
        except OSError as error:
            self._unreadable = {".": 0}
            self._tell(self.path, f"cannot be read: {error.strerror}")
            return
        self._unreadable = {name: size for name, size in self._unreadable.items() if name in listing.files}
        for name, problem in listing.unreadable.items():
            self._unreadable[name] = 0
            self._tell(self.path / name, f"cannot be read: {problem}")
        self._compare(listing.files)

    def _compare(self, names: dict[str, int]) -> None:
        """Compare the existing files (names and inodes) with the known ones."""
        taken = self._registry.place(names)
        self._take_sizes(taken)
        here = {file.name for file in self._waiting if file not in self._registry}
        inodes = set(names.values())
        for name in here - set(names):
            if self._inodes.get(name) not in inodes:  # it was not renamed
                self._vanished.add(name)
        self._vanished -= set(names)
        self._inodes = names
        self._waiting = [file for file in self._waiting if file in self._registry or file.name in names]
        new = sorted(set(names) - taken - here, key=natural)
        self._waiting += [SourceFile(self.path / name, self._max_tick) for name in new]
        for file in [one for one in self._registry.missing if one is not self._registry.newest]:
            if not self._may_come_back(file):
                self._drop(file)

    def _take_sizes(self, taken: set[str]) -> None:
        """Check whether files already read have grown or were cut; a part of them in each look."""
        read = [file for file in self._registry.files[:-1] if file not in self._registry.missing]
        some = read[self._turn : self._turn + _STATS]
        self._turn = self._turn + _STATS if self._turn + _STATS < len(read) else 0
        for file in some:
            size = _size(file.path)
            if size > file.size and file not in self._waiting:
                self._waiting.append(file)
            elif size < file.size:
                self._registry.missing.add(file)
                taken.discard(file.name)


class _Listing:
    """The files of ticks at the top of a directory; none if it does not exist.

    Attributes:
        files: their names and inodes.
        unreadable: names of entries that may be files of ticks but cannot be accessed, and why.

    Raises:
        OSError: the directory cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.files: dict[str, int] = {}
        self.unreadable: dict[str, str] = {}
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if is_accepted(entry.name):
                        self._look_at(entry)
        except (FileNotFoundError, NotADirectoryError):
            return

    def _look_at(self, entry: os.DirEntry[str]) -> None:
        """Add an entry. One that cannot be accessed (a cyclic link, no permission), or is not a file, does not affect
        the others."""
        try:
            if entry.is_file(follow_symlinks=False):
                self.files[entry.name] = entry.inode()
            elif stat.S_ISREG((info := entry.stat()).st_mode):
                self.files[entry.name] = info.st_ino
            else:
                self.unreadable[entry.name] = f"it is {_NO_FILES.get(stat.S_IFMT(info.st_mode), 'no file')}"
        except FileNotFoundError:
            if os.path.lexists(entry.path):  # else it was removed meanwhile
                self.unreadable[entry.name] = "it is a link to nothing"
        except OSError as error:
            self.unreadable[entry.name] = error.strerror or str(error)


def is_accepted(name: str) -> bool:
    """Whether a file of this name counts as one of ticks."""
    return bool(stem_of(name)) and not name.startswith(".")


def skipped_names(path: Path) -> str:
    """A description of what is at the top of a directory and does not count as files of ticks; empty: nothing.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with os.scandir(path) as entries:
            names = [
                entry.name + "/" * entry.is_dir(follow_symlinks=False)
                for entry in entries
                if not is_accepted(entry.name)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if not names:
        return ""
    count = "1 entry is" if len(names) == 1 else f"{len(names)} entries are"
    told = ", ".join(map(shown, heapq.nsmallest(_NAMED, names, key=natural)))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    accepted = " and ".join(f"*{suffix}" for suffix in SUFFIXES)
    return f"{count} passed over by name: {told}{more}; accepted: {accepted}, not hidden, at the top of the directory"


def has_files(path: Path) -> bool:
    """Whether a directory has files of ticks at its top, even unreadable ones.

    Raises:
        OSError: it cannot be read.
    """
    listing = _Listing(path)
    return bool(listing.files or listing.unreadable)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
