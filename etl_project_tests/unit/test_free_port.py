"""deploy/on-free-port.sh: the servers of the tests, on ports that nobody else has."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from etl_project_tests import steady
from etl_project_tests.deployments import ROOT

# The first port is somebody else's: not by chance, but because this says so.
SERVER = """#!/usr/bin/env python3
import os, pathlib, socket, sys
port, folder = sys.argv[1:]
tried = pathlib.Path(folder).parent / "tried"
first = not tried.exists()
tried.open("a").write(port + "\\n")
if first:
    sys.exit("bind: Address already in use")
with socket.create_server(("127.0.0.1", int(port))) as server:
    pathlib.Path(folder, "mine").write_text(str(os.getpid()))
    while True:
        server.accept()
"""


def start(folder: Path, script: str) -> subprocess.Popen[bytes]:
    """The script's server, on a port of its own."""
    path = folder / "start.sh"
    path.write_text(script)
    path.chmod(0o755)
    return subprocess.Popen([str(ROOT / "deploy" / "on-free-port.sh"), str(path), str(folder / "work")])


def said_by(server: subprocess.Popen[bytes], folder: Path) -> str:
    """The port, once it is said."""
    said = folder / "work" / "port"
    deadline = time.monotonic() + steady.PATIENCE_SECONDS
    while not said.exists():
        assert server.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return said.read_text()


def test_a_port_that_somebody_else_has_is_followed_by_another_and_the_one_that_is_held_is_said(tmp_path: Path) -> None:
    server = start(tmp_path, SERVER)
    said = said_by(server, tmp_path)
    tried = (tmp_path / "work" / "tried").read_text().split()
    assert said.split() == tried[-1:] and (tmp_path / "work" / "server" / "mine").exists()
    assert len(tried) >= 2, "the first one was somebody else's"
    server.send_signal(signal.SIGTERM)
    assert server.wait(steady.PATIENCE_SECONDS) == 143


@pytest.mark.long
def test_a_server_that_does_not_end_when_it_is_asked_to_is_ended(tmp_path: Path) -> None:
    deaf = "import signal\nfor one in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(one, signal.SIG_IGN)\n"
    server = start(tmp_path, SERVER.replace("import os", f"{deaf}import os", 1))
    said_by(server, tmp_path)
    server.send_signal(signal.SIGTERM)
    assert server.wait(steady.PATIENCE_SECONDS) == 143
    deaf_one = int((tmp_path / "work" / "server" / "mine").read_text())
    assert not psutil.pid_exists(deaf_one) or psutil.Process(deaf_one).status() == psutil.STATUS_ZOMBIE


def test_a_server_that_ends_for_another_reason_is_not_tried_again(tmp_path: Path) -> None:
    server = start(tmp_path, '#!/bin/sh\necho "no such disk"\necho again >>"$2/../tried"\nexit 7\n')
    assert server.wait(steady.PATIENCE_SECONDS) == 7
    assert (tmp_path / "work" / "log").read_text() == "no such disk\n"
    assert (tmp_path / "work" / "tried").read_text() == "again\n" and not (tmp_path / "work" / "port").exists()
