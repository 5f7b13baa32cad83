"""``python -m tick_gateway`` is ``tick-gateway``."""

from .cli.main import main

main(prog_name="tick-gateway")
