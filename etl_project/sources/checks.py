"""Checks that come with every source: nothing vanished between file and table, and no file is left refused."""

from datetime import date, datetime

import dagster as dg
from dagster_duckdb import DuckDBResource

from etl_project import settings, utc
from etl_project.sources import completeness, row_counts
from etl_project.sources.asset_names import Names
from etl_project.sources.intake import archive, quarantine, scan
from etl_project.sources.spec import SourceSpec
from etl_project.storage import DuckDBStore
from etl_project.utc import days_between


def checks(spec: SourceSpec) -> list[dg.AssetChecksDefinition]:
    """The checks of a source."""
    own = Names.of(spec.name)

    @dg.asset_check(
        asset=own.typed,
        name="rows_in_equal_rows_stored_and_rejected",
        description="Rows in the accepted files = raw rows + rejects, and raw rows = stored + repeated, for every day.",
    )
    def nothing_vanished(context: dg.AssetCheckExecutionContext, duckdb: DuckDBResource) -> dg.AssetCheckResult:
        configured = settings.load()
        days = utc.days_of_run(context.run.tags)
        # A check has one result, which must not turn green because the next run built another day: so the rows of all
        # days are counted. Only the files of the run's own days are read again; that takes as long as building them.
        raw = row_counts.raw_rows(spec, configured, None)
        with duckdb.get_connection() as connection:
            counted = row_counts.of_files(spec, configured, connection, raw, days)
            kept = row_counts.of_rows(spec, connection, raw, None)
            behind = row_counts.behind(spec, configured, DuckDBStore(configured.warehouse))
        own = kept if days is None else {day: kept[day] for day in days_between(*days) if day in kept}
        settled = {day: rows for day, rows in kept.items() if day in own or day not in behind}
        differences = [*row_counts.differences_of_files(counted), *row_counts.differences_of_rows(settled)]
        return dg.AssetCheckResult(
            passed=not differences,
            description="; ".join(differences) or None,
            metadata={
                "rows in": sum(day.in_files for day in counted.values()),
                "rows stored": sum(day.stored for day in own.values()),
                "rows rejected": sum(day.rejected for day in counted.values()),
                **({"rows skipped": skipped} if (skipped := sum(day.skipped for day in counted.values())) else {}),
                **({"rows repeated": sum(day.repeated for day in own.values())} if spec.deduplicate_on else {}),
            },
        )

    @dg.asset_check(
        asset=own.files,
        name="no_refused_files",
        description="No file of the day is in quarantine without a later version that was accepted.",
    )
    def nothing_refused(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        configured = settings.load()
        # Whatever the days of the run: a check has one result, and the next day's run must not hide this day's file.
        refused: list[date | str] = [*sorted(quarantine.open_days(configured.quarantine, configured.archive, spec))]
        refused += ["many days"] if spec.day_from is not None and _refused_of_many_days(spec, configured) else []
        return dg.AssetCheckResult(
            passed=not refused,
            description=f"Refused files of {', '.join(map(str, refused))} wait in quarantine; these days keep their "
            "last good rows. `etl quarantine list` says why."
            if refused
            else None,
            metadata={"days with refused files": len(refused)},
        )

    @dg.asset_check(
        asset=own.files,
        name=completeness.CHECK,
        description="Every day has a file, or its deadline has not passed. The sensor tells when that changes.",
    )
    def complete(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        configured = settings.load()
        now = utc.now()
        days = completeness.overdue(spec, _come(spec, configured, now), now)
        return dg.AssetCheckResult(
            passed=not days, description=completeness.in_words(days), metadata={"overdue days": len(days)}
        )

    return [nothing_vanished, nothing_refused, *([complete] if spec.deadline is not None else [])]


def _refused_of_many_days(spec: SourceSpec, configured: settings.Settings) -> bool:
    """Whether a file that may hold any day was refused, and none was accepted under its name since."""
    left = quarantine.still_open(configured.quarantine, configured.archive, spec)
    return any(one.reason.day is None and one.reason.kind == "refused" for one in left)


def _come(spec: SourceSpec, configured: settings.Settings, now: datetime) -> set[date]:
    """The days with an accepted, a waiting or a refused file."""
    waiting = scan.scan(configured.incoming / spec.name, spec, now).waiting
    refused = quarantine.open_days(configured.quarantine, configured.archive, spec)
    return {*archive.accepted_days(configured.archive, spec), *(file.day for file in waiting), *refused}
