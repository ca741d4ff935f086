"""`etl worker`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from etl_project import settings
from etl_project.failures import Permanent

Slots = Annotated[int, typer.Option(min=1, max=256, help="How many runs at once, each in a process of its own.")]


class NoHome(Permanent):
    """The tasks of Dagster find their instance by DAGSTER_HOME alone."""


def worker(
    slots: Slots = 1,
    queue: Annotated[
        str | None, typer.Option(help="Take runs of this queue (tag dagster-celery/queue); else the launcher's.")
    ] = None,
) -> None:
    """Execute runs that the daemon sends over a broker, on this machine, until told to stop.

    SIGTERM and Ctrl-C let the runs at work end. Exit code: 0 stopped, 2 usage, the broker is away or refuses us.
    """
    configured = settings.load()
    if not os.environ.get("DAGSTER_HOME"):
        raise NoHome(
            "DAGSTER_HOME is not set: a worker needs the folder with the dagster.yaml of the deployment, the same on "
            "every machine, like DAGSTER_HOME=/etc/etl."
        )
    # Celery and Dagster take a second to import: the help does not wait for them.
    from etl_project.instance import home  # noqa: PLC0415
    from etl_project.instance import worker as working  # noqa: PLC0415

    with home.opened() as instance:
        code = working.serve(instance, slots, queue, configured.wait_seconds)
    raise typer.Exit(code)
