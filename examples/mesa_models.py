"""Three models that come with Mesa, unchanged, and what of them becomes a tick.

Needs ``pip install 'mesa[network]'`` (Mesa's collection of examples imports networkx).
"""

from collections.abc import Callable, Iterator
from typing import Any

from mesa.examples.advanced.wolf_sheep.model import WolfSheep
from mesa.examples.basic.boid_flockers.model import BoidFlockers
from mesa.examples.basic.schelling.model import Schelling
from mesa.experimental.devs import ABMSimulator


def boid(agent: Any) -> dict[str, Any]:
    x, y = agent.position
    return {"id": agent.unique_id, "x": x, "y": y, "direction": agent.direction, "angle": agent.angle}


def neighbour(agent: Any) -> dict[str, Any]:
    x, y = agent.cell.coordinate
    return {"id": agent.unique_id, "x": x, "y": y, "type": agent.type, "happy": agent.happy}


def wolf_sheep_or_grass(agent: Any) -> dict[str, Any]:
    x, y = agent.cell.coordinate
    kind = type(agent).__name__
    rest = {"fully_grown": agent.fully_grown} if kind == "GrassPatch" else {"energy": agent.energy}
    return {"id": agent.unique_id, "x": x, "y": y, "kind": kind, **rest}


# For each name: how the model is made from a seed, and what an agent of it shows.
MODELS: dict[str, tuple[Callable[[int], Any], Callable[[Any], dict[str, Any]]]] = {
    "boids": (lambda seed: BoidFlockers(seed=seed), boid),
    "schelling": (lambda seed: Schelling(seed=seed), neighbour),
    "wolf-sheep": (lambda seed: WolfSheep(seed=seed, simulator=ABMSimulator()), wolf_sheep_or_grass),
}


def ticks(name: str, *, seed: int, steps: int) -> Iterator[dict[str, Any]]:
    """Run a model and yield it before its first step and after each: numpy numbers and arrays as Mesa has them.

    Ends after ``steps`` steps, or when the model says that it is done.
    """
    make, show = MODELS[name]
    model = make(seed)
    while True:
        yield {"t": int(model.steps), "agents": [show(agent) for agent in model.agents]}
        if model.steps >= steps or not model.running:
            return
        model.step()
