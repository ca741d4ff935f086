"""Checks that come with every source: nothing vanished between file and table, and no file is left refused."""

from collections import defaultdict
from datetime import date, datetime

import dagster as dg
from dagster_duckdb import DuckDBResource

from etl_project import settings, utc
from etl_project.declare import by_partition, daily_partitions, warehouse
from etl_project.sources import completeness, row_counts
from etl_project.sources.asset_names import Names
from etl_project.sources.intake import archive, quarantine, scan
from etl_project.sources.spec import SourceSpec
from etl_project.utc import days_between

NO_REFUSED_FILES, NO_REFUSED_FILES_OF_MANY_DAYS = "no_refused_files", "no_refused_files_of_many_days"
NOTHING_FOUND = dg.AssetCheckResult(passed=True)


def checks(spec: SourceSpec) -> list[dg.AssetChecksDefinition]:
    """The checks of a source."""
    own = Names.of(spec.name)

    @dg.asset_check(
        asset=own.typed,
        name="rows_in_equal_rows_stored_and_rejected",
        description="Rows in the accepted files = raw rows + rejects, and raw rows = stored + repeated, for every day.",
        partitions_def=daily_partitions(),
    )
    def nothing_vanished(context: dg.AssetCheckExecutionContext, duckdb: DuckDBResource) -> dg.AssetCheckResult:
        configured = settings.load()
        days = utc.days_of_run(context.run.tags)
        # The rows of all days are counted: what vanished behind the back of runs is red on its day. Only the files of
        # the run's own days are read again; that takes as long as building them.
        raw = row_counts.raw_rows(spec, configured, None)
        with duckdb.get_connection() as connection:
            counted = row_counts.of_files(spec, configured, connection, raw, days)
            kept = row_counts.of_rows(spec, connection, raw, None)
            behind = row_counts.behind(spec, configured, warehouse(configured))
            pinned = row_counts.pinned(spec, configured, warehouse(configured))
        asked = {*counted, *kept} if days is None else set(days_between(*days))
        settled = {day: rows for day, rows in kept.items() if day in asked or day not in behind}
        said: dict[date, list[str]] = defaultdict(list)
        for day, what in (*row_counts.differences_of_files(counted), *row_counts.differences_of_rows(settled)):
            said[day].append(what)
        for day in pinned & said.keys():
            said[day].append("the day was rolled back and is pinned to earlier rows")
        return by_partition(
            context,
            {
                day.isoformat(): dg.AssetCheckResult(
                    passed=day not in said,
                    severity=dg.AssetCheckSeverity.WARN if day in pinned else dg.AssetCheckSeverity.ERROR,
                    description="; ".join(said.get(day, ())) or None,
                    metadata=_numbers(counted.get(day), kept.get(day), spec) if day in asked else {},
                )
                for day in sorted({*asked, *said})
            },
        )

    @dg.asset_check(
        asset=own.files,
        name=NO_REFUSED_FILES,
        description="No file of the day is in quarantine without a later version that was accepted.",
        partitions_def=daily_partitions(),
    )
    def nothing_refused(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        configured = settings.load()
        refused = dg.AssetCheckResult(
            passed=False,
            description="A refused file of the day waits in quarantine; the day keeps its last good rows. "
            "`etl quarantine list` says why.",
        )
        open_days = quarantine.open_days(configured.quarantine, configured.archive, spec)
        return by_partition(context, {str(day): refused for day in sorted(open_days)}, NOTHING_FOUND)

    @dg.asset_check(
        asset=own.files,
        name=completeness.CHECK,
        description="Every day has a file, or its deadline has not passed. The sensor tells when that changes.",
        partitions_def=daily_partitions(),
    )
    def complete(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        configured = settings.load()
        now = utc.now()
        days = completeness.overdue(spec, _come(spec, configured, now), now)
        overdue = dg.AssetCheckResult(passed=False, description=completeness.OVERDUE)
        return by_partition(context, {str(day): overdue for day in days}, NOTHING_FOUND)

    @dg.asset_check(
        asset=own.files,
        name=NO_REFUSED_FILES_OF_MANY_DAYS,
        description="No file whose rows say their day is in quarantine without a later version that was accepted.",
    )
    def nothing_refused_of_many_days() -> dg.AssetCheckResult:
        refused = refused_of_many_days(spec, settings.load())
        return dg.AssetCheckResult(
            passed=not refused,
            description="A refused file of many days waits in quarantine. `etl quarantine list` says why."
            if refused
            else None,
        )

    return [
        nothing_vanished,
        nothing_refused,
        *([complete] if spec.deadline is not None else []),
        *([nothing_refused_of_many_days] if spec.day_from is not None else []),
    ]


def refused_of_many_days(spec: SourceSpec, configured: settings.Settings) -> bool:
    """Whether a file that may hold any day was refused, and none was accepted under its name since."""
    left = quarantine.still_open(configured.quarantine, configured.archive, spec)
    return any(one.reason.day is None and one.reason.kind == "refused" for one in left)


def _numbers(files: row_counts.Files | None, rows: row_counts.RowCounts | None, spec: SourceSpec) -> dict[str, int]:
    """What a day came to, for the UI."""
    files, rows = files or row_counts.Files(0, 0, 0), rows or row_counts.RowCounts(0, 0, 0)
    return {
        "rows in": files.in_files,
        "rows stored": rows.stored,
        "rows rejected": files.rejected,
        **({"rows skipped": files.skipped} if files.skipped else {}),
        **({"rows repeated": rows.repeated} if spec.deduplicate_on else {}),
    }


def _come(spec: SourceSpec, configured: settings.Settings, now: datetime) -> set[date]:
    """The days with an accepted, a waiting or a refused file."""
    waiting = scan.scan(configured.incoming / spec.name, spec, now).waiting
    refused = quarantine.open_days(configured.quarantine, configured.archive, spec)
    return {*archive.accepted_days(configured.archive, spec), *(file.day for file in waiting), *refused}
