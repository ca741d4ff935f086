"""What dagster-duckdb and its like promise in their own tests holds here, and what the page for those who come from
them says is so: docs/coming-from-others.md.

Each case is one that their published suites have, in our words: a downstream asset, columns, schemas, each kind of
partitions written twice and read back, a mapping, an asset that reads itself, what exists already.
"""

# No `from __future__ import annotations` here: Dagster reads annotations as they stand.

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager
from etl_project.storage.dagster.io_manager import PartitionIOManager

DAILY = dg.DailyPartitionsDefinition("2024-03-01", end_date="2024-03-04")
KEYS = DAILY.get_partition_keys()
COLOURS = dg.StaticPartitionsDefinition(["red", "yellow", "blue"])

Run = Callable[..., dg.ExecuteInProcessResult]
FRAMES: dict[str, Any] = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.table}


@pytest.fixture(params=["duckdb", "parquet"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> PartitionIOManager:
    if request.param == "duckdb":
        return DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"), schema="my_schema")
    return ParquetPartitionIOManager(root=str(tmp_path / "lake"))


@pytest.fixture
def run(manager: PartitionIOManager) -> Run:
    def materialize(*assets: Any, **options: Any) -> dg.ExecuteInProcessResult:
        return dg.materialize(list(assets), resources={"io_manager": manager}, **options)

    return materialize


def rows(manager: PartitionIOManager, asset: Any, by: str, *others: Any) -> list[tuple[Any, ...]]:
    """Everything that is stored of an asset."""
    found = dg.Definitions(assets=[asset, *others], resources={"io_manager": manager}).load_asset_value(asset.key)
    return sorted(found[[by, "n"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("library", FRAMES)
def test_a_downstream_asset_reads_what_the_upstream_one_returned_in_each_library(run: Run, library: str) -> None:
    make, kind = FRAMES[library], type(FRAMES[library]({"n": [1]}))
    seen: list[Any] = []

    @dg.asset(key_prefix=["my_schema"])
    def made():  # type: ignore[no-untyped-def]
        return make({"n": [1, 2, 3], "quarter": ["a", "b", "c"]})

    @dg.asset(key_prefix=["my_schema"])
    def read(made: kind):  # type: ignore[no-untyped-def,valid-type]
        seen.append(made)
        return made

    @dg.asset(key_prefix=["my_schema"], ins={"made": dg.AssetIn(key_prefix=["my_schema"], metadata=ONE)})
    def narrow(made: kind):  # type: ignore[no-untyped-def,valid-type]
        seen.append(made)
        return made

    for _ in range(2):
        assert run(made, read, narrow).success
    assert [type(each) for each in seen] == [kind] * 4
    names = [list(each.column_names if kind is pa.Table else each.columns) for each in seen]
    assert sorted(names, key=len) == [["n"], ["n"], ["n", "quarter"], ["n", "quarter"]]


ONE = {"columns": ["n"]}


def test_the_schema_is_the_assets_then_the_io_managers_then_the_prefixs(tmp_path: Path) -> None:
    """As there, but that an IO manager's schema and one of an asset's metadata do not exclude each other."""
    url = str(tmp_path / "w.duckdb")

    def asset(name: str, **options: Any) -> dg.AssetsDefinition:
        @dg.asset(name=name, **options)
        def body() -> pd.DataFrame:
            return pd.DataFrame({"n": [1]})

        return body

    plain = DuckDBPartitionIOManager(url=url)
    named = DuckDBPartitionIOManager(url=url, schema="by_manager")
    own = asset("own", metadata={"schema": "by_asset"})
    assert dg.materialize([asset("prefixed", key_prefix=["a", "b"]), asset("bare")], resources={"io_manager": plain})
    assert dg.materialize([asset("managed"), own], resources={"io_manager": named}).success
    with duckdb.connect(url) as connection:
        found = connection.execute(
            "SELECT table_name, schema_name FROM duckdb_tables() WHERE table_name NOT LIKE 'etl_%'"
        )
        assert dict(found.fetchall()) == {
            "prefixed": "b",
            "bare": "main",
            "managed": "by_manager",
            "own": "by_asset",
        }


def test_daily_partitions_are_replaced_one_by_one(run: Run, manager: PartitionIOManager) -> None:
    turn = {"value": 1}

    @dg.asset(partitions_def=DAILY, metadata={"partition_column": "time"})
    def daily(context: dg.AssetExecutionContext) -> pd.DataFrame:
        return pd.DataFrame({"time": [pd.Timestamp(context.partition_key)] * 2, "n": [turn["value"], 0]})

    for turn["value"], key in ((1, KEYS[0]), (2, KEYS[1]), (3, KEYS[0]), (3, KEYS[0])):
        assert run(daily, partition_key=key).success
    first, second = map(pd.Timestamp, KEYS[:2])
    assert rows(manager, daily, "time") == [(first, 0), (first, 3), (second, 0), (second, 2)]


def test_static_partitions_and_a_mapping_to_all_of_them(run: Run, manager: PartitionIOManager) -> None:
    @dg.asset(partitions_def=COLOURS, metadata={"partition_column": "colour"})
    def static(context: dg.AssetExecutionContext) -> pd.DataFrame:
        return pd.DataFrame({"colour": context.partition_key, "n": [1, 2]})

    @dg.asset
    def together(static: pd.DataFrame) -> pd.DataFrame:
        return static.groupby("colour", as_index=False)["n"].sum()

    for key in ("red", "yellow", "blue", "red"):
        assert run(static, partition_key=key).success
    assert run(together, static, selection=[together]).success
    assert rows(manager, together, "colour", static) == [("blue", 3), ("red", 3), ("yellow", 3)]


def test_a_frame_a_partition_is_none_where_one_was_never_built(run: Run) -> None:
    seen: list[dict[str, pl.DataFrame | None]] = []

    @dg.asset(partitions_def=COLOURS, metadata={"partition_column": "colour"})
    def static(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"colour": [context.partition_key], "n": [1]})

    @dg.asset
    def together(static: dict[str, pl.DataFrame | None]) -> None:
        seen.append(static)

    assert run(static, partition_key="red").success
    assert run(together, static, selection=[together]).success
    assert {key: None if rows is None else rows["n"].to_list() for key, rows in seen[0].items()} == {
        "red": [1],
        "yellow": None,
        "blue": None,
    }


def test_days_of_colours_are_one_column_a_dimension(run: Run, manager: PartitionIOManager) -> None:
    cells = dg.MultiPartitionsDefinition({"time": DAILY, "colour": COLOURS})

    @dg.asset(partitions_def=cells, metadata={"partition_columns": {"time": "time", "colour": "colour"}})
    def multi(context: dg.AssetExecutionContext) -> pd.DataFrame:
        key = context.partition_key.keys_by_dimension  # type: ignore[attr-defined]
        return pd.DataFrame({"time": pd.Timestamp(key["time"]), "colour": key["colour"], "n": [1]})

    wanted = [dg.MultiPartitionKey({"time": KEYS[n], "colour": colour}) for n, colour in ((0, "red"), (0, "blue"))]
    for key in (*wanted, wanted[0]):
        assert run(multi, partition_key=key).success
    assert rows(manager, multi, "colour") == [("blue", 1), ("red", 1)]


FRUITS = dg.DynamicPartitionsDefinition(name="fruits")
MOMENT, TEXT = pl.Datetime("us"), pl.String
EACH_KIND: dict[str, tuple[dg.PartitionsDefinition[Any], dict[str, str], dict[str, Any], list[Any]]] = {
    "days": (DAILY, {"time": "%Y-%m-%d"}, {"time": MOMENT}, KEYS[:2]),
    "days as dates": (DAILY, {"time": "%Y-%m-%d"}, {"time": pl.Date}, KEYS[:2]),
    "hours": (
        dg.HourlyPartitionsDefinition("2024-03-01-00:00"),
        {"time": "%Y-%m-%d-%H:%M"},
        {"time": MOMENT},
        ["2024-03-01-01:00", "2024-03-01-02:00"],
    ),
    "fixed keys": (COLOURS, {}, {"colour": TEXT}, ["red", "blue"]),
    "dynamic keys": (FRUITS, {}, {"fruit": TEXT}, ["apple", "orange"]),
    "days of colours": (
        dg.MultiPartitionsDefinition({"time": DAILY, "colour": COLOURS}),
        {"time": "%Y-%m-%d"},
        {"time": pl.Date, "colour": TEXT},
        [dg.MultiPartitionKey({"time": KEYS[0], "colour": colour}) for colour in ("red", "blue")],
    ),
}
"""Partitions, the form of their times, the type of each column of the key, and two of the partitions."""


@pytest.mark.parametrize("kind", EACH_KIND)
def test_each_kind_of_partitions_is_replaced_and_read_back_by_polars_eager_and_lazy_and_by_arrow(
    run: Run, manager: PartitionIOManager, kind: str
) -> None:
    """Each library writes, and reads what another one has written."""
    partitions, forms, columns, (first, second) = EACH_KIND[kind]
    said = {"partition_columns": {name: name for name in columns}}
    metadata = said if len(columns) > 1 else {"partition_column": next(iter(columns))}
    turn = {"value": 1}
    seen: list[Any] = []

    @dg.asset(partitions_def=partitions, metadata=metadata)
    def made(context: dg.AssetExecutionContext) -> pl.DataFrame:
        key = context.partition_key
        parts = key.keys_by_dimension if isinstance(key, dg.MultiPartitionKey) else dict.fromkeys(columns, key)
        frame = pl.DataFrame({name: [parts[name]] * 2 for name in columns} | {"n": [turn["value"], 0]})
        return frame.with_columns(
            *[pl.col(name).str.to_datetime(form).cast(columns[name]) for name, form in forms.items()]
        )

    def read_as(library: Any, upstream: str) -> dg.AssetsDefinition:
        @dg.asset(
            name=f"{upstream}_read", ins={"rows": dg.AssetIn(upstream)}, partitions_def=partitions, metadata=metadata
        )
        def read(rows: library) -> library:  # type: ignore[valid-type]
            seen.append(rows)
            return rows

        return read

    lazy, arrow = read_as(pl.LazyFrame, "made"), read_as(pa.Table, "made_read")
    chain = [made, lazy, arrow, read_as(pl.DataFrame, "made_read_read")]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("fruits", ["apple", "orange"])
        for turn["value"], key in ((1, first), (2, second), (3, first), (3, first)):
            assert run(*chain, partition_key=key, instance=instance).success
        found = dg.Definitions(assets=chain, resources={"io_manager": manager})
        all_rows = found.load_asset_value("made_read_read_read", python_type=pl.DataFrame, instance=instance)
    assert [type(one) for one in seen] == [pl.LazyFrame, pa.Table, pl.DataFrame] * 4
    assert sorted(all_rows["n"]) == [0, 0, 2, 3]
    assert dict(all_rows.schema) == {**columns, "n": pl.Int64}


def test_an_asset_reads_its_day_before_and_starts_from_nothing(run: Run, manager: PartitionIOManager) -> None:
    before = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)

    @dg.asset(
        partitions_def=DAILY,
        ins={"grows": dg.AssetIn(partition_mapping=before)},
        metadata={"partition_column": "time"},
    )
    def grows(context: dg.AssetExecutionContext, grows: pd.DataFrame) -> pd.DataFrame:
        n = 1 if grows.empty else int(grows["n"].sum()) + 1
        return pd.DataFrame({"time": [pd.Timestamp(context.partition_key)], "n": [n]})

    for key in KEYS:
        assert run(grows, partition_key=key).success
    assert [n for _, n in rows(manager, grows, "time")] == [1, 2, 3]


def test_a_warehouse_that_exists_is_taken_over_as_the_page_says(tmp_path: Path) -> None:
    url = str(tmp_path / "w.duckdb")
    with duckdb.connect(url) as connection:
        connection.execute("CREATE TABLE public_orders AS SELECT 1 AS n")
        connection.execute("CREATE SCHEMA public; CREATE TABLE public.orders (placed TIMESTAMP, n BIGINT)")
        old = "INSERT INTO public.orders VALUES ('2024-03-01 10:00', 1), ('2024-03-01 10:00', 1), ('2024-03-02', 2)"
        connection.execute(old)
    resources = {"io_manager": DuckDBPartitionIOManager(url=url, schema="public")}
    seen: list[list[int]] = []

    @dg.asset(partitions_def=DAILY, metadata={"partition_column": "placed"})
    def orders(context: dg.AssetExecutionContext) -> pd.DataFrame:
        return pd.DataFrame({"placed": [pd.Timestamp(context.partition_key + " 10:00")], "n": [1]})

    @dg.asset(partitions_def=DAILY)
    def copies(context: dg.AssetExecutionContext, orders: pd.DataFrame) -> pd.DataFrame:
        seen.append(sorted(orders["n"]))
        return pd.DataFrame({"batch_date": [pd.Timestamp(context.partition_key).date()], "n": [len(orders)]})

    def copied(key: str) -> bool:
        done = dg.materialize(
            [copies, orders], selection=[copies], resources=resources, partition_key=key, raise_on_error=False
        )
        return bool(done.success)

    assert copied(KEYS[0]) and seen == [[1, 1]], "while the asset has no record at all, it is read as it is"
    for _ in range(2):
        assert dg.materialize([orders], resources=resources, partition_key=KEYS[0]).success
    assert copied(KEYS[0]) and seen[1:] == [[1]], "the first write removes the doubled rows"
    assert not copied(KEYS[1]), "never committed, as soon as the asset has records"
    with duckdb.connect(url) as connection:
        assert connection.execute("SELECT day(placed), n FROM public.orders ORDER BY 1").fetchall() == [(1, 1), (2, 2)]
