"""Row rules: what a typed row must satisfy beyond its types, so that one bad row never costs a day.

Belongs here: the columns that a source computes (a value that cannot be computed makes its row a reject), their
NOT NULL, the day of a computed event column, and the CHECKs of the contract. Does not belong here: what spans rows
(keys, see `twins`).

Rows that were stored before a rule existed are none of its business: the table itself holds its constraints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources import lateness
from etl_project.sources.reading.rows.row_settings import Computed
from etl_project.sources.reading.rows.row_sql import RowSql
from etl_project.sources.spec import SourceSpec


class Fault(NamedTuple):
    """A row that breaks a rule: its place among the rows, the first column at fault, and why."""

    at: int
    column: str | None
    reason: str


class RowRules:
    """The rules of one source. Costs nothing where there are none."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._computed = spec.rows.of_rows
        self._checks = spec.rows.checks
        self._sql = RowSql() if self._computed or self._checks else None

    def faults(self, rows: pa.Table, day: date | None) -> tuple[pa.Table, list[Fault]]:
        """The rows with their computed columns, and what is wrong with which of them, in their order."""
        if self._sql is None or not rows.num_rows:
            return rows, []
        found: list[Fault] = []
        expressions = [f"CAST(({one.sql}) AS {one.type})" for one in self._computed]
        for one, (failed, values) in zip(self._computed, self._of(rows, expressions), strict=True):
            found += self._of_computed(rows, one, failed, values, day)
            rows = rows.append_column(one.name, values)
        ill = {fault.at for fault in found}
        for check, (failed, holds) in zip(self._checks, self._of(self._placed(rows), list(self._checks)), strict=True):
            broken = pc.or_(failed, pc.fill_null(pc.invert(holds), False))
            found += (
                Fault(at, column, f"breaks CHECK ({check}){shown}")
                for at in pc.indices_nonzero(broken).to_pylist()
                if at not in ill
                for column, shown in [self._mentioned(rows, check, at)]
            )
        return rows, sorted(found, key=lambda fault: fault.at)

    def _of(self, rows: pa.Table, expressions: list[str]) -> list[tuple[pa.Array, pa.Array]]:
        return self._sql.values(rows, expressions) if self._sql is not None and expressions else []

    def _of_computed(
        self, rows: pa.Table, one: Computed, failed: pa.Array, values: pa.Array, day: date | None
    ) -> Iterator[Fault]:
        for at in pc.indices_nonzero(failed).to_pylist():
            yield Fault(
                at, one.name, f"{one.name}: {one.sql} gives no {one.type}{self._mentioned(rows, one.sql, at)[1]}"
            )
        if not one.nullable:
            for at in pc.indices_nonzero(pc.and_(values.is_null(), pc.invert(failed))).to_pylist():
                shown = self._mentioned(rows, one.sql, at)[1]
                yield Fault(at, one.name, f"{one.name}: {one.sql} gives NULL, and the column is NOT NULL{shown}")
        if one.name == (self._spec.event_column or self._spec.date_column):
            beyond = lateness.outside(values, self._spec, day)
            which = [] if beyond is None else pc.indices_nonzero(beyond.mask).to_pylist()
            yield from (Fault(at, one.name, beyond.why(at)) for at in which if beyond is not None)

    def _placed(self, rows: pa.Table) -> pa.Table:
        """The rows as they will stand in the table: under the day of their event."""
        event = self._spec.event_column
        if event is None:
            return rows
        at = rows.schema.get_field_index("batch_date")
        return rows.set_column(at, "batch_date", lateness.days_of(rows[event], self._spec))

    def _mentioned(self, rows: pa.Table, sql: str, at: int) -> tuple[str | None, str]:
        """The first column that the SQL names, and the values of all that it names, for a person."""
        words = set(re.findall(r"\w+", sql))
        named = [name for name in rows.column_names if name in words]
        values = ", ".join(f"{name} = {_short(rows[name][at].as_py())}" for name in named)
        return (named[0] if named else None), f" for {values}" if values else ""


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, str) else "NULL" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
