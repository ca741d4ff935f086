"""Daily assets: `dg.asset` with this project's defaults, so that a pipeline says only what is its own.

Belongs here: the decorator and what it derives from the pipeline's folder (contract, schema, code version). Every
argument of `dg.asset` can still be given and wins.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from etl_project import settings
from etl_project.declare import code_version, contracts

WAREHOUSE = "warehouse"
"""Key of the IO manager whose partitions are rows of a DuckDB table."""
LAKE = "lake"
"""Key of the IO manager whose partitions are Parquet files."""


_FIRST_DAY: ContextVar[date | None] = ContextVar("first_day", default=None)
"""Of the project that is being loaded: an `assets.py` is imported by then, and takes no argument."""


def daily_partitions() -> dg.DailyPartitionsDefinition:
    """The days every asset of this project has: from the first day of the project on, today included."""
    return daily(_FIRST_DAY.get() or settings.start_date())


@contextmanager
def days_from(first: date) -> Iterator[None]:
    """Let the assets that are declared in the block have the days from this one on."""
    token = _FIRST_DAY.set(first)
    try:
        yield
    finally:
        _FIRST_DAY.reset(token)


def daily(start: date) -> dg.DailyPartitionsDefinition:
    """Every UTC day from `start` on, today included: today's files need not wait for midnight."""
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)


def single_run() -> dg.BackfillPolicy:
    """A backfill over many days is one run: one transaction a table instead of one a day."""
    return dg.BackfillPolicy.single_run()


def daily_table(
    folder: Path, *, contract: contracts.TableContract | None = None, **options: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare a daily asset stored as rows of the warehouse table of the same name.

    `folder` is the pipeline's folder: its name is the group, and its `contract.sql` says what a row is, unless a
    `contract` is given.
    """

    def decorate(function: Callable[..., Any]) -> dg.AssetsDefinition:
        name = options.get("name") or function.__name__
        rows = contract or table_contract(folder, name)
        declared: dict[str, Any] = {
            "name": name,
            "partitions_def": daily_partitions(),
            "backfill_policy": single_run(),
            "io_manager_key": WAREHOUSE,
            "group_name": folder.name,
            "code_version": code_version.of_function(function, folder),
            "description": inspect.getdoc(function) or rows.comment,
            **options,
            "kinds": {"duckdb", *options.get("kinds", ())},
            "metadata": {**contract_metadata(rows), **options.get("metadata", {})},
        }
        asset: dg.AssetsDefinition = dg.asset(**declared)(function)
        return asset

    return decorate


def table_contract(folder: Path, table: str) -> contracts.TableContract:
    """The table of this name in the `contract.sql` of the folder. Raises ContractError where it is not there."""
    tables = contracts.read(folder / "contract.sql")
    if table not in tables:
        raise contracts.ContractError(
            f"{folder / 'contract.sql'} has no CREATE TABLE {table}; it has {', '.join(sorted(tables)) or 'no table'}."
        )
    return tables[table]


def contract_metadata(contract: contracts.TableContract) -> dict[str, Any]:
    """What the IO manager and the UI need to know of a table: its contract and its columns."""
    return {
        "partition_column": "batch_date",
        "contract_sql": contract.sql,
        "dagster/column_schema": contract.column_schema(),
    }
