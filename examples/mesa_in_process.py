"""A Mesa model and its gateway in one process: python examples/mesa_in_process.py boids

Open the printed address, or read every tick from it: curl -N http://localhost:8000/
"""

import argparse
import sys
import time

from mesa_models import MODELS, ticks

from tick_gateway import Gateway, GatewayError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=20.0, help="steps per second")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    with Gateway(port=options.port) as gateway:
        print(f"{options.model} on {gateway.url}", flush=True)
        for tick in ticks(options.model, seed=options.seed, steps=options.steps):
            gateway.publish(tick)  # numpy and all: the gateway knows what simulations hold
            time.sleep(1 / options.rate)


if __name__ == "__main__":
    try:
        main()
    except GatewayError as error:  # the port is taken, say
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass
