"""What /proc says of processes."""

import os
import subprocess
import sys

import pytest

from tick_gateway.bench import proc_stats as proc

pytestmark = pytest.mark.skipif(not proc.available(), reason="this system has no /proc")


def test_work_and_memory_of_a_tree() -> None:
    """A child that computes, and has a child of its own; both count for the first."""
    code = "import subprocess, sys; print(sum(range(3_000_000)), flush=True); subprocess.run(['cat'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        while len(proc.tree(process.pid)) < 2:
            assert process.poll() is None
        assert process.pid in proc.tree(os.getpid())
        assert proc.cpu_seconds(process.pid) > 0
        assert proc.resident(process.pid) > 1 << 20
        process.stdin.close()
    assert not proc.alive(process.pid) and proc.alive(os.getpid())
    assert (proc.cpu_seconds(process.pid), proc.resident(process.pid)) == (0, 0)


def test_our_own_work_is_not_that_of_others() -> None:
    others = proc.Others([os.getpid()])
    sum(range(3_000_000))
    assert 0 <= others.share() <= 1
