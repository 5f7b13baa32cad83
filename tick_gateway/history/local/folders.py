"""Which folder a run has: its name, where every system can have a folder of that name and no other run has it.

    RUN        nearly always
    ~RUN~      what Windows does not let be a folder: names of devices (NUL, com1.x), names that end with a dot
    RUN~2      where the file system takes RUN for the folder of a run that is spelled otherwise: a and A

``~`` is in no run's name, and neither is a dot at its beginning, which files of the history itself have.

``folder_of`` waits for the disk; it is not called on the event loop. The rest is pure.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from ...model.tick import RUN_ID

_MARK: Final = "~"
_DEVICES: Final = re.compile(r"(?:con|prn|aux|nul|conin|conout|com\d|lpt\d)(?:\..*)?|.*\.", re.IGNORECASE)


def run_of(name: str) -> str | None:
    """The run whose folder has this name; None: no run's folder has."""
    run = name.removeprefix(_MARK).partition(_MARK)[0]
    return run if RUN_ID.fullmatch(run) else None


def folder_of(directory: Path, run: str) -> Path:
    """The folder that a run has in a directory of history, or is to be given.

    Raises:
        OSError: the directory cannot be read.
    """
    try:
        names = set(os.listdir(directory))
    except FileNotFoundError:
        names = set()
    number = 1
    while True:
        path = directory / _name(run, number)
        if path.name in names or not os.path.lexists(path):
            return path
        number += 1  # it is there and has another name: that of a run that is spelled otherwise


def _name(run: str, number: int) -> str:
    ending = f"{_MARK}{number}" if number > 1 else ""
    return f"{_MARK}{run}{ending or _MARK}" if _DEVICES.fullmatch(run) else f"{run}{ending}"
