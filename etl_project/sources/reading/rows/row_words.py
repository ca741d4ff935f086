"""The words of `defs.yaml` that say which records are rows, and which rows may stand beside each other.

Belongs here: the YAML's own shape. What the settings mean, and what is wrong with them, says `row_settings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import dagster as dg
from pydantic import Field

from etl_project.declare import TableContract
from etl_project.sources.reading.rows.row_settings import Computed, RowSettings
from etl_project.sources.reading.rows.row_sql import Trial
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
        own = {name: sql for name, sql in computed.items() if name in {column.name for column in contract.columns}}
        columns: tuple[Computed, ...] = ()
        checks: tuple[str, ...] = ()
        if own or contract.checks or self.skip_rows_where is not None or self.expect:
            with Trial() as trial:
                columns, checks = self._tried(trial, contract, filled, own)
        return RowSettings(
            computed=columns,
            checks=checks,
            keys=contract.keys,
            skip_rows_where=self.skip_rows_where,
            footer_lines=self.footer_lines,
            expect=dict(self.expect),
            on_duplicate_key=self.on_duplicate_key,
            repeated_hour_by=None if self.repeated_hour_by is None else tuple(self.repeated_hour_by),
        )

    def _tried(
        self, trial: Trial, contract: TableContract, filled: Sequence[str], computed: Mapping[str, str]
    ) -> tuple[tuple[Computed, ...], tuple[str, ...]]:
        """The computed columns and those checks of the contract that a single row can break."""
        types = {column.name: column.type for column in contract.columns}
        raw = {name: types[name] for name in filled}
        raw |= {"batch_date": "DATE", "source_file": "VARCHAR", LINE: "BIGINT"}
        texts = {**dict.fromkeys(filled, "VARCHAR"), TEXT: "VARCHAR", LINE: "BIGINT"}
        expressions = [(f"computed.{name}", sql, raw) for name, sql in computed.items()]
        if self.skip_rows_where is not None:
            expressions.append(("skip_rows_where", f"CAST(({self.skip_rows_where}) AS BOOLEAN)", texts))
        expressions += [(f"expect.{total}", sql, texts) for total, sql in self.expect.items()]
        tried = ((key, trial.over(columns).why_unusable(sql)) for key, sql, columns in expressions)
        wrong = [f"{key}: {why}" for key, why in tried if why is not None]
        if wrong:
            raise UnusableSql("; ".join(wrong))
        over_raw = trial.over(raw)
        columns = tuple(
            Computed(one.name, one.type, one.nullable, sql, over_raw.is_of_one_row(f"CAST(({sql}) AS {one.type})"))
            for one in contract.columns
            if (sql := computed.get(one.name)) is not None
        )
        over_all = trial.over(raw | {one.name: one.type for one in columns if one.of_one_row})
        return columns, tuple(check for check in contract.checks if over_all.is_of_one_row(check))
