"""Column lineage in Dagster's events: of the query that ran, from the columns of the assets that it read."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from etl_project import utc
from etl_project.declare.daily_table import daily
from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager, Slice, Sql
from etl_project.storage.dagster import column_lineage

pytest.importorskip("sqlglot")

DAILY = daily(date(2024, 1, 1))
DAYS = [date(2024, 1, 1), date(2024, 1, 2)]
SCHEMA = pa.schema([("batch_date", pa.date32()), ("Item", pa.string()), ("units", pa.int64())])


@dg.asset(
    partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run(), io_manager_key="lake", key=["raw", "bought"]
)
def bought(context: dg.AssetExecutionContext) -> pa.Table:
    days = utc.days_of(context)
    return pa.table([days, ["a"] * len(days), [1] * len(days)], schema=SCHEMA)


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.single_run(),
    ins={"bought": dg.AssetIn(["raw", "bought"])},
    metadata={
        "dagster/column_schema": dg.TableSchema([dg.TableColumn(name) for name in ("batch_date", "Product", "units")])
    },
)
def typed(context: dg.AssetExecutionContext, bought: Slice) -> Sql:
    """Over a slice whose SQL was changed, and one that is no asset's."""
    days = utc.days_of(context)
    named = replace(
        bought,
        sql=f"SELECT * RENAME (Item AS product) FROM ({bought.sql}) WHERE batch_date BETWEEN $first AND $last",
        params={**bought.params, "first": days[0], "last": days[-1]},
    )
    calendar = Slice("SELECT unnest(generate_series($first, $last, interval 1 day))::DATE AS batch_date")
    return Sql("select * from calendar join named using (batch_date)", named=named, calendar=calendar)


@dg.asset(partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
def sales(typed: Slice) -> Sql:
    return Sql("select batch_date, sum(units) as units, count(*) as n from typed group by all", typed=typed)


@dg.asset(partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
def pivoted(typed: Slice) -> Sql:
    return Sql("select batch_date, columns('un.*') from typed", typed=typed)


@dg.asset(partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
def framed(typed: pa.Table) -> pa.Table:
    return typed


@dg.asset(partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
def said(context: dg.AssetExecutionContext, typed: Slice) -> Sql:
    """Says its lineage itself."""
    own = dg.TableColumnLineage({"units": [dg.TableColumnDep(dg.AssetKey("elsewhere"), "u")]})
    context.add_output_metadata({"dagster/column_lineage": own})
    return Sql("from typed", typed=typed)


@dg.asset(
    partitions_def=DAILY,
    metadata={"contract_sql": "CREATE TABLE balance (batch_date DATE, units BIGINT)"},
    ins={
        "balance": dg.AssetIn(partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)),
    },
)
def balance(context: dg.AssetExecutionContext, balance: Slice, sales: Slice) -> Sql:
    return Sql(
        "select s.batch_date, s.units + coalesce((select max(units) from balance), 0) as units from sales s",
        balance=balance,
        sales=sales,
    )


ASSETS = [bought, typed, sales, pivoted, framed, said]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def events(
    instance: dg.DagsterInstance, folder: Path, assets: list[Any], days: list[date], selected: list[Any] | None = None
) -> dict[tuple[str, str], Any]:
    """The lineage of each event of a run over these days: by asset and partition, None where there is none."""
    done = dg.materialize(
        assets,
        selection=selected,
        instance=instance,
        tags=utc.run_tags(days[0], days[-1]),
        resources={
            "io_manager": DuckDBPartitionIOManager(url=str(folder / "w.duckdb")),
            "lake": ParquetPartitionIOManager(root=str(folder / "lake")),
        },
    )
    assert done.success
    for made in (event.materialization for event in done.get_asset_materialization_events()):
        named = column_lineage.IN_WORDS in made.metadata
        assert named == ("dagster/column_lineage" in made.metadata and made.asset_key != said.key)
    return {
        (made.asset_key.to_user_string(), str(made.partition)): in_words(made.metadata.get("dagster/column_lineage"))
        for made in (event.materialization for event in done.get_asset_materialization_events())
    }


def in_words(found: Any) -> dict[str, list[str]] | None:
    if found is None:
        return None
    return {
        column: [f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps]
        for column, deps in found.value.deps_by_column.items()
    }


@pytest.mark.parametrize("days", [DAYS[:1], DAYS], ids=["single day", "range"])
def test_every_event_of_a_query_says_its_columns_and_one_that_cannot_be_followed_says_nothing(
    instance: dg.DagsterInstance, tmp_path: Path, days: list[date]
) -> None:
    for _ in range(2):
        found = events(instance, tmp_path, ASSETS, days)
        expected: dict[str, Any] = {
            "raw/bought": None,
            "typed": {
                "batch_date": ["raw/bought.batch_date"],
                "Product": ["raw/bought.Item"],
                "units": ["raw/bought.units"],
            },
            "sales": {"batch_date": ["typed.batch_date"], "units": ["typed.units"], "n": []},
            "pivoted": None,
            "framed": None,
            "said": {"units": ["elsewhere.u"]},
        }
        assert found == {(asset, str(day)): lineage for asset, lineage in expected.items() for day in days}


def test_the_same_is_said_as_a_table_for_people() -> None:
    deps = [dg.TableColumnDep(dg.AssetKey(["raw", "bought"]), name) for name in ("units", "a|b")]
    told = column_lineage.in_words(dg.TableColumnLineage({"revenue": deps, "n": []}))
    assert told.splitlines()[2:] == [r"| revenue | raw/bought.a\|b, raw/bought.units |", "| n | no column |"]


def test_what_an_asset_reads_of_its_own_earlier_days_is_no_edge(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    events(instance, tmp_path, ASSETS, DAYS)
    for day in DAYS:
        found = events(instance, tmp_path, [*ASSETS, balance], [day], [balance])
        assert found == {("balance", str(day)): {"batch_date": ["sales.batch_date"], "units": ["sales.units"]}}


def test_the_log_of_the_run_says_why_nothing_is_shown(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    events(instance, tmp_path, ASSETS, DAYS)
    [run] = instance.get_runs()
    told = [one.user_message for one in instance.all_logs(run.run_id) if one.level == 10]
    assert [line for line in told if "lineage" in line] == [
        "No column lineage of pivoted is shown: its query has COLUMNS(...)."
    ]
