"""A Mesa model that knows nothing of gateways: it prints its steps, a line of JSON each, and a pipe does the rest.

python examples/mesa_pipe.py boids | tick-gateway serve --stdin
"""

import argparse
import json
import time
from typing import Any

from mesa_models import MODELS, ticks


def plain(value: Any) -> Any:
    """What json does not know: numpy's numbers and arrays."""
    return value.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=20.0, help="steps per second")
    options = parser.parse_args()
    for tick in ticks(options.model, seed=options.seed, steps=options.steps):
        print(json.dumps(tick, default=plain), flush=True)
        time.sleep(1 / options.rate)


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        pass
