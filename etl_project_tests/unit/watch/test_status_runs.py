"""Which runs the status ends with."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from etl_project.due import attempts
from etl_project.watch.status import _newest_runs


def test_landings_that_went_well_do_not_hide_the_runs_that_build(tmp_path: Path) -> None:
    @dg.job
    def anything() -> None:
        """No steps."""

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:

        def ended(status: dg.DagsterRunStatus, tags: dict[str, str]) -> str:
            return instance.create_run_for_job(anything, status=status, tags=tags).run_id

        good, bad = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE
        told = [ended(good, {}), ended(bad, attempts.WITHOUT_DAYS), ended(bad, {})]
        for _ in range(8):
            ended(good, attempts.WITHOUT_DAYS)
        assert [record.dagster_run.run_id for record in _newest_runs(instance)] == told[::-1]
