"""Confirm: before a command builds many days again, somebody says that this is meant.

Belongs here: counting against `ETL_CONFIRM_DAYS`, the question on a terminal, the refusal without one. Does not belong
here: what is shown before the question; a plain `etl drain` is never asked: it follows files and inputs, and runs by
cron.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from etl_project.cli.console import console
from etl_project.failures import Permanent

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before more than ETL_CONFIRM_DAYS days are built again.")]


class NotConfirmed(Permanent):
    """Nobody said that so many days are meant. Nothing was changed; retrying does not help."""


def ask(what: str, days: int, most_days: int, yes: bool, show: Callable[[], None]) -> None:
    """Return where `days` are few enough or confirmed; `show` says before the question what would be done.

    Raises NotConfirmed without a terminal, and typer.Exit (1) where the answer is no.
    """
    if yes or days <= most_days:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NotConfirmed(
            f"{what} ({days:,} days or other partitions) is more than ETL_CONFIRM_DAYS={most_days} allows without a "
            "question, and there is no terminal to ask on: nothing was run. Retrying does not help; say --yes if it is "
            "meant."
        )
    show()
    if not typer.confirm(f"{what}: {days:,} days or other partitions. Go on?"):
        console.print("nothing was run")
        raise typer.Exit(1)
