"""Control totals: what a sender says its file holds, against what it holds.

Belongs here: totals over the rows of one file, and finding the promised ones in the records that are no rows. A file
whose totals differ, or that lacks the line with them, is refused: a part of it is missing, or it was changed.

`rows` counts the rows and the rejects of the file. Sums, extremes and counts of a column are taken over its rows;
exactly, but for DOUBLE and FLOAT columns, whose sum has to agree in the digits that the sender gives.
"""

from __future__ import annotations

from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources.reading.file_refused import FileRefused
from etl_project.sources.reading.rows.row_settings import TOTALS
from etl_project.sources.reading.rows.row_sql import RowSql
from etl_project.sources.reading.values.convert import Converter
from etl_project.sources.spec import SourceColumn, SourceSpec

_NUMBER = SourceColumn("total", "DECIMAL(38,9)")


class ControlTotals:
    """Adds up one file, and compares at its end."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._records = 0
        self._found: dict[str, object] = {}
        self._skipped: list[pa.Table] = []

    def see(self, rows: pa.Table, rejected: int, skipped: pa.Table) -> None:
        """Take in some rows of the file, the number of rejects among them, and the records that are no rows."""
        if not self._spec.rows.expect:
            return
        self._records += rows.num_rows + rejected
        self._skipped.append(skipped)
        for total in self._spec.rows.expect:
            kind = TOTALS.fullmatch(total)
            assert kind is not None, "checked when the source was made"
            if kind[1] is not None:
                self._found[total] = _added(kind[1], self._found.get(total), rows[kind[2]])

    def compare(self) -> None:
        """Raises FileRefused (retrying does not help) naming every total that differs or was not given."""
        if not self._spec.rows.expect:
            return
        skipped = pa.concat_tables(self._skipped)
        differences = [
            one for total, sql in self._spec.rows.expect.items() if (one := self._difference(total, sql, skipped))
        ]
        if differences:
            raise FileRefused(
                "control totals differ", "; ".join(differences), "what the sender says in its file (expect)"
            )

    def _difference(self, total: str, sql: str, skipped: pa.Table) -> str | None:
        given = _given(sql, skipped)
        if len(given) != 1:
            what = "does not say" if not given else f"says {' and '.join(map(repr, given))} for"
            return f"the file {what} its {total} ({sql}, in {skipped.num_rows} lines that are no rows)"
        found = self._records if total == "rows" else self._found.get(total)
        return None if self._agrees(total, found, given[0]) else f"{total} is {found}, the file says {given[0]}"

    def _agrees(self, total: str, found: object, given: str) -> bool:
        kind = TOTALS.fullmatch(total)
        assert kind is not None, "checked when the source was made"
        column = _NUMBER if kind[2] is None else self._spec.column(kind[2])
        settings = self._spec.column_values.get(column.name, self._spec.values)
        converter = Converter(ZoneInfo(self._spec.time_zone), {column.name: settings, _NUMBER.name: settings})
        if kind[1] in ("min", "max") and not _is_number(column.arrow):
            return bool(converter.column(pa.array([given]), column)[0].as_py() == found)
        said: Decimal | None = converter.column(pa.array([given.strip()]), _NUMBER)[0].as_py()
        if said is None or found is None:
            return said == 0 and kind[1] in ("sum", "count")
        if isinstance(found, float):
            digits = len(given.strip().partition(settings.decimal_separator)[2])
            return abs(Decimal(repr(found)) - said) <= Decimal(5).scaleb(-digits - 1)
        return bool(Decimal(str(found)) == said)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_floating(kind))


def _added(kind: str, before: object, column: pa.ChunkedArray) -> object:
    """The total of what was seen before and these values; Python's own numbers, so that nothing overflows."""
    values = column.drop_null()
    if kind == "count":
        return (before or 0) + len(values)  # type: ignore[operator]
    if not len(values):
        return before
    if kind == "sum":
        if pa.types.is_decimal(values.type):
            values = values.cast(pa.decimal256(76, values.type.scale))
        elif pa.types.is_integer(values.type):
            values = values.cast(pa.decimal256(76, 0) if pa.types.is_uint64(values.type) else pa.int64())
            values = values.cast(pa.decimal256(76, 0))
        total = pc.sum(values).as_py()
        return total if before is None else before + total
    found = (pc.min if kind == "min" else pc.max)(values).as_py()
    return found if before is None else (min if kind == "min" else max)(before, found)


def _given(sql: str, skipped: pa.Table) -> list[str]:
    """The different texts that the expression gives over the records that are no rows."""
    if not skipped.num_rows:
        return []
    [(_, values)] = RowSql().values(skipped, [f"CAST(({sql}) AS VARCHAR)"])
    return sorted(text for text in set(values.to_pylist()) if text)
