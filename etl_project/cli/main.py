"""The `etl` command: which commands there are. What each does stands in `commands`."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from etl_project.cli import consume, demo, drain, new_source, prove, quarantine, receive_http, status, verify
from etl_project.failures import EtlError
from etl_project.instance import json_logs

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def main() -> None:
    """The entry point: an error a person can mend is one line on standard error and exit code 2."""
    try:
        json_logs.start_command()
        app()
    except EtlError as error:
        json_logs.complain(f"etl: {error}")
        sys.exit(2)


@app.callback()
def etl() -> None:
    """Daily batch pipelines whose reruns are provably identical."""


commands: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "drain": drain.drain,
    "status": status.status,
    "new-source": new_source.new_source,
    "verify": verify.verify,
    "prove": prove.prove,
    "receive-http": receive_http.receive_http,
    "consume": consume.consume,
}
for name, command in commands.items():
    app.command(name)(command)
app.add_typer(quarantine.app, name="quarantine")
