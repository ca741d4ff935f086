"""The list of commands: what it says is true of each, and looking at it loads none of them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etl_project.cli.main import COMMANDS, app, summary

HEAVY = {"dagster", "pandas", "duckdb"}


def loaded_by(tmp_path: Path, *arguments: str) -> set[str]:
    """The heavy packages that a command has loaded when it ends."""
    script = (
        "import sys\n"
        "from etl_project.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        f"print('loaded', *({HEAVY!r} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"ETL_DATA_DIR": str(tmp_path), "PATH": ""}
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["quarantine", "list"], ["quarantine", "--help"]])
def test_what_needs_no_project_loads_neither_dagster_nor_pandas_nor_duckdb(
    arguments: list[str], tmp_path: Path
) -> None:
    assert loaded_by(tmp_path, *arguments) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_list_can_be_loaded_and_says_what_it_does(name: str) -> None:
    assert len(summary(name).split()) > 3
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0 and f" {name} [OPTIONS]" in shown.output


def test_the_help_lists_every_command_with_its_summary() -> None:
    shown = " ".join(CliRunner().invoke(app, ["--help"]).output.replace("│", " ").split())
    assert [name for name in COMMANDS if f"{name} {summary(name)[:20]}" not in shown] == []


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.strip() == f"etl {version('etl-project')}"


def test_an_unknown_command_is_named_with_what_is_like_it() -> None:
    shown = CliRunner().invoke(app, ["statsu"])
    assert shown.exit_code == 2 and "statsu" in shown.output
