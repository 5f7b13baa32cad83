"""The gateway's command line where the disk may take its time: ``python -m tests.perf.patient serve ...``.

On a machine that is busy with other things the thread that writes history may not run for longer than a disk may take,
and live would go on without it. What is to be seen here is what a crash leaves while history keeps up.
"""

from __future__ import annotations

from tick_gateway.cli.main import main
from tick_gateway.history.local import commit_pipeline as pipeline

PATIENCE_SECONDS = 30.0

if __name__ == "__main__":
    pipeline.LAG_SECONDS = PATIENCE_SECONDS  # type: ignore[misc]
    main()
