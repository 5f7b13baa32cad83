"""Which directory a run has: its name, where every system can have a directory of that name and no other run has it.

    RUN        nearly always
    ~RUN~      what Windows does not let be a directory: names of devices (NUL, com1.x), names that end with a dot
    RUN~2      where the file system takes RUN for the directory of a run that is spelled otherwise: a and A

``~`` is in no run's name, and neither is a dot at its beginning, which files of the history itself have.

``directory_of`` waits for the disk; it is not called on the event loop. The rest is pure.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from ...model.tick import RUN_ID

_ESCAPE: Final = "~"
_DEVICES: Final = re.compile(r"(?:con|prn|aux|nul|conin|conout|com\d|lpt\d)(?:\..*)?|.*\.", re.IGNORECASE)


def run_of(name: str) -> str | None:
    """The run whose directory has this name; None: no run's directory has."""
    run = name.removeprefix(_ESCAPE).partition(_ESCAPE)[0]
    return run if RUN_ID.fullmatch(run) else None


def directory_of(directory: Path, run: str) -> Path:
    """The directory that a run has in a directory of history, or is to be given.

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
    ending = f"{_ESCAPE}{number}" if number > 1 else ""
    return f"{_ESCAPE}{run}{ending or _ESCAPE}" if _DEVICES.fullmatch(run) else f"{run}{ending}"
