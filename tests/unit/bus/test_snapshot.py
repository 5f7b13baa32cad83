"""Records whose own code, other threads or signals interfere while they are encoded: a result or an error, never the
end of the process. Each case runs in a process of its own, whose exit says how it went."""

from __future__ import annotations

import subprocess
import sys

import pytest

PREPARED = """
import enum, signal, threading, uuid
from dataclasses import dataclass
from decimal import Decimal
from tick_gateway.errors import RecordError
from tick_gateway.bus.record_encoder import encode

def again():
    return [[] for _ in range(100)]  # takes the memory that was given back

class State(enum.Enum):
    OK = "ok"
    ILL = "ill"

def tried(record):
    try:
        return encode(record)
    except RecordError as error:
        return error
"""

CASES = {
    "a list cleared by tolist": """
held = []
class Clears:
    def tolist(self):
        held.clear(); again(); return 1
held += [Clears() for _ in range(500)]
print(tried({"t": 1, "a": held}))
""",
    "a dict emptied by a mapping": """
from collections.abc import Mapping
record = {"t": 1}
class Empties(Mapping):
    def __getitem__(self, key): record.clear(); again(); return 1
    def __iter__(self): return iter("x")
    def __len__(self): return 1
record.update({str(i): Empties() for i in range(200)})
print(tried(record))
""",
    "a dataclass that loses its members": """
@dataclass
class Agent:
    x: object
    y: int = 0
agents = []
class Loses:
    def tolist(self):
        for agent in agents: agent.__dict__.clear()
        again(); return 1
agents += [Agent(Loses()) for _ in range(100)] + [Agent(1) for _ in range(100)]
print(tried({"t": 1, "a": agents, "b": agents[100:]}))
""",
    "members that become another's": """
@dataclass
class Agent:
    state: object
class Bad(enum.Enum):
    A = 1
    @property
    def value(self): raise LookupError("no value")
agents = [Agent(1) for _ in range(10)]
class Turns:
    def tolist(self):
        agents[3].state = Bad.A; return 1
print(tried({"t": 1, "a": agents, "b": Turns()}))
""",
    "a list of a member's that is filled meanwhile": """
@dataclass
class Agent:
    at: list
agents = [Agent([1, 2]) for _ in range(100)]
class Bad(enum.Enum):
    A = 1
    @property
    def value(self): agents[0].at.clear(); again(); raise LookupError("no value")
class Fills:
    def tolist(self):
        agents[0].at += [Bad.A] * 100; return 1
print(tried({"t": 1, "a": agents, "b": Fills()}))
""",
    "an enum whose value raises": """
class Bad(enum.Enum):
    A = 1
    @property
    def value(self): raise LookupError("no value")
print(tried({"t": 1, "a": [Bad.A]}))
print(tried({"t": 1, "a": {Bad.A: 1}}))
""",
    "an enum without its value": """
del State.OK._value_
print(tried({"t": 1, "a": State.OK}))
""",
    "an enum whose value clears the list": """
held = []
class Clears(enum.Enum):
    A = 1
    @property
    def value(self): held.clear(); again(); return 1
held += [Clears.A] * 500
print(tried({"t": 1, "a": held}))
""",
    "an id that was never set": """
print(tried({"t": 1, "a": uuid.UUID.__new__(uuid.UUID)}))
""",
    "a data frame of such": """
import numpy as np
held = []
class Clears:
    def tolist(self): held.clear(); again(); return 1
held += [Clears() for _ in range(500)]
print(tried({"t": 1, "a": np.array([(held,), (State.OK,)], dtype=[("x", "O")])}))
""",
    "times of numpy in multiples of a unit": """
import numpy as np
value = np.datetime64("2020-01-01", "25s")
print(tried({"t": 1, "a": value}), tried({"t": 1, "a": np.array([value])}), tried({"t": 1, "a": [{"b": value}]}))
""",
    "a record that holds itself twice": """
held = []
held += [held, held, State.OK]
print(tried({"t": 1, "a": held}))
""",
    "a signal while enumerations are looked for": """
import tick_gateway.bus.snapshot as snapshot
class Rang(BaseException): pass
def ring(_): raise Rang
held = []
class Clears(enum.Enum):
    A = 1
    @property
    def value(self):
        held.clear(); again(); return 1
below, snapshot._below = snapshot._below, ring
try:
    encode({"t": 1})
except Rang:
    snapshot._below = below
held += [Clears.A for _ in range(500)]
print(tried({"t": 1, "a": held}))
""",
    "signals": """
import random
class Rang(BaseException): pass
def ring(*_): raise Rang
signal.signal(signal.SIGALRM, ring)
record = {"t": 1, "a": [{"id": i, "state": State.ILL, "x": Decimal(1)} for i in range(300)]}
rung = 0
while rung < 100:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 2e-3))
        while True: encode(record)
    except Rang:
        rung += 1
""",
    "other threads": """
import sys
sys.setswitchinterval(1e-5)
held = [{"id": i, "state": State.OK} for i in range(200)]
over = threading.Event()
def change():
    while not over.is_set():
        held.clear()
        held.extend({"id": i, "state": State.ILL, "n": {1, 2}} for i in range(200))
        held[0]["more"] = held[1].pop("n")
threads = [threading.Thread(target=change) for _ in range(2)]
for thread in threads: thread.start()
for _ in range(100):
    tried({"t": 1, "a": held})
over.set()
for thread in threads: thread.join()
""",
}


@pytest.mark.parametrize("code", CASES.values(), ids=CASES)
def test_the_process_lives(code: str) -> None:
    if "SIGALRM" in code and sys.platform == "win32":
        pytest.skip("Windows has no timers that raise")
    done = subprocess.run(
        [sys.executable, "-c", PREPARED + code + "\nprint('alive')"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["alive"]), done.stderr
