"""Verify in Dagster: an asset check on every stored asset, computed together, and the job that runs them once a week.

Belongs here: thin shells over `whole.verify`. In a run over days the check does nothing: to look at one day would
overwrite what is known of all the others, and to look at all of them would cost more than the run.
"""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Iterable, Iterator, Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from etl_project import partitions
from etl_project.failures import reported
from etl_project.observe.verify import whole
from etl_project.observe.verify.findings import ADVICE, Finding
from etl_project.observe.verify.targets import Stored

CHECK = "matches_its_commits"
JOB = "verify_weekly"
_SHOWN = 20


def checks(targets: Sequence[Stored]) -> list[dg.AssetChecksDefinition]:
    """One check an asset; they are computed by one step, so that they can be run for all assets or for some."""
    if not targets:
        return []
    description = "Rows and files have the fingerprints of their commits, and Dagster knows every commit."
    specs = {target.asset: dg.AssetCheckSpec(CHECK, asset=_key(target), description=description) for target in targets}

    @dg.multi_asset_check(name="verify", specs=list(specs.values()), can_subset=True)
    def verify(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        if partitions.days_of_run(context.run.tags) is not None:
            context.log.info("A run over days is not the place to verify all of them: `etl verify`, or the weekly job.")
            return
        asked = context.selected_asset_check_keys
        with reported(context.instance, context.run.run_id):
            for target in targets:
                if specs[target.asset].key in asked:
                    yield result(target.asset, whole.verify(context.instance, [target]))

    return [verify]


def weekly(check: Sequence[dg.AssetChecksDefinition]) -> tuple[UnresolvedAssetJobDefinition, dg.ScheduleDefinition]:
    """The job of these checks, and its schedule: Sundays at 03:15 UTC, running from the start."""
    selection = dg.AssetSelection.checks(*(key for one in check for key in one.check_keys))
    description = "Compares every table and file with its commits, and those with Dagster's history. Changes nothing."
    job = dg.define_asset_job(JOB, selection=selection, description=description)
    schedule = dg.ScheduleDefinition(
        name=JOB,
        job=job,
        cron_schedule="15 3 * * 0",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    return job, schedule


def result(asset: str, done: whole.Verified) -> dg.AssetCheckResult:
    """The check's result: what is wrong and what to do, for a person."""
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey.from_user_string(asset),
        check_name=CHECK,
        passed=done.sound,
        description=_in_words(done.findings) if done.findings else None,
        metadata={"partitions": done.partitions, "rows": done.rows, "findings": len(done.findings)},
    )


def _in_words(findings: Sequence[Finding]) -> str:
    lines = [f"{f.partition or 'all'}: {f.kind}: {f.where}: {f.found}" for f in findings[:_SHOWN]]
    more = [f"and {len(findings) - _SHOWN} more (`etl verify --json` lists all)"] if len(findings) > _SHOWN else []
    return "\n".join([*lines, *more, *_advice(findings)])


def _advice(findings: Iterable[Finding]) -> Iterator[str]:
    for kind in sorted({finding.kind for finding in findings}):
        yield f"{kind}: {ADVICE[kind]}"


def _key(target: Stored) -> dg.AssetKey:
    return dg.AssetKey.from_user_string(target.asset)
