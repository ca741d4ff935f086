"""The typed table of a source: its contract's columns, made of the raw rows inside one transaction.

Belongs here: the query, which raw days it reads for a day (see `lateness`), and the Dagster asset around them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, Protocol, cast

import dagster as dg

from etl_project import settings, utc
from etl_project.declare import WAREHOUSE, contract_metadata, contracts
from etl_project.sources import lateness, presentation, row_checks
from etl_project.sources.asset_names import Names
from etl_project.sources.check_words import CheckWords
from etl_project.sources.spec import SourceSpec
from etl_project.storage import ABSENT_PARTITIONS, Partial, Slice, Sql


class SourceOptions(Protocol):
    """What the assets take from the component beyond the spec."""

    @property
    def computed(self) -> Mapping[str, str]: ...
    @property
    def max_removed_ratio(self) -> float | None: ...
    @property
    def drift(self) -> str: ...
    @property
    def owners(self) -> Sequence[str]: ...
    @property
    def checks(self) -> Sequence[CheckWords]: ...


def table(
    spec: SourceSpec, contract: contracts.TableContract, options: SourceOptions, common: Mapping[str, Any]
) -> dg.AssetsDefinition:
    """The table of the contract, from the raw rows, inside one transaction; no row passes through Python."""
    query = typed_query(spec, contract, options.computed)

    @dg.asset(  # type: ignore[untyped-decorator]
        name=spec.name,
        ins={"raw_rows": _raw_rows(spec)},
        io_manager_key=WAREHOUSE,
        kinds={"duckdb", "sql"},
        freshness_policy=row_checks.freshness_policy(options.checks),
        description=contract.comment or f"Rows of the accepted files of {spec.name}, with the columns of its contract.",
        metadata={
            **contract_metadata(contract),
            "drift": options.drift,
            "query": dg.MetadataValue.md(f"```sql\n{query}\n```"),
            **({"max_removed_ratio": options.max_removed_ratio} if options.max_removed_ratio else {}),
        },
        **common,
    )
    def typed(context: dg.AssetExecutionContext, raw_rows: Slice) -> Any:
        days, root = utc.days_of(context), settings.load().archive
        for day in days:
            link = {"archive": presentation.archived_files(spec, root, day)}
            context.add_asset_metadata(link, partition_key=day.isoformat())
        if spec.event_column is None:
            return Sql(query, raw_rows=raw_rows)
        rows = Sql(query, raw_rows=by_event_day(spec, raw_rows, days))
        missing = without_files(spec, raw_rows, days)
        return Partial(rows, missing) if missing else rows

    return cast(dg.AssetsDefinition, typed)


def _raw_rows(spec: SourceSpec) -> dg.AssetIn:
    """The raw days that a day is made of: its own, and with lateness the days after it, as far as they are there."""
    if not spec.lateness_days:
        return dg.AssetIn(Names.of(spec.name).raw)
    return dg.AssetIn(
        Names.of(spec.name).raw,
        partition_mapping=dg.TimeWindowPartitionMapping(
            start_offset=0, end_offset=spec.lateness_days, allow_nonexistent_upstream_partitions=True
        ),
        metadata={ABSENT_PARTITIONS: "allowed"},
    )


def by_event_day(spec: SourceSpec, raw_rows: Slice, days: Sequence[date]) -> Slice:
    """The raw rows whose event day is one of these days, under that day as their batch date."""
    event_day, first, last = lateness.event_day(spec), "etl_first_day", "etl_last_day"
    return replace(
        raw_rows,
        sql=f"SELECT * REPLACE ({event_day} AS batch_date) FROM ({raw_rows.sql}) "
        f"WHERE {event_day} BETWEEN ${first} AND ${last}",
        params={**raw_rows.params, first: days[0], last: days[-1]},
    )


def without_files(spec: SourceSpec, raw_rows: Slice, days: Sequence[date]) -> dict[str | None, str]:
    """The days for which no file at all has come that could hold their rows: missing, not empty."""
    there = {utc.day_of(str(read.partition)) for read in raw_rows.reads if read.fingerprint is not None}
    reach = range(spec.lateness_days + 1)
    return {
        day.isoformat(): f"no file of {day} or of the {spec.lateness_days} days after it was accepted"
        for day in days
        if there.isdisjoint(day + after * utc.ONE_DAY for after in reach)
    }


def typed_query(spec: SourceSpec, contract: contracts.TableContract, computed: Mapping[str, str]) -> str:
    """The query that makes the contract's columns out of the raw rows, each row once."""
    columns = [
        f'  cast({computed[column.name]} as {column.type}) as "{column.name}"'
        if column.name in computed
        else f'  "{column.name}"'
        for column in contract.columns
    ]
    return "select\n" + ",\n".join(columns) + f"\nfrom {_each_once(spec)}"


def _each_once(spec: SourceSpec) -> str:
    if not spec.deduplicate_on:
        return "raw_rows"
    return (
        f"(\n  from raw_rows\n  qualify row_number() over (\n    partition by {row_key(spec)}\n"
        "    order by source_file, source_line\n  ) = 1\n)"
    )


def row_key(spec: SourceSpec) -> str:
    """The day and the columns that name a row, as SQL; rows that agree in all of them are one."""
    return ", ".join(["batch_date", *(lateness.of_raw_row(spec, name) for name in spec.deduplicate_on)])
