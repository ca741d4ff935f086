"""What rows were made of where they cannot be followed one by one: which days, and why not."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from etl_project import utc
from etl_project.cli.explain import _told
from etl_project.declare.daily_table import daily
from etl_project.proofs import explain, stored_assets
from etl_project.storage import DuckDBPartitionIOManager, Slice, Sql

DAILY = daily(date(2024, 1, 1))
DAYS = [date(2024, 1, 1) + timedelta(days=n) for n in range(3)]


@dg.asset(partitions_def=DAILY)
def moves(context: dg.AssetExecutionContext) -> pd.DataFrame:
    [day] = utc.days_of(context)
    return pd.DataFrame({"batch_date": [day, day], "account": ["a", "b"], "amount": [1, 2]})


@dg.asset(
    partitions_def=DAILY,
    metadata={"contract_sql": "CREATE TABLE balance (batch_date DATE, account VARCHAR, amount HUGEINT)"},
    ins={
        "before": dg.AssetIn("balance", partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1))
    },
)
def balance(moves: Slice, before: Slice) -> Sql:
    return Sql(
        "select m.batch_date, account, m.amount + coalesce(b.amount, 0) as amount "
        "from moves m left join before b using (account)",
        moves=moves,
        before=before,
    )


@dg.asset(
    partitions_def=DAILY,
    ins={"moves": dg.AssetIn(partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=0))},
)
def weekly(moves: pd.DataFrame) -> pd.DataFrame:
    """No SQL, over two days."""
    return moves.groupby("account", as_index=False).agg({"batch_date": "max", "amount": "sum"})


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.Definitions]:
    folder: Path = tmp_path_factory.mktemp("explain")
    manager = DuckDBPartitionIOManager(url=str(folder / "w.duckdb"))
    with dg.DagsterInstance.ephemeral() as instance:
        for day in DAYS:
            tags = utc.run_tags(day, day)
            resources = {"io_manager": manager}
            assert dg.materialize([moves, balance, weekly], resources=resources, instance=instance, tags=tags).success
    yield dg.Definitions(assets=[moves, balance, weekly], resources={"io_manager": manager})


def test_rows_of_an_assets_own_earlier_day_are_shown_and_not_followed_to_the_first_day(defs: dg.Definitions) -> None:
    pytest.importorskip("sqlglot")
    targets = {one.asset: one for one in stored_assets(defs)}
    found = explain(defs, targets.values(), targets["balance"], str(DAYS[2]), "account = 'b'")
    inputs = {one.asset: one for one in found.inputs}
    assert {name: (one.partitions, one.rows, one.of_rows, one.by) for name, one in inputs.items()} == {
        "balance": ((str(DAYS[1]),), 1, 2, ("account",)),
        "moves": ((str(DAYS[2]),), 1, 2, ("account",)),
    }
    assert inputs["balance"].own and inputs["balance"].inputs == () and not inputs["moves"].own
    assert inputs["balance"].commits[str(DAYS[1])].rows == 2
    assert sum("its own earlier rows" in line for line in _told(found, 0)) == 1


def test_of_an_asset_that_is_no_sql_all_rows_of_all_days_that_it_reads_are_shown(defs: dg.Definitions) -> None:
    targets = {one.asset: one for one in stored_assets(defs)}
    found = explain(defs, targets.values(), targets["weekly"], str(DAYS[2]), "account = 'b'")
    [read] = found.inputs
    assert (read.partitions, read.rows, read.of_rows, read.by) == ((str(DAYS[1]), str(DAYS[2])), 4, 4, ())
    assert read.why_all == "it is not written as SQL, so its rows cannot be followed"
    assert {*read.commits} == {str(DAYS[1]), str(DAYS[2])}
