"""Checks that come with every source: nothing vanished between file and table, and no file is left refused."""

from datetime import date

import dagster as dg
from dagster_duckdb import DuckDBResource

from etl_project import partitions, settings
from etl_project.incoming import archive, judge, quarantine
from etl_project.incoming.spec import SourceSpec


def checks(spec: SourceSpec, files_asset: str, table: str) -> list[dg.AssetChecksDefinition]:
    """The two checks of a source."""

    @dg.asset_check(
        asset=table,
        name="rows_in_equal_rows_stored_and_rejected",
        description="Rows in the accepted files = rows in the table + rows among the rejects, for every day.",
    )
    def nothing_vanished(context: dg.AssetCheckExecutionContext, duckdb: DuckDBResource) -> dg.AssetCheckResult:
        root = settings.load().archive
        days = partitions.days_of_run(context.run.tags)
        archived = archive.accepted_days(root, spec)
        read = {
            day: sum(judge.count_rows(spec, file) for file in accepted)
            for day, accepted in archived.items()
            if days is None or days[0] <= day <= days[1]
        }
        with duckdb.get_connection() as connection:
            stored = _rows_by_day(connection, table, days)
            rejected = _rows_by_day(connection, f"{table}_rejects", days)
        differences = {
            str(
                day
            ): f"{read.get(day, 0)} rows in the files, {stored.get(day, 0)} stored, {rejected.get(day, 0)} rejected"
            for day in sorted({*read, *stored, *rejected})
            if read.get(day, 0) != stored.get(day, 0) + rejected.get(day, 0)
        }
        return dg.AssetCheckResult(
            passed=not differences,
            description="; ".join(f"{day}: {text}" for day, text in differences.items()) or None,
            metadata={
                "rows in": sum(read.values()),
                "rows stored": sum(stored.values()),
                "rows rejected": sum(rejected.values()),
            },
        )

    @dg.asset_check(
        asset=files_asset,
        name="no_refused_files",
        description="No file of the day is in quarantine without a later version that was accepted.",
    )
    def nothing_refused(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        configured = settings.load()
        days = partitions.days_of_run(context.run.tags)
        refused = sorted(
            day
            for day in quarantine.open_days(configured.quarantine, configured.archive, spec)
            if days is None or days[0] <= day <= days[1]
        )
        return dg.AssetCheckResult(
            passed=not refused,
            description=f"Refused files of {', '.join(map(str, refused))} wait in quarantine; these days keep their "
            "last good rows. `etl quarantine list` says why."
            if refused
            else None,
            metadata={"days with refused files": len(refused)},
        )

    return [nothing_vanished, nothing_refused]


def _rows_by_day(connection: object, table: str, days: tuple[date, date] | None) -> dict[date, int]:
    """Rows of each day in a warehouse table."""
    where = "" if days is None else "where batch_date between $1 and $2"
    quoted = '"' + table.replace('"', '""') + '"'
    rows = connection.execute(  # type: ignore[attr-defined]
        f"select batch_date, count(*) from {quoted} {where} group by batch_date", list(days or [])
    ).fetchall()
    return dict(rows)
