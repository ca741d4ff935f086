"""The words of `defs.yaml` that say which records are rows, and which rows may stand beside each other.

Belongs here: the YAML's own shape. What the settings mean, and what is wrong with them, says `row_settings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import dagster as dg
from pydantic import Field

from etl_project.declare.contracts import TableContract
from etl_project.sources.reading.rows import row_sql
from etl_project.sources.reading.rows.row_settings import Computed, RowSettings
from etl_project.sources.reading.rows.skipping import LINE, TEXT


class UnusableSql(ValueError):
    """An expression of a source cannot be used; the message names its key and gives DuckDB's words."""


class RowWords(dg.Model):
    """Which records of a file are rows."""

    skip_rows_where: str | None = Field(
        default=None,
        description="SQL over the texts of a record (columns of the table, raw_text, source_line): true for no row.",
    )
    footer_lines: int = Field(default=0, description="So many records at the end of a file are no rows.")
    expect: Mapping[str, str] = Field(
        default={},
        description="Total (rows; sum, min, max, count of a column): SQL over a skipped record that gives it.",
    )
    on_duplicate_key: Literal["reject", "first", "last"] | None = Field(
        default=None, description="Of rows that share a key of the contract: reject all, or keep the first or last."
    )
    repeated_hour_by: Sequence[str] | None = Field(
        default=None,
        description="Columns that tell series of times apart (`repeated_hour: in_file_order`); the rest of the key.",
    )

    def row_settings(self, contract: TableContract, filled: Sequence[str], computed: Mapping[str, str]) -> RowSettings:
        """The settings with the rules of the contract. `filled`: the columns of the table that files fill.

        Raises UnusableSql for an expression that DuckDB does not take.
        """
        types = {column.name: column.type for column in contract.columns}
        raw = {name: types[name] for name in filled}
        raw |= {"batch_date": "DATE", "source_file": "VARCHAR", LINE: "BIGINT"}
        columns = tuple(
            Computed(
                column.name, column.type, column.nullable, computed[column.name], _of_one_row(column.type, sql, raw)
            )
            for column in contract.columns
            if (sql := computed.get(column.name)) is not None
        )
        texts = {**dict.fromkeys(filled, "VARCHAR"), TEXT: "VARCHAR", LINE: "BIGINT"}
        expressions = [(f"computed.{one.name}", one.sql, raw) for one in columns]
        if self.skip_rows_where is not None:
            expressions.append(("skip_rows_where", f"CAST(({self.skip_rows_where}) AS BOOLEAN)", texts))
        expressions += [(f"expect.{total}", sql, texts) for total, sql in self.expect.items()]
        wrong = [
            f"{key}: {why}" for key, sql, over in expressions if (why := row_sql.why_unusable(sql, over)) is not None
        ]
        if wrong:
            raise UnusableSql("; ".join(wrong))
        known = raw | {one.name: one.type for one in columns if one.of_one_row}
        return RowSettings(
            computed=columns,
            checks=tuple(check for check in contract.checks if row_sql.is_of_one_row(check, known)),
            keys=contract.keys,
            skip_rows_where=self.skip_rows_where,
            footer_lines=self.footer_lines,
            expect=dict(self.expect),
            on_duplicate_key=self.on_duplicate_key,
            repeated_hour_by=None if self.repeated_hour_by is None else tuple(self.repeated_hour_by),
        )


def _of_one_row(kind: str, sql: str, raw: Mapping[str, str]) -> bool:
    return row_sql.is_of_one_row(f"CAST(({sql}) AS {kind})", raw)
