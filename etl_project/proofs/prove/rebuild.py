"""Rebuild: the process that builds the subject once, in the scratch folder that its environment names.

    python -m etl_project.proofs.prove.rebuild DAY THREADS RESULT ASSET...

Belongs here: one run, on an instance that is forgotten. It writes to RESULT, as JSON, what failed steps said.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
from dagster._utils.warnings import disable_dagster_warnings

from etl_project.definitions import load_project, wire
from etl_project.due import DAYS_JOB, Deployment, Due, execute
from etl_project.storage import ALLOW_UNCHECKED_TAG, CONFIG


def main(day: str, threads: str, result: str, *assets: str) -> None:
    """Build these assets over the day, with that many threads wherever they can be set."""
    if threads == "1" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # What asks for the number of cores is told one.
    with disable_dagster_warnings(), dg.DagsterInstance.ephemeral() as instance:
        project, declared = load_project()
        jobs = {DAYS_JOB: without_checks(wire(project, declared, weekly_checks=False), assets)}
        # While one connection is open, every other one of the process shares its threads.
        with closing(duckdb.connect(str(project.settings.warehouse), config=dict(CONFIG))) as holder:
            holder.execute(f"SET threads = {int(threads)}")
            one = Due(date.fromisoformat(day), date.fromisoformat(day), (), "prove")
            # What is built on the side reaches no reader, and it is built to be looked at.
            ended = execute(Deployment(project, jobs, instance), one, {ALLOW_UNCHECKED_TAG: "true"})
    Path(result).write_text(json.dumps(ended.complaints))


def without_checks(definitions: dg.Definitions, assets: Sequence[str]) -> dg.JobDefinition:
    """A job that builds these assets and runs none of their checks: rows can be wrong and be built right all the same.

    A run that selects assets of a job takes along all their checks, so this one is for runs that select none.
    """
    keys = {dg.AssetKey.from_user_string(asset) for asset in assets}
    whole: dg.JobDefinition = definitions.resolve_job_def(DAYS_JOB)
    return whole.get_subset(asset_selection=keys, asset_check_selection=set())


if __name__ == "__main__":
    main(*sys.argv[1:])
