"""The `etl` command: which commands there are, each loaded when it is used.

Belongs here: the list. What a command does, and what its help says, stands in the module of its name; for `etl --help`
the modules are read, not imported: most of them need Dagster, which takes a second to load.
"""

from __future__ import annotations

import ast
import errno
import os
import sys
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from etl_project import loading
from etl_project.cli import plain_letters
from etl_project.failures import EtlError
from etl_project.instance import json_lines

COMMANDS = (
    "demo",
    "plan",
    "drain",
    "rebuild",
    "retry",
    "status",
    "history",
    "show",
    "diff",
    "explain",
    "rollback",
    "unpin",
    "doctor",
    "new-source",
    "verify",
    "maintain",
    "prove",
    "receive-http",
    "consume",
    "worker",
    "dead-letters",
    "quarantine",
    "contract",
    "warehouse",
)
"""Each is the function of its name in the module of its name, or the module's `app` where it is a group."""

_ADVICE = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Let this user read, write and enter it"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space"),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ENOTCONN), "See to the disk or the file server"),
}
"""What is to be done about the errors of a file system that are nobody's mistake in a program."""


def load(name: str) -> Any:
    """The command itself, as typer makes it of the function or the app."""
    with loading.without_collections():
        module = import_module(f"etl_project.cli.{_module(name)}")
    app = getattr(module, "app", None)
    if app is not None:
        return typer.main.get_group(app)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name)(getattr(module, _module(name)))
    return typer.main.get_command(alone)


def summary(name: str) -> str:
    """What the list says of a command: the first words of its function's docstring, else of its module's."""
    tree = ast.parse((Path(__file__).with_name(f"{_module(name)}.py")).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == _module(name)]
    text = ast.get_docstring(functions[0] if functions else tree) or ""
    return " ".join(text.split("\n\n")[0].split()).partition(". ")[0].removesuffix(".") + "."


def _module(name: str) -> str:
    return name.replace("-", "_")


class OnDemand(TyperGroup):
    """A group whose commands are loaded when one of them is run."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, in the order of the list."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What the help shows of a command, without loading it."""
        return TyperCommand(cmd_name, help=summary(cmd_name)) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that is to be run, or whose own help or completion is asked for."""
        misspelt = args and args[0] not in COMMANDS and not args[0].startswith("-")
        if misspelt and not ctx.resilient_parsing:  # A shell that completes what follows it gets nothing.
            alike = " or ".join(map(repr, get_close_matches(args[0], COMMANDS)))
            also = f" Did you mean {alike}?" if alike else " `etl --help` lists them."
            ctx.fail(f"No such command {args[0]!r}.{also}")
        name, shown, rest = super().resolve_command(ctx, args)
        return name, load(name) if name is not None and shown is not None else shown, rest


app = typer.Typer(cls=OnDemand, no_args_is_help=True, pretty_exceptions_enable=False)


def main() -> None:
    """The entry point: an error a person can mend is one line on standard error and exit code 2."""
    plain_letters.print_what_fits()
    try:
        json_lines.start_command()
        app()
    except EtlError as error:
        json_lines.complain(f"etl: {error}")
        sys.exit(2)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0)
        if advice is None or error.filename is None:
            raise
        path = os.fsdecode(error.filename).encode(errors="backslashreplace").decode()
        json_lines.complain(f"etl: {path}: {error.strerror}. {advice}, and try again: what is committed stays so.")
        sys.exit(2)


def _say_version(asked: bool) -> None:
    if asked:
        print(f"etl {version('etl-project')}")  # noqa: T201
        raise typer.Exit


_VERSION = typer.Option("--version", help="Say the version and stop.", callback=_say_version, is_eager=True)


@app.callback()
def etl(_: Annotated[bool, _VERSION] = False) -> None:
    """Daily batch pipelines whose reruns are provably identical."""
