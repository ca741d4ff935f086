"""The IO managers in real Dagster runs, on a real instance."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from etl_project.declare.daily_table import daily
from etl_project.failures import FAILURE_TAG
from etl_project.storage import DuckDBPartitionIOManager, ParquetPartitionIOManager, Slice, Sql, receipts_of
from etl_project.storage.contract import Commit, Request, Scope, Table, input_hash

DAILY = daily(date(2024, 1, 1))
SINGLE_RUN = dg.BackfillPolicy.single_run()
DAYS = [(date(2024, 1, 1) + timedelta(days=n)).isoformat() for n in range(10)]
CONTRACT = "CREATE TABLE orders (batch_date DATE, n INTEGER, v DECIMAL(12, 3), PRIMARY KEY (batch_date, n))"


class Project:
    """Three assets over two IO managers; `bad` is the day whose rows break the key of `orders`."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.bad: str | None = None
        self.version = 1
        self.lake = ParquetPartitionIOManager(root=str(folder / "lake"))
        self.warehouse = DuckDBPartitionIOManager(url=str(folder / "w.duckdb"), schema="shop")

        @dg.asset(partitions_def=DAILY, backfill_policy=SINGLE_RUN, io_manager_key="lake")
        def raw(context: dg.AssetExecutionContext) -> pd.DataFrame:
            book = receipts_of(context.get_step_execution_context())
            for key in context.partition_keys:
                book.add("shop_files", key, f"file {self.version}")
            rows = [
                (date.fromisoformat(key), 1 if key == self.bad else n, self.version)
                for key in context.partition_keys
                for n in range(2)
            ]
            return pd.DataFrame(rows, columns=["batch_date", "n", "v"])

        @dg.asset(partitions_def=DAILY, backfill_policy=SINGLE_RUN, metadata={"contract_sql": CONTRACT})
        def orders(raw: Slice) -> Sql:
            return Sql("SELECT * FROM raw", raw=raw)

        @dg.asset(partitions_def=DAILY, backfill_policy=SINGLE_RUN)
        def daily(orders: pd.DataFrame) -> pd.DataFrame:
            return orders.groupby("batch_date", as_index=False).agg(rows=("n", "count"))

        self.assets = [raw, orders, daily]

    def run(self, *keys: str, assets: list[Any] | None = None, **tags: str) -> dg.ExecuteInProcessResult:
        window = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        return dg.materialize(
            self.assets if assets is None else assets,
            resources={"lake": self.lake, "io_manager": self.warehouse},
            instance=self.instance,
            partition_key=keys[0] if len(keys) == 1 else None,
            tags={**tags, **(window if len(keys) > 1 else {})},
            raise_on_error=False,
        )

    def commits(self) -> dict[tuple[str, str | None], Commit]:
        return {**self.lake.store().last_commits(), **self.warehouse.store().last_commits()}

    def latest(self, asset: str) -> dict[str, dg.EventLogEntry]:
        """The newest materialization of every partition."""
        records = self.instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records
        return {str(r.partition_key): r.event_log_entry for r in reversed(records)}

    def statuses(self, asset: str, keys: list[str]) -> dict[str, str | None]:
        found = self.instance.get_status_by_partition(dg.AssetKey(asset), keys, DAILY) or {}
        return {key: status.value if status else None for key, status in found.items()}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.ephemeral(str(tmp_path / "home")) as instance:
        yield Project(tmp_path, instance)


def version_of(entry: dg.EventLogEntry) -> str:
    assert entry.dagster_event is not None
    return entry.dagster_event.step_materialization_data.materialization.tags["dagster/data_version"]


def test_a_day_runs_through_both_io_managers(project: Project) -> None:
    assert project.run(DAYS[0]).success
    assert project.run(DAYS[0]).success
    with duckdb.connect(str(project.warehouse.url)) as connection:
        assert connection.execute("FROM shop.daily").fetchall() == [(date(2024, 1, 1), 2)]


def test_input_hashes_are_taken_over_what_was_read_across_both_io_managers(project: Project) -> None:
    assert project.run(*DAYS[:3]).success
    commits = project.commits()
    for key in DAYS[:3]:
        assert commits["raw", key].input_hash == input_hash([("shop_files", key, "file 1")])
        for asset, parent in (("orders", "raw"), ("daily", "orders")):
            read = input_hash([(parent, key, commits[parent, key].fingerprint)])
            assert commits[asset, key].input_hash == read


def test_the_data_version_of_each_partition_is_its_fingerprint_in_single_and_in_range_runs(project: Project) -> None:
    assert project.run(*DAYS[:3]).success
    assert project.run(DAYS[1]).success
    commits = project.commits()
    for asset in ("raw", "orders", "daily"):
        events = project.latest(asset)
        assert {key: version_of(event) for key, event in events.items()} == {
            key: commits[asset, key].fingerprint for key in DAYS[:3]
        }


def test_a_range_run_records_one_materialization_a_partition_with_its_own_numbers(project: Project) -> None:
    result = project.run(*DAYS[:5])
    events = result.asset_materializations_for_node("orders")
    assert [event.partition for event in events] == DAYS[:5]
    assert {event.metadata["dagster/partition_row_count"].value for event in events} == {2}
    assert len({event.metadata["fingerprint"].value for event in events}) == 5


def test_one_bad_day_of_ten_fails_alone(project: Project) -> None:
    project.bad = DAYS[7]
    result = project.run(*DAYS)
    assert not result.success
    good = [key for key in DAYS if key != project.bad]
    commits = project.commits()
    assert [key for key in DAYS if ("orders", key) in commits] == good
    expected = {key: "FAILED" if key == project.bad else "MATERIALIZED" for key in DAYS}
    assert project.statuses("orders", DAYS) == expected
    tags = project.instance.get_run_by_id(result.run_id).tags  # type: ignore[union-attr]
    assert tags[FAILURE_TAG] == "permanent" and tags["dagster/retry_on_asset_or_op_failure"] == "false"
    project.bad = None
    assert project.run(DAYS[7]).success
    assert project.run(*DAYS, assets=project.assets).success
    assert set(project.statuses("daily", DAYS).values()) == {"MATERIALIZED"}


def test_a_permanent_failure_names_asset_day_and_what_to_do_and_is_not_retried(project: Project) -> None:
    project.bad = DAYS[0]
    tries: list[str] = []

    @dg.asset(
        partitions_def=DAILY,
        metadata={"contract_sql": CONTRACT},
        retry_policy=dg.RetryPolicy(max_retries=3),
        name="orders",
    )
    def twice_the_same_key() -> pd.DataFrame:
        tries.append("again")
        return pd.DataFrame({"batch_date": [date(2024, 1, 1)] * 2, "n": [1, 1], "v": [1, 1]})

    result = project.run(DAYS[0], assets=[twice_the_same_key])
    (failed,) = result.get_step_failure_events()
    assert len(tries) == 1
    message = failed.step_failure_data.user_failure_data.description  # type: ignore[union-attr]
    assert all(part in message for part in ("'orders'", DAYS[0], "duplicate key", "Retrying does not help"))


@pytest.mark.parametrize(("tag", "goes"), [("", False), ("true", True)])
def test_a_day_shrinks_too_much_only_when_the_run_says_so(project: Project, tag: str, goes: bool) -> None:
    rows = [10]

    @dg.asset(partitions_def=DAILY, metadata={"max_removed_ratio": 0.5})
    def shrinking() -> pa.Table:
        return pa.table({"batch_date": [date(2024, 1, 1)] * rows[0], "n": range(rows[0])})

    assert project.run(DAYS[0], assets=[shrinking]).success
    rows[0] = 1
    assert project.run(DAYS[0], assets=[shrinking], **{"etl/allow_shrink": tag}).success is goes


def upstream_and(read: Callable[[], None], up: str = "io_manager", down: str = "io_manager") -> list[Any]:
    @dg.asset(name="up", partitions_def=DAILY, io_manager_key=up)
    def upstream() -> pa.Table:
        return pa.table({"batch_date": [date(2024, 1, 1)], "n": [1]})

    @dg.asset(name="down", partitions_def=DAILY, deps=[upstream], io_manager_key=down)
    def downstream() -> pa.Table:
        read()
        return pa.table({"batch_date": [date(2024, 1, 1)], "n": [1]})

    return [upstream, downstream]


def test_inputs_named_only_by_deps_are_taken_from_their_commit_records(project: Project) -> None:
    assert project.run(DAYS[0], assets=upstream_and(lambda: None)).success
    commits = project.commits()
    read = [("up", DAYS[0], commits["up", DAYS[0]].fingerprint)]
    assert commits["down", DAYS[0]].input_hash == input_hash(read)


@pytest.mark.parametrize("below", ["io_manager", "lake"])
def test_a_dep_in_the_other_store_is_looked_up_there(project: Project, below: str) -> None:
    above = {"io_manager": "lake", "lake": "io_manager"}[below]
    up, down = upstream_and(lambda: None, up=above, down=below)
    assert project.run(DAYS[0], assets=[up]).success
    done = dg.materialize(
        [up, down],
        selection=[down],
        resources={"lake": project.lake, "io_manager": project.warehouse},
        instance=project.instance,
        partition_key=DAYS[0],
    )
    assert done.success
    commits = project.commits()
    assert commits["down", DAYS[0]].input_hash == input_hash([("up", DAYS[0], commits["up", DAYS[0]].fingerprint)])


def test_a_day_that_begins_between_reading_and_writing_is_no_input(project: Project) -> None:
    """The input may lack days: one that did not exist when it was read is one of those."""
    book = receipts_of(project)
    book.may_be_absent("up")
    book.add("up", DAYS[0], "1:1:1")
    assert book.knows("up", DAYS[1])
    parents = {DAYS[0]: [("up", DAYS[0]), ("up", DAYS[1])]}
    assert book.input_hashes(parents) == {DAYS[0]: input_hash([("up", DAYS[0], "1:1:1")])}


def test_a_dep_that_is_rewritten_while_the_body_runs_refuses_the_write_as_retryable(project: Project) -> None:
    store = project.warehouse.store()

    def meanwhile() -> None:
        day = date(2024, 1, 1)
        data = pa.table({"batch_date": [day], "n": [2]})
        store.replace(Table("up", "up", schema="shop"), Scope.days(day, day), data, Request("another"))

    result = project.run(DAYS[0], assets=upstream_and(meanwhile))
    assert not result.success and ("down", DAYS[0]) not in project.commits()
    tags = project.instance.get_run_by_id(result.run_id).tags  # type: ignore[union-attr]
    assert tags[FAILURE_TAG] == "transient"


def test_a_wide_mapping_hashes_every_partition_that_was_read(project: Project) -> None:
    @dg.asset(partitions_def=DAILY)
    def up(context: dg.AssetExecutionContext) -> pa.Table:
        return pa.table({"batch_date": [date.fromisoformat(context.partition_key)], "n": [1]})

    @dg.asset(
        partitions_def=DAILY,
        ins={"up": dg.AssetIn(partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1))},
    )
    def two_days(context: dg.AssetExecutionContext, up: pa.Table) -> pa.Table:
        return pa.table({"batch_date": [date.fromisoformat(context.partition_key)], "n": [len(up)]})

    for key in DAYS[:2]:
        assert project.run(key, assets=[up]).success
    assert project.run(DAYS[1], assets=[up, two_days]).success
    commits = project.commits()
    read = [("up", key, commits["up", key].fingerprint) for key in DAYS[:2]]
    assert commits["two_days", DAYS[1]].input_hash == input_hash(read)


def test_an_unpartitioned_asset_reads_the_partitions_it_maps_to_and_is_replaced_as_a_whole(project: Project) -> None:
    three_days = dg.SpecificPartitionsPartitionMapping(DAYS[:3])

    @dg.asset(ins={"daily": dg.AssetIn(partition_mapping=three_days)})
    def total(daily: pa.RecordBatchReader) -> pa.RecordBatchReader:
        return daily

    assert project.run(*DAYS[:3]).success
    for _ in range(2):
        result = dg.materialize(
            [*project.assets, total],
            selection=[total],
            resources={"lake": project.lake, "io_manager": project.warehouse},
            instance=project.instance,
        )
        assert result.success
    with duckdb.connect(str(project.warehouse.url)) as connection:
        assert connection.execute("SELECT count(*) FROM shop.total").fetchall() == [(3,)]


def test_input_metadata_limits_the_columns_that_are_read(project: Project) -> None:
    seen: list[list[str]] = []

    @dg.asset(partitions_def=DAILY, ins={"daily": dg.AssetIn(metadata={"columns": ["rows"]})})
    def narrow(daily: pa.Table) -> pa.Table:
        seen.append(daily.column_names)
        return pa.table({"batch_date": [date(2024, 1, 1)]})

    assert project.run(DAYS[0], assets=[*project.assets, narrow]).success
    assert seen == [["rows"]]


def test_an_input_that_was_never_materialized_is_named(project: Project) -> None:
    @dg.asset(partitions_def=DAILY)
    def alone(daily: pa.Table) -> pa.Table:
        return daily

    result = dg.materialize(
        [*project.assets, alone],
        selection=[alone],
        resources={"lake": project.lake, "io_manager": project.warehouse},
        instance=project.instance,
        partition_key=DAYS[0],
        raise_on_error=False,
    )
    (failed,) = result.get_step_failure_events()
    assert "Materialize the asset first" in str(failed.event_specific_data)


class Rate(dg.Config):
    """A run config with a default."""

    percent: int = 20


def test_a_config_other_than_the_default_is_part_of_the_input_hash(project: Project) -> None:
    @dg.asset(partitions_def=DAILY)
    def taxed(config: Rate) -> pa.Table:
        return pa.table({"batch_date": [date(2024, 1, 1)], "n": [config.percent]})

    def hash_with(config: dict[str, int]) -> str:
        done = dg.materialize(
            [taxed],
            resources={"io_manager": project.warehouse},
            instance=project.instance,
            partition_key=DAYS[0],
            run_config={"ops": {"taxed": {"config": config}}},
        )
        assert done.success
        return project.commits()["taxed", DAYS[0]].input_hash

    assert hash_with({}) == hash_with({"percent": 20}) == input_hash([])
    assert hash_with({"percent": 19}) == hash_with({"percent": 19}) != hash_with({"percent": 7}) != input_hash([])
