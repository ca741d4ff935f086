"""One daemon for a data folder: a second one is refused in one line; runs, commands and the next one are not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from etl_project.instance.one_daemon import refuse_a_second

DEV = ["/bin/dagster", "dev", "--port", "3001"]
DEV_AS_A_MODULE = ["/lib/python/dagster/__main__.py", "dev"]
DAEMONS = (["/lib/python/dagster/_daemon/__main__.py", "run"], ["/bin/dagster-daemon", "run"])
OTHERS = (
    ["/bin/dagster", "run", "list"],
    ["/bin/etl", "drain"],
    ["/lib/python/dagster/__main__.py", "api", "grpc"],
    [""],
)
DAEMON = """
import sys, time
from pathlib import Path
from etl_project.instance.one_daemon import refuse_a_second
for _ in range(2):
    refuse_a_second(Path(sys.argv[1]), ["/bin/dagster-daemon", "run"])
print("at work", flush=True)
time.sleep(600)
"""


@contextmanager
def daemon_at_work(home: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", DAEMON, str(home)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n", "a daemon may open its instance more than once"
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "dagster"


@pytest.mark.parametrize("second", [DEV, DEV_AS_A_MODULE, *DAEMONS])
def test_a_second_one_is_refused_and_told_which_process_is_at_work(home: Path, second: list[str]) -> None:
    with daemon_at_work(home) as daemon, pytest.raises(click.ClickException) as refusal:
        refuse_a_second(home, second)
    assert f"process {daemon.pid}, since 20" in refusal.value.message
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize("command", OTHERS)
def test_whatever_is_no_daemon_is_never_refused(home: Path, command: list[str]) -> None:
    with daemon_at_work(home):
        refuse_a_second(home, command)


def test_a_killed_daemon_is_in_nobodys_way(home: Path) -> None:
    with daemon_at_work(home):
        pass
    refuse_a_second(home, DEV)
    with daemon_at_work(home), pytest.raises(click.ClickException):
        refuse_a_second(home, DEV)


def test_a_note_that_was_not_written_to_its_end_still_refuses(home: Path) -> None:
    with daemon_at_work(home):
        os.truncate(home / "daemon.lock", 7)
        with pytest.raises(click.ClickException, match="process unknown"):
            refuse_a_second(home, DEV)


def test_a_look_leaves_nothing_behind(home: Path) -> None:
    refuse_a_second(home, DEV)
    assert not home.exists()
