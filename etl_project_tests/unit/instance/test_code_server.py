"""The half of a code server that is left where the process that loads the project was killed is ended, and no other."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from etl_project.instance.code_server import Halves

# A `dagster dev` with one code server; that one has a child if it is told to have one.
DEV = """
import subprocess, sys
server = subprocess.Popen([sys.executable, "-c", sys.argv[1], "code-server"], stdout=subprocess.PIPE, text=True)
print(server.pid, server.stdout.readline().strip(), flush=True)
server.wait()
sys.stdin.read()
"""
SERVER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "grpc"])
print(child.pid, flush=True)
time.sleep(600)
"""
ALONE = "import time; print(0, flush=True); time.sleep(600)"


@pytest.fixture
def dev(request: pytest.FixtureRequest) -> Iterator[tuple[int, psutil.Process, int]]:
    """The process ids of the first process and of the child, and the code server between them."""
    process = subprocess.Popen(
        [sys.executable, "-c", DEV, request.param], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    server, child = map(int, process.stdout.readline().split())
    try:
        yield process.pid, psutil.Process(server), child
    finally:
        below = psutil.Process(process.pid).children(recursive=True)
        for one in [*below, process]:
            one.kill()
        process.wait()


@pytest.mark.parametrize("dev", [SERVER], indirect=True)
def test_one_that_lost_its_child_is_killed_after_two_looks(dev: tuple[int, psutil.Process, int]) -> None:
    first, server, child = dev
    halves = Halves(first)
    assert [halves.end_orphaned() for _ in range(4)] == [[]] * 4, "its child is there"
    psutil.Process(child).kill()
    while psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert halves.end_orphaned() == [], "a reload may be about to start the next one"
    assert halves.end_orphaned() == [server.pid]
    server.wait()
    assert halves.end_orphaned() == []


@pytest.mark.parametrize("dev", [ALONE], indirect=True)
def test_one_that_never_had_a_child_is_left_alone(dev: tuple[int, psutil.Process, int]) -> None:
    first, server, _ = dev
    halves = Halves(first)
    assert [halves.end_orphaned() for _ in range(4)] == [[]] * 4
    assert server.is_running()
