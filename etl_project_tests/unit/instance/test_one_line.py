"""What keeps Dagster's commands from starting is one line; what other processes raise stays what it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from etl_project.failures import Transient
from etl_project.instance.one_line import for_commands


class Full(Transient):
    """There is no room."""


@pytest.mark.parametrize(
    "command",
    [
        ["/bin/dagster", "dev"],
        ["/bin/dg", "dev"],
        ["/lib/dagster/__main__.py", "run", "list"],
        ["/lib/dagster/_daemon/__main__.py", "run"],
        ["/lib/dagster_webserver/__main__.py"],
    ],
)
def test_a_command_of_dagsters_says_it_in_one_line(command: list[str]) -> None:
    with pytest.raises(click.ClickException, match="no room"), for_commands(command):
        raise Full("no room")


@pytest.mark.parametrize(
    "command",
    [
        ["/bin/etl", "drain"],
        ["/lib/dagster/__main__.py", "api", "grpc"],
        ["/bin/dagster", "code-server", "start"],
        [""],
    ],
)
def test_any_other_process_raises_it_as_it_is(command: list[str]) -> None:
    with pytest.raises(Full, match="no room"), for_commands(command):
        raise Full("no room")


def test_what_is_no_error_of_ours_is_not_touched() -> None:
    with pytest.raises(ValueError, match="a fault"), for_commands(["/bin/dagster", "dev"]):
        raise ValueError("a fault")


def test_dagster_starts_with_one_line_on_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "ETL_DATA_DIR": str(tmp_path / "wh?t"), "DAGSTER_HOME": str(root)}
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "run", "list"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "ETL_DATA_DIR" in line
