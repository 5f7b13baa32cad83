"""The registry of a directory's files from which ticks were read, and what became of them.

A file is identified by its content. One that is not in its place may have been renamed, compressed, cut, or moved away,
and may come back: none of that makes its ticks new ones. The order of reading is not decided here.

Everything here waits for the disk; none of it is called on the event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .file_content import Replaced
from .source_file import SourceFile

_MOST_GONE: Final = 256  # files remembered after they were moved away


class FileRegistry:
    """The files that were read in one directory.

    Attributes:
        files: oldest first; the last one is being read.
        missing: those of them that are not in their place.
    """

    def __init__(self, path: Path, max_tick: int) -> None:
        self.files: list[SourceFile] = []
        self.missing: set[SourceFile] = set()
        self._path = path
        self._max_tick = max_tick
        self._known: set[SourceFile] = set()  # what is in ``files``
        self._heads: dict[str, list[SourceFile]] = {}  # the same, by first lines
        self._gone: deque[SourceFile] = deque(maxlen=_MOST_GONE)

    @property
    def newest(self) -> SourceFile | None:
        """The file that is being read."""
        return self.files[-1] if self.files else None

    def __contains__(self, file: SourceFile) -> bool:
        return file in self._known

    def begin(self, file: SourceFile) -> bool:
        """Make a file the newest; returns whether it is read for the first time."""
        first = file not in self._known
        if not first:
            self.files.remove(file)
        self._add(file, len(self.files))
        return first

    def _add(self, file: SourceFile, at: int) -> None:
        self.files.insert(at, file)
        if file not in self._known:
            self._known.add(file)
            self._heads.setdefault(file.head, []).append(file)

    def drop(self, file: SourceFile, *, replaced: bool) -> None:
        """What was read of a file is no longer on disk; if nothing replaced it, it may come back."""
        file.close()
        file.gone = True
        self.files.remove(file)
        self._known.remove(file)
        self._heads[file.head].remove(file)
        self.missing.discard(file)
        if not replaced:
            self._gone.append(file)

    # ---- identity ----

    def place(self, names: Mapping[str, int]) -> set[str]:
        """Compare existing names and inodes with the files read; returns the names of those files."""
        known = {file.name for file in self.files}
        renamed = {inode: name for name, inode in names.items() if name not in known}
        taken: set[str] = set()
        for file in self.files:
            if file in self.missing:
                continue
            name = renamed.get(file.inode) if names.get(file.name) != file.inode else None
            if name is not None and (file.opened or self.has(file, name)):  # inodes of deleted files are reused
                file.path = self._path / name
            if names.get(file.name) == file.inode:
                taken.add(file.name)
            else:
                self.missing.add(file)
        return taken

    def is_copy(self, new: SourceFile) -> bool:
        """Whether there is a file beside it that was read, with the same stem and content."""
        return self.original(new) is not None

    def original(self, copy: SourceFile) -> SourceFile | None:
        """That file."""
        beside = (one for one in self._heads.get(copy.head, ()) if one is not copy and one not in self.missing)
        return next((one for one in beside if one.stem == copy.stem), None) if copy.head else None

    def recognize(self, new: SourceFile) -> SourceFile | None:
        """The known file with the same content, which this one replaced or which came back; from now on it is at this
        path."""
        for file in [*self.missing, *self._gone]:
            if file.stem != new.stem or file.head != new.head:
                continue
            if self.has(file, new.name) or self._cut(file, new):
                file.move(new.path)
                self.missing.discard(file)
                if file not in self._known:
                    self._gone.remove(file)
                    file.gone = False
                    self._add(file, 0)
                return file
        return None

    def has(self, file: SourceFile, name: str) -> bool:
        """Whether the file of that name has the content that was read of ``file``."""
        probe = SourceFile.of(self._path, file.note() | {"name": name}, self._max_tick)
        try:
            probe.open()
        except (Replaced, OSError):
            return False
        finally:
            probe.close()
        return True

    def _cut(self, file: SourceFile, new: SourceFile) -> bool:
        """Whether a file is what is left of one that was read, after a cut."""
        try:
            return file.shrink(new.path)
        except (Replaced, OSError):  # the next look finds out what became of it
            return False

    # ---- persistence ----

    def note(self) -> dict[str, Any]:
        """What was read, as JSON."""
        return {"files": [file.note() for file in self.files], "gone": [file.note() for file in self._gone]}

    def recall(self, note: dict[str, Any]) -> None:
        """Restore what a note says; for a new registry."""
        for one in note["files"]:
            self._add(SourceFile.of(self._path, one, self._max_tick), len(self.files))
        self._gone.extend(SourceFile.of(self._path, one, self._max_tick) for one in note.get("gone", ()))
        for file in self._gone:
            file.gone = True
