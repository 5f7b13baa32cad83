"""The commands that one WebSocket client sent, and what is to be answered to each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tick_gateway.model.tick import Position
from tick_gateway.model.view import View

from .truth import Told, expected

if TYPE_CHECKING:
    from .witness import Witness


@dataclass
class Asked:
    """A command that was sent and not answered yet. ``beyond``: its position lay beyond the tip then."""

    op: str
    view: View | None = None
    start: Position | None = None
    beyond: bool = False


@dataclass
class Past:
    """A history command: what had been published of it when it was sent, what of that could be read, and what has
    come."""

    told: list[Told]
    want: list[Told]
    got: list[Told] = field(default_factory=list)
    every: set[int] = field(default_factory=set)  # of the views that were in force meanwhile


class Talk:
    """What one connection asked for, by the ids of its commands."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self.asked: dict[int, Asked] = {}
        self.pasts: dict[int, Past] = {}

    @property
    def over(self) -> bool:
        """Whether all was answered."""
        return not self.asked and not self.pasts

    def answer(self, body: dict[str, Any]) -> None:
        """Judge an answer at its place in the stream."""
        if "history" in body:
            self._history(body)
        elif "pong" in body:
            assert self.asked.pop(body["pong"]).op == "ping"
        else:
            assert "ok" in body, body
            self._takes_effect(self.asked.pop(body["ok"]), body["at"])

    def _takes_effect(self, asked: Asked, at: str | None) -> None:
        witness = self.witness
        if asked.start is not None:
            assert at == str(asked.start), f"at {at}, asked for {asked.start}"
            witness.sought(asked.start, asked.beyond)
            return
        witness.moved(at)
        if asked.view is not None:
            for past in self.pasts.values():
                past.every |= {witness.view.every, asked.view.every}
            witness.view = asked.view
        else:
            witness.paused = asked.op == "pause"

    def _history(self, body: dict[str, Any]) -> None:
        past, view = self.pasts[body["history"]], self.witness.view._replace(batch=0)
        past.every.add(view.every)
        for item in body.get("ticks", []):
            told = self.witness.truth.told(item, view)
            assert (told.run, told.t) in [(one.run, one.t) for one in past.told]
            assert not past.got or told.t > past.got[-1].t
            assert item == json.loads(expected(view, told)) and told.t % view.every == 0
            past.got.append(told)
        if body.get("done"):
            del self.pasts[body["history"]]
            got = {one.u for one in past.got}
            missing = [one for one in past.want if one.u not in got and not any(one.t % n for n in past.every)]
            # A command may wait until its client reads on: by then what it asked for may be gone.
            gap = body.get("gap", {"after": 0, "next": 0})
            for one in missing:
                assert self.witness.truth.gone(one.run, one.t)
                assert gap["after"] < one.t < (gap["next"] or 1 << 60), f"{body} leaves out {one}"
