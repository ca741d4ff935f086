"""Contracts: what a `contract.sql` says, as data.

A contract is plain DDL. It is read by running it in an empty in-memory DuckDB, so that there is no second opinion on
what it means. Does not belong here: creating tables from it in a warehouse (`storage`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache  # noqa: TID251
from pathlib import Path
from types import MappingProxyType

import dagster as dg
import duckdb

from etl_project.failures import Permanent
from etl_project.storage import contract_sql


class ContractError(Permanent):
    """A contract cannot be used. The message names the file and what to change in it."""


@dataclass(frozen=True)
class ContractColumn:
    """One column: `type` as DuckDB prints it, like `DECIMAL(12,3)` or `TIMESTAMP WITH TIME ZONE`."""

    name: str
    type: str
    nullable: bool
    comment: str | None


@dataclass(frozen=True)
class TableContract:
    """One table of a contract and the DDL script it comes from.

    `checks`: the conditions of its CHECK constraints; `keys`: the columns of its primary key and UNIQUE constraints.
    """

    name: str
    comment: str | None
    columns: tuple[ContractColumn, ...]
    sql: str
    checks: tuple[str, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()

    def column_schema(self) -> dg.TableSchema:
        """The columns as Dagster shows them beside the asset."""
        return dg.TableSchema(
            columns=[
                dg.TableColumn(
                    column.name,
                    column.type,
                    description=column.comment,
                    constraints=dg.TableColumnConstraints(nullable=column.nullable),
                )
                for column in self.columns
            ]
        )


def read(path: Path) -> Mapping[str, TableContract]:
    """The tables of a contract file by name. Raises ContractError (retrying does not help) with DuckDB's own words."""
    try:
        script = path.read_text(encoding="utf-8")
        if problem := contract_sql.problem_of(script):
            raise ContractError(f"{path}: this contract cannot be used: {problem}.")
        return parse(script)
    except (OSError, duckdb.Error) as error:
        raise ContractError(f"{path}: this contract cannot be used: {error}") from error


# The answer follows from the text alone; every asset of a pipeline asks for it, and each time costs a database.
@lru_cache(maxsize=64)
def parse(sql: str) -> Mapping[str, TableContract]:
    """The tables that a DDL script creates, by name. Raises duckdb.Error where the script is wrong."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(sql)
        tables = connection.execute("select table_name, comment from duckdb_tables()").fetchall()
        columns = connection.execute(
            "select table_name, column_name, data_type, is_nullable, comment from duckdb_columns() "
            "where not internal order by table_name, column_index"
        ).fetchall()
        constraints = connection.execute(
            "select table_name, constraint_type, expression, constraint_column_names from duckdb_constraints() "
            "order by constraint_index"
        ).fetchall()
    found = {
        table: TableContract(
            table,
            comment,
            tuple(
                ContractColumn(name, kind, nullable, note)
                for owner, name, kind, nullable, note in columns
                if owner == table
            ),
            sql,
            tuple(condition for owner, kind, condition, _ in constraints if owner == table and kind == "CHECK"),
            tuple(
                tuple(names)
                for wanted in ("PRIMARY KEY", "UNIQUE")
                for owner, kind, _, names in constraints
                if owner == table and kind == wanted
            ),
        )
        for table, comment in tables
    }
    return MappingProxyType(found)
