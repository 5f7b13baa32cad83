"""``python -m tick_gateway`` is ``tick-gateway``."""

from .cli import main

main(prog_name="tick-gateway")
