"""The list of commands: what it says is true of each, and looking at it loads none of them."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from etl_project.cli import entry, plain_letters
from etl_project.cli.main import COMMANDS, app, main, summary

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


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("typed", "offered"), [("etl qu", "quarantine"), ("etl quarantine re", "release"), ("etl drain --sel", "--select")]
)
def test_a_shell_completes_commands_those_of_a_group_and_options(shell: str, typed: str, offered: str) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_TYPER_COMPLETE_ARGS": typed}
    done = CliRunner().invoke(app, prog_name="etl", env={"_ETL_COMPLETE": f"complete_{shell}", **words})
    assert offered in done.output and "Usage" not in done.output


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.strip() == f"etl {version('etl-project')}"


def test_an_unknown_command_is_named_with_what_is_like_it() -> None:
    for wrong, meant in (("statsu", "'status'?"), ("recieve-http", "'receive-http'?"), ("xyz", "etl --help")):
        shown = CliRunner().invoke(app, [wrong])
        assert shown.exit_code == 2 and f"'{wrong}'" in shown.output and meant in shown.output
    group = typer.main.get_group(app)
    completing = group.make_context("etl", [], resilient_parsing=True)
    assert group.resolve_command(completing, ["statsu"])[:2] == (None, None), "no error where a shell completes it"


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.EACCES, "Let this user read"), (errno.ENOSPC, "Free some space"), (errno.EIO, "See to the disk")],
)
def test_what_the_file_system_refuses_is_one_line_with_the_path_and_what_to_do(
    number: int, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusing() -> None:
        raise OSError(number, os.strerror(number), "/data/archive/orders")

    monkeypatch.setattr("etl_project.cli.main.app", refusing)
    with pytest.raises(SystemExit) as ended:
        main()
    [line] = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and line.startswith("etl: /data/archive/orders: ") and advice in line


def test_an_error_that_nobody_can_mend_on_a_disk_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("etl_project.cli.main.app", broken)
    with pytest.raises(OSError, match="Bad file descriptor"):
        main()


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "# ~ x . -> ..., Gr\\xf6\\xdfe \\u96e8"), ("latin-1", "# ~ x · -> ..., Größe \\u96e8")],
)
def test_signs_that_the_output_has_no_letters_for_stay_apart_and_are_no_error(encoding: str, shown: str) -> None:
    script = (
        "from etl_project.cli import plain_letters; plain_letters.print_what_fits(); "
        "print('\\u25a0 \\u2248 \\u2717 \\xb7 \\u2192 \\u2026, Gr\\xf6\\xdfe \\u96e8')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, env={"PYTHONIOENCODING": encoding}
    )
    assert done.stdout.decode(encoding).strip() == shown


def test_data_for_other_programs_come_out_as_they_are_or_not_at_all() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", errors="replace")
    refused = pytest.raises(plain_letters.NoLetterForIt, match=r"is latin-1, .* for .*2192.* PYTHONIOENCODING=utf-8")
    with refused, plain_letters.nothing_instead(out):
        print("Größe a → b", file=out)
    assert not plain_letters.has_all(out), "JSON escapes there what is not ASCII"
    assert plain_letters.has_all(io.TextIOWrapper(io.BytesIO(), encoding="UTF-8"))


def test_an_interrupt_while_modules_are_loaded_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("etl_project.cli.main.main", interrupted)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130
