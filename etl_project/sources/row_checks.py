"""Row checks: the asset checks that a source declares in its `defs.yaml`, one result for each day.

Belongs here: the SQL that counts what is wrong, day by day, and the Dagster checks around it. The words of the YAML are
`check_words`'s. Values of the YAML are bound, never written into the SQL.
"""

# No `from __future__ import annotations` here: Dagster reads the annotations of a check as they stand.

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource

from etl_project import utc
from etl_project.declare import by_partition, contracts, daily_partitions
from etl_project.sources.check_words import CheckWords, refuse_unusable
from etl_project.sources.spec import SourceSpec, SpecError
from etl_project.storage import has_table, quote

_SHOWN = 3


def checks(
    spec: SourceSpec, contract: contracts.TableContract, declared: Sequence[CheckWords]
) -> list[dg.AssetChecksDefinition]:
    """The checks of the typed table. Raises SpecError (retrying does not help) for one that cannot be made."""
    refuse_unusable(declared, {column.name for column in contract.columns})
    found = [_Looked(spec.name, one, {c.name: c.type for c in contract.columns}) for one in declared]
    return [_asset_check(one) for one in found if one.words.check != "freshness"]


def freshness_policy(declared: Sequence[CheckWords]) -> dg.FreshnessPolicy | None:
    """The policy that the typed table has for it: Dagster looks at it all the time, be anything built or not."""
    for one in declared:
        if one.check == "freshness" and one.within_hours is not None:
            return dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=one.within_hours))
    return None


class _Looked:
    """One declared check over the rows of a table."""

    def __init__(self, table: str, words: CheckWords, types: Mapping[str, str]) -> None:
        self.table = table
        self.words = words
        self._types = types
        self._try()

    def days(self, connection: duckdb.DuckDBPyConnection) -> list[date]:
        """All days that the table has, for a run of the check alone."""
        query = f"SELECT DISTINCT batch_date FROM {quote(self.table)} ORDER BY 1"
        return [day for (day,) in connection.execute(query).fetchall()]

    def of_days(self, connection: duckdb.DuckDBPyConnection, days: Sequence[date]) -> dict[date, dg.AssetCheckResult]:
        """The result for each of these days."""
        sql, values = self._query()
        counted = connection.execute(sql, {**values, "first": min(days), "last": max(days)}).fetchall()
        found = {day: (rows, bad, examples) for day, rows, bad, examples in counted}
        return {day: self._result(*found.get(day, (0, 0, None))) for day in days}

    def in_words(self) -> str:
        """What it holds the rows to."""
        words = self.words
        of = ", ".join(words.columns)
        limits = " and ".join(
            part
            for part in (
                "" if words.min is None else f"at least {words.min}",
                "" if words.max is None else f"at most {words.max}",
            )
            if part
        )
        return {
            "not_null": f"No row of the day has NULL in {of}.",
            "unique": f"No two rows of the day share {of}.",
            "accepted_values": f"{of} of every row is one of {', '.join(map(str, words.values))}, or NULL.",
            "accepted_range": f"{of} of every row is {limits}, or NULL.",
            "row_count": f"The day has {limits} rows.",
        }[words.check]

    def _result(self, rows: int, bad: int, examples: Sequence[Any] | None) -> dg.AssetCheckResult:
        words = self.words
        if words.check == "row_count":
            passed = (words.min is None or rows >= words.min) and (words.max is None or rows <= words.max)
            told = f"{rows} rows"
        else:
            passed = not bad
            shown = ", ".join(str(one) for one in examples or ())
            told = f"{bad} of {rows} rows" + (f", for example {shown}" if shown else "")
        return dg.AssetCheckResult(
            passed=passed,
            severity=dg.AssetCheckSeverity.ERROR if words.severity == "error" else dg.AssetCheckSeverity.WARN,
            description=None if passed else f"{self.in_words()} Found: {told}.",
            metadata={"rows": rows, "rows at fault": bad},
        )

    def _query(self) -> tuple[str, dict[str, Any]]:
        """Day, rows, rows at fault and some examples of them."""
        condition, values = self._at_fault()
        columns = [quote(name) for name in self.words.columns]
        example = " || ' | ' || ".join(f"coalesce({one}::VARCHAR, 'NULL')" for one in columns) or "NULL"
        name = quote(self.table)
        rows = f"SELECT *, {condition} AS etl_at_fault FROM {name} WHERE batch_date BETWEEN $first AND $last"
        return (
            "SELECT batch_date, count(*), count(*) FILTER (etl_at_fault), "
            f"(list(DISTINCT {example}) FILTER (etl_at_fault))[:{_SHOWN}] FROM ({rows}) GROUP BY 1",
            values,
        )

    def _at_fault(self) -> tuple[str, dict[str, Any]]:
        """SQL that is true for a row at fault, with the values that it binds."""
        words, columns = self.words, [quote(name) for name in self.words.columns]
        if words.check == "not_null":
            return " OR ".join(f"{one} IS NULL" for one in columns), {}
        if words.check == "unique":
            given = " AND ".join(f"{one} IS NOT NULL" for one in columns)
            return f"({given}) AND count(*) OVER (PARTITION BY batch_date, {', '.join(columns)}) > 1", {}
        if words.check == "accepted_values":
            return " OR ".join(
                f"{one} NOT IN (SELECT unnest($accepted::VARCHAR[])::{self._types[name]})"
                for one, name in zip(columns, words.columns, strict=True)
            ), {"accepted": [_as_text(value) for value in words.values]}
        if words.check == "accepted_range":
            limits = {"least": words.min, "most": words.max}
            tests = [
                f"{one} {'<' if which == 'least' else '>'} ${which}::VARCHAR::{self._types[name]}"
                for one, name in zip(columns, words.columns, strict=True)
                for which, limit in limits.items()
                if limit is not None
            ]
            return " OR ".join(tests), {w: _as_text(limit) for w, limit in limits.items() if limit is not None}
        return "false", {}

    def _try(self) -> None:
        """A limit that is no value of its column is found when the source is loaded. Raises SpecError."""
        if self.words.check == "freshness":
            return
        limits = [one for one in (self.words.min, self.words.max) if isinstance(one, int | float)]
        for name in self.words.columns if self.words.check == "accepted_range" and limits else ():
            if self._types[name] == "VARCHAR":
                raise SpecError(
                    f"checks: {self.words.called} has the number {limits[0]} as a limit of {name}, which is text, "
                    f"where 9 is more than 10; give {name} a type of numbers in contract.sql, or write text, like "
                    "min: 'A'"
                )
        columns = ", ".join(f"{quote(name)} {kind}" for name, kind in self._types.items())
        with duckdb.connect(":memory:") as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"CREATE TABLE {quote(self.table)} ({columns})")
            defaults = ", ".join(
                ["DATE '2000-01-01'", *(f"NULL::{k}" for n, k in self._types.items() if n != "batch_date")]
            )
            names = ", ".join(["batch_date", *(quote(n) for n in self._types if n != "batch_date")])
            connection.execute(f"INSERT INTO {quote(self.table)} ({names}) SELECT {defaults}")
            try:
                self.of_days(connection, [date(2000, 1, 1)])
                for name in self.words.columns:
                    for limit in (*self.words.values, self.words.min, self.words.max):
                        value = None if limit is None else _as_text(limit)
                        connection.execute(f"SELECT ?::VARCHAR::{self._types[name]}", [value]).fetchall()
            except duckdb.Error as error:
                what = str(error).splitlines()[0]
                raise SpecError(f"checks: {self.words.called} cannot be computed: {what}") from error


def _as_text(value: Any) -> str:
    """A value of the YAML as text that DuckDB reads as the column's type."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _asset_check(looked: _Looked) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=looked.table,
        name=looked.words.called,
        description=looked.in_words(),
        blocking=looked.words.blocking,
        partitions_def=daily_partitions(),
    )
    def check(context: dg.AssetCheckExecutionContext, duckdb: DuckDBResource) -> dg.AssetCheckResult:
        days = utc.days_of_run(context.run.tags)
        with duckdb.get_connection() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            there = has_table(connection, looked.table)
            wanted = list(utc.days_between(*days)) if days else looked.days(connection) if there else []
            found = looked.of_days(connection, wanted) if there and wanted else {}
        return by_partition(context, {day.isoformat(): result for day, result in found.items()})

    return check
