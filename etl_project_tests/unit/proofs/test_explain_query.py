"""The query of an asset, as `etl explain` gets it: from the asset's own code, without a run, or not at all."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from dataclasses import replace

import dagster as dg
import duckdb
import pandas as pd
import pytest

from etl_project.proofs.explain import query_of, rows_behind
from etl_project.storage import NotFollowed, Slice, Sql

QUERY = "select code, sum(units) as units from bought group by code"


@dg.asset
def sales(orders: Slice) -> Sql:
    return Sql(QUERY, bought=orders)


@dg.asset
def of_the_run(context: dg.AssetExecutionContext, orders: Slice) -> Sql:
    return Sql(f"select '{context.run_id}' as run from orders", orders=orders)


@dg.asset
def looks_into(orders: Slice) -> Sql:
    return Sql(f"select '{orders.reads[0]}' as first from orders", orders=orders)


@dg.asset
def changes(orders: Slice) -> Sql:
    later = replace(orders, sql=f"SELECT * FROM ({orders.sql}) WHERE units > 1")
    return Sql("select a.code from bought a join later b using (code)", bought=orders, later=later)


@dg.asset
def frame(orders: pd.DataFrame) -> pd.DataFrame:
    return orders


def asked(asset: dg.AssetsDefinition) -> tuple[str, dict[str, str]]:
    return query_of(asset, next(iter(asset.specs)))


def test_a_function_of_slices_is_asked_for_its_query_and_the_assets_behind_its_tables() -> None:
    assert asked(sales) == (QUERY, {"bought": "orders"})


@pytest.mark.parametrize(
    ("asset", "why"),
    [
        (of_the_run, "depends on the run"),
        (looks_into, "without a run"),
        (changes, "changes the SQL"),
        (frame, "not written as SQL"),
    ],
)
def test_an_asset_whose_query_is_not_there_without_a_run_is_not_followed(asset: dg.AssetsDefinition, why: str) -> None:
    with pytest.raises(NotFollowed, match=why):
        asked(asset)


def test_what_is_behind_the_rows_is_looked_up_reading_by_reading_and_never_row_against_row() -> None:
    """A table of a million rows that is read twice would else take hours."""
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE sold AS SELECT * FROM (VALUES (1, 'a'), (2, 'b'), (3, 'c'), (NULL, 'd')) t(n, code)"
        )
        connection.execute(
            "CREATE TABLE shown AS SELECT * FROM (VALUES (2, 'b', 1), (NULL, 'd', NULL)) t(n, code, before)"
        )
        query = rows_behind("shown", "sold", [[("n", "n"), ("code", "code")], [("before", "n")]])
        found = connection.execute(query).fetchall()
        assert sorted(found, key=str) == [(1, "a"), (2, "b"), (None, "d")]
        [[_, plan]] = connection.execute(f"EXPLAIN {query}").fetchall()
    assert "HASH_JOIN" in plan and "NL_JOIN" not in plan and "NESTED_LOOP" not in plan
