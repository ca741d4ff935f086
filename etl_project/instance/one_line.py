"""One line: what keeps one of Dagster's own commands from starting, said as `etl` says it.

Belongs here: errors of ours on their way through Dagster's command line, which prints a traceback of sixty lines for
any that is not click's. Does not belong here: the errors. Code servers and run workers are no commands of a person:
what they raise is handed on as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from etl_project.failures import EtlError

_OF_PERSONS = ("dagster", "dg", "dagster-daemon", "dagster-webserver")
_MODULES = ("dagster", "_daemon", "dagster_webserver", "dagster_dg_cli")
_OF_PROCESSES = ("api", "code-server")


@contextmanager
def for_commands(command: Sequence[str] = tuple(sys.argv)) -> Iterator[None]:
    """Our errors in the block as click.ClickException, in a command of Dagster's; as they are in anything else."""
    try:
        yield
    except EtlError as error:
        if _is_of_dagster(command):
            raise click.ClickException(str(error)) from error
        raise


def _is_of_dagster(command: Sequence[str]) -> bool:
    program = Path(command[0])
    named = program.name in _OF_PERSONS or (program.name == "__main__.py" and program.parent.name in _MODULES)
    return named and not {*command[1:2]} & {*_OF_PROCESSES}
