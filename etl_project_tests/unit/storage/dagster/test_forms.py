"""The forms in which bodies return rows and parameters take them, in real runs, on both backends."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Optional

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from dagster._core.types.dagster_type import resolve_dagster_type

from etl_project.failures import FAILURE_TAG
from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager
from etl_project.storage.dagster.io_manager import PartitionIOManager
from etl_project.storage.engines.duckdb_file import DuckDBFile
from etl_project.storage.engines.warm import Warm

DAILY = dg.DailyPartitionsDefinition("2024-03-01")
KEYS = ["2024-03-01", "2024-03-02"]
DAY = date(2024, 3, 1)
RANGE = {"dagster/asset_partition_range_start": KEYS[0], "dagster/asset_partition_range_end": KEYS[-1]}


@pytest.fixture(params=["duckdb", "parquet"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> PartitionIOManager:
    if request.param == "duckdb":
        return DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
    return ParquetPartitionIOManager(root=str(tmp_path / "lake"))


def run(
    manager: PartitionIOManager, *assets: Any, key: str | None = KEYS[0], select: Any = None, instance: Any = None
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        assets,
        resources={"io_manager": manager},
        partition_key=key,
        tags=None if key else RANGE,
        selection=select,
        instance=instance,
        raise_on_error=False,
    )


def returning(make: Callable[[], Any], name: str = "made", **options: Any) -> dg.AssetsDefinition:
    @dg.asset(name=name, partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run(), **options)
    def body():  # type: ignore[no-untyped-def]  # Nobody says what it returns.
        return make()

    return body


def loading(annotation: Any, asset: str = "made", *keys: str) -> dg.InputContext:
    return dg.build_input_context(
        asset_key=asset,
        asset_partitions_def=DAILY,
        asset_partition_key_range=dg.PartitionKeyRange((keys or KEYS)[0], (keys or KEYS)[-1]),
        dagster_type=resolve_dagster_type(annotation),
    )


def stored(manager: PartitionIOManager, asset: str = "made", *keys: str) -> list[Any]:
    rows: pa.Table = manager.load_input(loading(pa.Table, asset, *keys))
    return rows.sort_by("batch_date").to_pylist()


def why(result: dg.ExecuteInProcessResult) -> str:
    (failed,) = result.get_step_failure_events()
    return str(failed.step_failure_data.user_failure_data.description)  # type: ignore[union-attr]


FORMS: dict[str, Callable[[], Any]] = {
    "list of dictionaries": lambda: [{"batch_date": DAY, "n": 1}],
    "lazy frame": lambda: pl.LazyFrame({"batch_date": [DAY], "n": [1]}),
    "polars": lambda: pl.DataFrame({"batch_date": [DAY], "n": [1]}),
    "relation": lambda: duckdb.connect().sql("SELECT DATE '2024-03-01' AS batch_date, 1::BIGINT AS n"),
    "batch": lambda: pa.RecordBatch.from_pylist([{"batch_date": DAY, "n": 1}]),
    "a frame a partition": lambda: {KEYS[0]: pd.DataFrame({"batch_date": [DAY], "n": [1]})},
}


def test_a_body_returns_rows_in_any_form(manager: PartitionIOManager) -> None:
    """One asset each."""
    names = {f"made_{n}": make for n, make in enumerate(FORMS.values())}
    for _ in range(2):
        assert run(manager, *(returning(make, name) for name, make in names.items())).success
    for name in names:
        assert stored(manager, name, KEYS[0]) == [{"batch_date": DAY, "n": 1}]


def test_dictionaries_need_not_all_have_the_same_keys(manager: PartitionIOManager) -> None:
    rows = [{"batch_date": DAY, "n": 1}, {"batch_date": DAY, "m": 2}]
    assert run(manager, returning(lambda: rows)).success
    found = stored(manager, "made", KEYS[0])
    assert sorted((row["n"], row["m"]) for row in found if row["n"]) == [(1, None)]
    assert [row["m"] for row in found if row["n"] is None] == [2]


def test_a_frame_for_each_partition_of_a_range(manager: PartitionIOManager) -> None:
    frames = {key: pl.DataFrame({"batch_date": [date.fromisoformat(key)], "n": [n]}) for n, key in enumerate(KEYS)}
    assert run(manager, returning(lambda: frames), key=None).success
    assert [row["n"] for row in stored(manager)] == [0, 1]


@pytest.mark.parametrize("keys", [KEYS[:1], [*KEYS, "2024-03-03"]], ids=["too few", "too many"])
def test_frames_that_are_not_those_of_the_partitions_are_refused(manager: PartitionIOManager, keys: list[str]) -> None:
    frames = {key: pl.DataFrame({"batch_date": [date.fromisoformat(key)]}) for key in keys}
    result = run(manager, returning(lambda: frames), key=None)
    assert not result.success
    assert "Return one frame for each partition" in why(result)


NO_COLUMNS: dict[str, Callable[[], Any]] = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "arrow": lambda: pa.table({}),
    "list": list,
}


def test_a_frame_without_columns_is_an_empty_day(manager: PartitionIOManager) -> None:
    """On the first day ever, too; and it takes away what was there. One asset a form, with and without a contract."""
    assets = {f"{form}_{kind}": form for form in NO_COLUMNS for kind in ("bare", "declared")}

    def made(name: str, make: Callable[[], Any]) -> dg.AssetsDefinition:
        contract = {"contract_sql": f"CREATE TABLE {name} (batch_date DATE NOT NULL, n BIGINT NOT NULL)"}
        return returning(make, name, **({"metadata": contract} if name.endswith("_declared") else {}))

    with dg.DagsterInstance.ephemeral() as instance:
        for filled in (False, True, False, False):
            rows = (lambda: [{"batch_date": DAY, "n": 1}]) if filled else None
            result = run(
                manager, *(made(name, rows or NO_COLUMNS[form]) for name, form in assets.items()), instance=instance
            )
            assert result.success
    commits = manager.store().last_commits()
    for name in assets:
        assert (commits[name, KEYS[0]].rows, stored(manager, name, KEYS[0])) == (0, [])


def test_none_is_refused_with_both_ways_out_and_not_tried_again(manager: PartitionIOManager) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(manager, returning(lambda: None), instance=instance)
        tags = instance.get_run_by_id(result.run_id).tags  # type: ignore[union-attr]
    assert "an empty one if there are no rows" in why(result) and "`-> None`" in why(result)
    assert tags[FAILURE_TAG] == "permanent"


SEEN: list[Any] = []


def taking(annotation: Any, name: str = "taken", seen: list[Any] = SEEN, **options: Any) -> dg.AssetsDefinition:
    def body(made):  # type: ignore[no-untyped-def]
        seen.append(made)
        return pa.table({"batch_date": [date.fromisoformat(key) for key in KEYS]})

    body.__annotations__["made"] = annotation
    policy = dg.BackfillPolicy.single_run()
    asset: dg.AssetsDefinition = dg.asset(name=name, partitions_def=DAILY, backfill_policy=policy, **options)(body)
    return asset


ROWS = [{"batch_date": date.fromisoformat(key), "n": 1} for key in KEYS]


class Frame(pd.DataFrame):
    """A frame of somebody's own."""


ANNOTATIONS: dict[str, tuple[Any, Callable[[Any], list[Any]]]] = {
    "pandas": (pd.DataFrame, lambda rows: rows.to_dict("records")),
    "a subclass": (Frame, lambda rows: rows.to_dict("records") if isinstance(rows, Frame) else []),
    "optional": (Optional[pd.DataFrame], lambda rows: rows.to_dict("records")),  # noqa: UP045  # As many write it.
    "or none": (pa.Table | None, lambda rows: rows.to_pylist()),
    "table": (pa.Table, lambda rows: rows.to_pylist()),
    "batch": (pa.RecordBatch, lambda rows: rows.to_pylist()),
    "reader": (pa.RecordBatchReader, lambda rows: rows.read_all().to_pylist()),
    "relation": (duckdb.DuckDBPyRelation, lambda rows: rows.to_arrow_table().to_pylist()),
    "polars": (pl.DataFrame, lambda rows: rows.to_dicts()),
    "lazy frame": (pl.LazyFrame, lambda rows: rows.collect().to_dicts()),
    "dictionaries": (list[dict], lambda rows: rows),
    "typed dictionaries": (list[dict[str, Any]], lambda rows: rows),
    "a frame a partition": (dict[str, pa.Table], lambda rows: [row for key in KEYS for row in rows[key].to_pylist()]),
}


def test_a_parameter_takes_rows_in_any_form(manager: PartitionIOManager) -> None:
    """One asset each."""
    seen: dict[str, list[Any]] = {form: [] for form in ANNOTATIONS}
    takers = [taking(ANNOTATIONS[form][0], f"taken_{n}", seen[form]) for n, form in enumerate(seen)]
    assert run(manager, returning(lambda: ROWS), *takers, key=None).success
    for form, (_, rows_of) in ANNOTATIONS.items():
        found = [{**row, "batch_date": pd.Timestamp(row["batch_date"]).date()} for row in rows_of(seen[form][0])]
        assert sorted(found, key=str) == ROWS, form


@pytest.mark.parametrize("form", ["pandas", "or none", "a frame a partition", "reader"])
def test_an_input_is_loaded_with_few_openings_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """One opening costs more than most questions, and there are two for each partition."""
    manager = DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
    assert run(manager, returning(lambda: ROWS), key=None).success
    opened, begun, alone = DuckDBFile._open, Warm._begin, []

    def noted(file: DuckDBFile, *how: Any) -> duckdb.DuckDBPyConnection:
        connection = opened(file, *how)
        alone.append(connection.execute("SELECT count FROM duckdb_connection_count()").fetchall() == [(1,)])
        return connection

    def attached(warm: Warm, *how: Any) -> duckdb.DuckDBPyConnection | None:
        alone.append(warm._attached is None)
        return begun(warm, *how)

    monkeypatch.setattr(DuckDBFile, "_open", noted)
    monkeypatch.setattr(Warm, "_begin", attached)
    annotation, rows_of = ANNOTATIONS[form]
    for _ in range(2):
        alone.clear()
        assert len(rows_of(manager.load_input(loading(annotation)))) == len(ROWS)
        assert sum(alone) == (2 if form == "reader" else 1)  # A stream has an opening of its own.


def test_an_optional_input_that_was_never_built_is_none(manager: PartitionIOManager) -> None:
    SEEN.clear()
    taken = taking(Optional[pd.DataFrame])  # noqa: UP045
    assert run(manager, returning(lambda: ROWS), taken, key=None, select=[taken]).success
    assert SEEN == [None]


def test_an_annotation_that_rows_cannot_take_names_those_that_they_can(manager: PartitionIOManager) -> None:
    result = run(manager, returning(lambda: ROWS), taking(set), key=None)
    assert "cannot be loaded" in why(result) and "dict[str, ...]" in why(result)


def test_an_input_that_maps_to_no_partition_has_no_rows(manager: PartitionIOManager) -> None:
    SEEN.clear()
    before = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
    taken = taking(pd.DataFrame, ins={"made": dg.AssetIn(partition_mapping=before)})
    with dg.DagsterInstance.ephemeral() as instance:
        run(manager, returning(lambda: ROWS), key=None, instance=instance)
        result = run(manager, returning(lambda: ROWS), taken, select=[taken], instance=instance)
    assert "rows lie outside" in why(result)  # Of the body, that is: the input itself was loaded.
    assert len(SEEN[0]) == 0 and list(SEEN[0].columns) == ["batch_date", "n"]
