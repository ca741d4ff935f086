"""Verify in Dagster: an asset check on every stored asset, computed together, and the job that runs them once a week.

Belongs here: thin shells over `whole.verify`. The check is no part of the runs that sensor, schedule and drain ask for:
it would cost more than they do. A run from the UI takes it along for the days of the run; it then stays red where the
last look at everything was red, because nobody has looked at the other days since.
"""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Iterable, Iterator, Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from etl_project import utc
from etl_project.due import WITHOUT_DAYS
from etl_project.proofs.verify import whole
from etl_project.proofs.verify.findings import ADVICE, DaySpan
from etl_project.proofs.verify.targets import Stored
from etl_project.storage import Finding, reported

CHECK = "matches_its_commits"
JOB = "verify_weekly"
_SHOWN = 20
_OPEN = f"The look before this one found something wrong. Only the days of this run were looked at now; run {JOB}."


def checks(targets: Sequence[Stored]) -> list[dg.AssetChecksDefinition]:
    """One check an asset; they are computed by one step, so that they can be run for all assets or for some."""
    if not targets:
        return []
    description = "Rows and files have the fingerprints of their commits, and Dagster knows every commit."
    specs = {target.asset: dg.AssetCheckSpec(CHECK, asset=_key(target), description=description) for target in targets}

    @dg.multi_asset_check(name="verify", specs=list(specs.values()), can_subset=True)
    def verify(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        asked = context.selected_asset_check_keys
        days = utc.days_of_run(context.run.tags)
        with reported(context.instance, context.run.run_id):
            for target in targets:
                if specs[target.asset].key in asked:
                    done = whole.verify(context.instance, [target], DaySpan(*days) if days else None)
                    open_before = days is not None and _was_red(context.instance, specs[target.asset].key)
                    yield result(target.asset, done, open_before=open_before)

    return [verify]


def weekly(check: Sequence[dg.AssetChecksDefinition]) -> tuple[UnresolvedAssetJobDefinition, dg.ScheduleDefinition]:
    """The job of these checks, and its schedule: Sundays at 03:15 UTC, running from the start."""
    selection = dg.AssetSelection.checks(*(key for one in check for key in one.check_keys))
    description = "Compares every table and file with its commits, and those with Dagster's history. Changes nothing."
    job = dg.define_asset_job(JOB, selection=selection, description=description, tags=WITHOUT_DAYS)
    schedule = dg.ScheduleDefinition(
        name=JOB,
        job=job,
        cron_schedule="15 3 * * 0",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    return job, schedule


def result(asset: str, done: whole.Verified, *, open_before: bool = False) -> dg.AssetCheckResult:
    """The check's result: what is wrong and what to do, for a person.

    `open_before`: only some days were looked at, and what was wrong before may be wrong still.
    """
    lines = [_OPEN] if open_before else []
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey.from_user_string(asset),
        check_name=CHECK,
        passed=done.sound and not open_before,
        description="\n".join([*lines, *_in_words(done.findings)]) or None,
        metadata={
            "partitions": done.partitions,
            "counted only": done.counted,
            "rows": done.rows,
            "findings": len(done.findings),
        },
    )


def _was_red(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> bool:
    """Whether the newest result of the check is a failure."""
    ended = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
    found = instance.event_log_storage.get_asset_check_execution_history(check, limit=1, status=ended)
    return any(record.status is AssetCheckExecutionRecordStatus.FAILED for record in found)


def _in_words(findings: Sequence[Finding]) -> list[str]:
    lines = [f"{f.partition or 'all'}: {f.kind}: {f.where}: {f.found}" for f in findings[:_SHOWN]]
    more = [f"and {len(findings) - _SHOWN} more (`etl verify --json` lists all)"] if len(findings) > _SHOWN else []
    return [*lines, *more, *_advice(findings)]


def _advice(findings: Iterable[Finding]) -> Iterator[str]:
    for kind in sorted({finding.kind for finding in findings}):
        yield f"{kind}: {ADVICE[kind]}"


def _key(target: Stored) -> dg.AssetKey:
    return dg.AssetKey.from_user_string(target.asset)
