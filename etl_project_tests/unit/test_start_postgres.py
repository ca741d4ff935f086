"""deploy/postgres/start.sh: a server that is killed while its data is made is made anew by the next start."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from etl_project_tests import steady
from etl_project_tests.deployments import ROOT

SERVERS = list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = pytest.mark.skipif(not SERVERS, reason="needs PostgreSQL (Debian's package)")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's own folders, which the user postgres cannot enter."""
    made = Path(tempfile.mkdtemp(prefix="etl-postgres-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def started(folder: Path, met: Callable[[int], bool]) -> subprocess.Popen[bytes]:
    """The server, once `met` holds for its port. A port that somebody else has ends it: then on another one."""
    deadline = time.monotonic() + steady.PATIENCE_SECONDS
    said = ""
    for _ in range(5):
        port = 20000 + random.randrange(12000)
        words = [str(ROOT / "deploy" / "postgres" / "start.sh"), str(port), str(folder)]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(words, start_new_session=True, stdout=log, stderr=log)
        while server.poll() is None:
            if met(port):
                return server
            assert time.monotonic() < deadline
            time.sleep(0.01)
        said = (folder / "log").read_text()
    pytest.fail(said)


def killed(server: subprocess.Popen[bytes]) -> None:
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def answers(folder: Path, port: int) -> bool:
    """Whether the server of this folder does: nobody else has its password."""
    password = folder / "password"
    if not password.exists():
        return False
    told = f"host=localhost port={port} user=etl dbname=postgres password={password.read_text().strip()}"
    try:
        psycopg.connect(told, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def test_a_kill_while_the_data_is_made_leaves_nothing_that_the_next_start_takes_for_whole(folder: Path) -> None:
    # The version is written long before the rest.
    killed(started(folder, lambda _: any(folder.glob("data*/PG_VERSION"))))
    assert not (folder / "data" / "postmaster.opts").exists(), "killed before it was started"
    killed(started(folder, lambda port: answers(folder, port)))


def test_a_folder_that_has_data_is_started_again_as_it_is(folder: Path) -> None:
    killed(started(folder, lambda port: answers(folder, port)))
    known, made = (folder / "password").read_text(), (folder / "data" / "PG_VERSION").stat().st_mtime_ns
    killed(started(folder, lambda port: answers(folder, port)))
    assert (folder / "password").read_text() == known
    assert (folder / "data" / "PG_VERSION").stat().st_mtime_ns == made
