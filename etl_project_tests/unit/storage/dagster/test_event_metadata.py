"""What Dagster's events say of each committed partition: single days and days of a range alike, numbers as numbers."""

from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_project import utc
from etl_project.declare.daily_table import daily
from etl_project.storage import DuckDBPartitionIOManager, DuckDBStore, ParquetPartitionIOManager
from etl_project.storage.dagster.io_manager import PartitionIOManager
from etl_project.storage.judging import judgement

DAILY = daily(date(2024, 1, 1))
DAYS = ["2024-01-01", "2024-01-02", "2024-01-03"]
NUMBERS = ["dagster/partition_row_count", "rows_added", "rows_before", "rows_kept", "rows_removed"]


@dg.asset(partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
def stock(context: dg.AssetExecutionContext) -> pa.Table:
    """As many items as the number of the day."""
    items = [(day, f"item {n}") for day in utc.days_of(context) for n in range(day.day)]
    schema = pa.schema([("batch_date", pa.date32()), ("item", pa.string())])
    return pa.table([[day for day, _ in items], [item for _, item in items]], schema=schema)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


Open = Callable[..., PartitionIOManager]


@pytest.fixture(params=["duckdb", "parquet"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Makes an IO manager over the same place, with the options given."""
    if request.param == "duckdb":
        return partial(DuckDBPartitionIOManager, url=str(tmp_path / "w.duckdb"), preview_rows=5)
    return partial(ParquetPartitionIOManager, root=str(tmp_path / "lake"), preview_rows=5)


def built(
    instance: dg.DagsterInstance, manager: PartitionIOManager, *days: str, asset: Any = stock
) -> dict[str, dict[str, Any]]:
    """Build these days in one run; the metadata of each one's event."""
    tags = utc.run_tags(date.fromisoformat(days[0]), date.fromisoformat(days[-1]))
    done = dg.materialize([asset], resources={"io_manager": manager}, instance=instance, tags=tags)
    made = [event.materialization for event in done.get_asset_materialization_events()]
    return {str(m.partition): {name: value.value for name, value in m.metadata.items()} for m in made}


def rows_of(preview: str) -> list[str]:
    return preview.splitlines()[2:]


@pytest.mark.parametrize("days", [DAYS[1:2], DAYS], ids=["single day", "range"])
def test_every_committed_day_has_its_own_numbers_fingerprint_and_preview(
    instance: dg.DagsterInstance, opened: Open, days: list[str]
) -> None:
    manager = opened()
    for again in (False, True):
        found = built(instance, manager, *days)
        assert {*found} == {*days}
        for day, metadata in found.items():
            rows = int(day[-2:])
            expected = [rows, 0, rows, rows, 0] if again else [rows, rows, 0, 0, 0]
            assert [metadata[name] for name in NUMBERS] == expected
            assert {type(metadata[name]) for name in NUMBERS} == {int}
            assert sorted(rows_of(metadata["preview"])) == [f"| item {n} |" for n in range(rows)]
            assert metadata["fingerprint"] == manager.store().last_commits()["stock", day].fingerprint
            assert metadata["changed"] is not again


@pytest.mark.parametrize("compared_rows", [judgement.COMPARED_ROWS, 0], ids=["compared", "too many to compare"])
def test_repairing_rows_that_were_edited_by_hand_is_told_with_its_numbers(
    instance: dg.DagsterInstance, opened: Open, monkeypatch: pytest.MonkeyPatch, compared_rows: int
) -> None:
    manager = opened()
    store = manager.store()
    built(instance, manager, DAYS[2])
    if isinstance(store, DuckDBStore):
        with store.connect() as connection:
            connection.execute("DELETE FROM stock WHERE item = 'item 1'")
            connection.execute("UPDATE stock SET item = 'mine' WHERE item = 'item 0'")
    else:
        path = next(store.root.rglob("data.parquet"))
        rows = pq.read_table(path)
        edited = pa.table([rows["batch_date"][:2], ["mine", "item 2"]], rows.schema)
        footer = {key: value for key, value in pq.read_metadata(path).metadata.items() if key != b"ARROW:schema"}
        pq.write_table(edited.replace_schema_metadata(footer), path)
    monkeypatch.setattr(judgement, "COMPARED_ROWS", compared_rows)
    metadata = built(instance, manager, DAYS[2])[DAYS[2]]
    assert metadata["changed"] and metadata["rows_before"] == 2
    if compared_rows:
        assert [metadata[name] for name in ("rows_added", "rows_removed", "rows_kept")] == [2, 1, 1]
    again = built(instance, manager, DAYS[2])[DAYS[2]]
    assert not again["changed"] and again["rows_added"] == 0


def test_no_more_rows_are_shown_than_the_setting_says_and_none_with_zero(
    instance: dg.DagsterInstance, opened: Open
) -> None:
    two, none = opened(preview_rows=2), opened(preview_rows=0)
    assert {day: len(rows_of(m["preview"])) for day, m in built(instance, two, *DAYS).items()} == {
        DAYS[0]: 1,
        DAYS[1]: 2,
        DAYS[2]: 2,
    }
    for days in (DAYS, DAYS[:1]):
        assert all("preview" not in metadata for metadata in built(instance, none, *days).values())


def test_an_asset_with_private_rows_shows_none_whatever_the_setting_says(
    instance: dg.DagsterInstance, opened: Open
) -> None:
    private = stock.map_asset_specs(lambda spec: spec.merge_attributes(metadata={"preview_rows": 0}))
    assert all("preview" not in metadata for metadata in built(instance, opened(), *DAYS, asset=private).values())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), pa.ArrowInvalid("no UTF-8"), KeyError("x")])
def test_a_preview_that_cannot_be_had_leaves_the_committed_days_materialized(
    instance: dg.DagsterInstance, opened: Open, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> dict[str | None, str]:
        raise error

    monkeypatch.setattr("etl_project.storage.dagster.preview.previews", fail)
    found = built(instance, opened(), *DAYS)
    assert {day: metadata["dagster/partition_row_count"] for day, metadata in found.items()} == {
        day: int(day[-2:]) for day in DAYS
    }
    assert all("preview" not in metadata for metadata in found.values())
