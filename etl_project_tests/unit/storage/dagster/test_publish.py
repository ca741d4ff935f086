"""`publish: after_checks`: an asset's blocking checks see the new rows first, and decide who else does."""

# No `from __future__ import annotations` here: Dagster reads the annotations of checks as they stand.

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import pytest
from dagster_duckdb import DuckDBResource

from etl_project import utc
from etl_project.declare import by_partition
from etl_project.storage import (
    ALLOW_UNCHECKED_TAG,
    CONFIG,
    OF_CANDIDATE,
    DuckDBPartitionIOManager,
    ParquetPartitionIOManager,
    PartitionIOManager,
    Scope,
    checked,
)
from etl_project.storage.dagster.scopes import UnsupportedAsset

DAYS = dg.DailyPartitionsDefinition("2024-01-01")
FIRST, SECOND = "2024-01-03", "2024-01-04"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
AUDITED = {"publish": "after_checks"}


class World:
    """The asset `orders`, whose rows are `amounts`, in one store."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.amounts: dict[str, int] = {}
        self.instance = dg.DagsterInstance.local_temp(str(folder))

        @dg.asset(partitions_def=DAYS, metadata=AUDITED, backfill_policy=dg.BackfillPolicy.single_run())
        def orders(context: dg.AssetExecutionContext) -> pd.DataFrame:
            rows = [(date.fromisoformat(key), self.amounts.get(key, 1)) for key in context.partition_keys]
            return pd.DataFrame(rows, columns=["batch_date", "n"])

        self.orders = orders

    @property
    def manager(self) -> PartitionIOManager:
        if self.kind == "duckdb":
            return DuckDBPartitionIOManager(url=str(self.folder / "w.duckdb"))
        return ParquetPartitionIOManager(root=str(self.folder / "lake"))

    def positive(self) -> dg.AssetChecksDefinition:
        """Reads the rows as an input; each day has a result of its own."""

        @dg.asset_check(asset=self.orders, blocking=True, partitions_def=DAYS)
        def positive(context: dg.AssetCheckExecutionContext, orders: pd.DataFrame) -> dg.AssetCheckResult:
            bad = set(orders[orders["n"] < 0]["batch_date"].astype(str))
            return by_partition(
                context,
                {
                    key: dg.AssetCheckResult(passed=key not in bad, description="n is negative")
                    for key in context.partition_keys
                },
            )

        return positive

    def definitions(self, checks: Sequence[dg.AssetChecksDefinition], **more: Any) -> dg.Definitions:
        resources = {
            "io_manager": self.manager,
            "duckdb": DuckDBResource(database=str(self.folder / "w.duckdb")),
            **more,
        }
        return dg.Definitions(
            assets=[self.orders],
            asset_checks=[*checks],
            resources=resources,
            jobs=[dg.define_asset_job("unchecked", selection=dg.AssetSelection.assets("orders").without_checks())],
            executor=dg.in_process_executor,
        )

    def run(self, definitions: dg.Definitions, *keys: str, **tags: str) -> dg.ExecuteInProcessResult:
        return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            tags={**utc.run_tags(keys[0], keys[-1]), **tags},
            run_config=QUIET,
            raise_on_error=False,
        )

    def published(self) -> dict[str, int]:
        store = self.manager.store()
        if not store.last_commits(["orders"]):
            return {}
        table = self.manager.table(next(iter(self.orders.specs)))
        rows = store.arrow(store.read(table, Scope.days(date(2024, 1, 1), date(2024, 1, 9)))).to_pylist()
        return {str(row["batch_date"])[:10]: row["n"] for row in rows}

    def waiting(self) -> dict[str | None, str]:
        return {one.record.partition: one.reason for one in self.manager.store().candidates(["orders"])}

    def results(self, name: str = "positive") -> list[tuple[str | None, bool, bool]]:
        """Partition, whether it passed, and whether that was said of a candidate."""
        key = dg.AssetCheckKey(dg.AssetKey("orders"), name)
        records = self.instance.event_log_storage.get_asset_check_execution_history(key, limit=20)
        found = [record.evaluation for record in records if record.evaluation is not None]
        return [(one.partition, one.passed, OF_CANDIDATE in one.metadata) for one in found]


@pytest.fixture(params=["duckdb", "parquet"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, request.param)


def why(result: dg.ExecuteInProcessResult) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    return str(event.step_failure_data.user_failure_data.description)  # type: ignore[union-attr]


def test_rows_that_fail_are_kept_from_readers_and_the_check_is_red_for_them(world: World) -> None:
    definitions = checked(world.definitions([world.positive()]))
    assert world.run(definitions, FIRST).success
    world.amounts[FIRST] = -1
    failed = world.run(definitions, FIRST)
    assert not failed.success and "check positive of 2024-01-03 failed: n is negative" in why(failed)
    assert (world.published(), list(world.waiting())) == ({FIRST: 1}, [FIRST])
    assert world.results() == [(FIRST, False, True), (FIRST, True, False)]
    assert not failed.asset_materializations_for_node("orders")
    world.amounts[FIRST] = 7
    assert world.run(definitions, FIRST).success
    assert (world.published(), world.waiting()) == ({FIRST: 7}, {})


def test_of_a_range_only_the_days_that_fail_are_held(world: World) -> None:
    definitions = world.definitions([world.positive()])
    world.amounts = {FIRST: 5, SECOND: -5}
    failed = world.run(definitions, FIRST, SECOND)
    assert not failed.success
    assert (world.published(), list(world.waiting())) == ({FIRST: 5}, [SECOND])
    assert sorted(world.results(), key=str) == [(FIRST, True, False), (SECOND, False, True)]
    [made] = world.instance.fetch_materializations(dg.AssetKey("orders"), limit=9).records
    assert made.partition_key == FIRST


def test_a_run_tag_publishes_what_does_not_pass(world: World) -> None:
    definitions = world.definitions([world.positive()])
    world.amounts[FIRST] = -1
    world.run(definitions, FIRST)
    world.run(definitions, FIRST, **{ALLOW_UNCHECKED_TAG: "true"})
    assert (world.published(), world.waiting()) == ({FIRST: -1}, {})


def test_a_job_that_knows_of_no_check_publishes_nothing(world: World) -> None:
    unchecked = world.definitions([world.positive()]).resolve_job_def("unchecked")
    result = unchecked.execute_in_process(
        instance=world.instance, tags=utc.run_tags(FIRST, FIRST), run_config=QUIET, raise_on_error=False
    )
    assert "no blocking check of it is known to this job" in why(result)
    assert world.published() == {}


def test_a_check_that_breaks_off_publishes_nothing_and_may_be_tried_again(world: World) -> None:
    broken = [True]

    @dg.asset_check(asset=world.orders, blocking=True)
    def flaky() -> dg.AssetCheckResult:
        if broken[0]:
            raise RuntimeError("the machine went away")
        return dg.AssetCheckResult(passed=True)

    definitions = world.definitions([flaky])
    failed = world.run(definitions, FIRST)
    assert "no result of the blocking checks flaky" in why(failed) and "the machine went away" in why(failed)
    assert (world.published(), world.waiting()) == ({}, {})
    broken[0] = False
    assert world.run(definitions, FIRST).success
    assert world.published() == {FIRST: 1}


@pytest.mark.parametrize("partitioned", [True, False], ids=["a check a partition", "a plain check"])
def test_rows_of_dynamic_partitions_are_shown_to_their_checks(world: World, partitioned: bool) -> None:
    """The run of the checks has an instance of its own, which has to know of the partitions."""
    regions, amounts, seen = dg.DynamicPartitionsDefinition(name="regions"), {"eu": 1}, []
    world.instance.add_dynamic_partitions("regions", ["eu"])

    @dg.asset(partitions_def=regions, metadata={**AUDITED, "partition_column": "region"})
    def orders(context: dg.AssetExecutionContext) -> pd.DataFrame:
        return pd.DataFrame({"region": [context.partition_key], "n": [amounts[context.partition_key]]})

    @dg.asset_check(asset=orders, blocking=True, partitions_def=regions if partitioned else None)
    def positive(orders: pd.DataFrame) -> dg.AssetCheckResult:
        seen.append(orders["n"].tolist())
        return dg.AssetCheckResult(passed=bool((orders["n"] > 0).all()))

    world.orders = orders
    assert world.run(world.definitions([positive]), "eu").success
    amounts["eu"] = -1
    assert not world.run(world.definitions([positive]), "eu").success
    assert seen == [[1], [1], [-1]] and list(world.waiting()) == ["eu"]


def test_a_check_of_new_rows_is_told_the_dimensions_of_their_partition(world: World) -> None:
    regions = dg.StaticPartitionsDefinition(["eu", "us"])
    cells = dg.MultiPartitionsDefinition({"date": DAYS, "region": regions})
    seen: list[dict[str, str]] = []

    @dg.asset(partitions_def=cells, metadata=AUDITED)
    def orders(context: dg.AssetExecutionContext) -> pd.DataFrame:
        return pd.DataFrame({"batch_date": [date.fromisoformat(FIRST)], "region": ["eu"], "n": [1]})

    @dg.asset_check(asset=orders, blocking=True, partitions_def=cells)
    def positive(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        seen.append(dict(context.partition_key.keys_by_dimension))  # type: ignore[attr-defined]
        return dg.AssetCheckResult(passed=True)

    world.orders = orders
    cell = f"{FIRST}|eu"
    tags = utc.run_tags(cell, cell, ("date", "region"))
    assert world.run(world.definitions([positive]), cell, **tags).success
    assert seen == [{"date": FIRST, "region": "eu"}] * 2


def test_a_warning_keeps_nothing_from_readers(world: World) -> None:
    @dg.asset_check(asset=world.orders, blocking=True)
    def warns() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)

    assert world.run(world.definitions([warns]), FIRST).success
    assert world.published() == {FIRST: 1}


def test_sql_through_the_resource_sees_the_table_as_it_would_be_under_any_name(tmp_path: Path) -> None:
    world, seen = World(tmp_path, "duckdb"), []

    @dg.asset_check(asset=world.orders, blocking=True)
    def sums(duckdb: DuckDBResource) -> dg.AssetCheckResult:
        with duckdb.get_connection() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            seen.append([connection.sql(f"SELECT sum(n) FROM {n}").fetchall()[0][0] for n in ("orders", "main.orders")])
        return dg.AssetCheckResult(passed=seen[-1][0] < 10)

    definitions = world.definitions([sums])
    world.run(definitions, FIRST)
    world.amounts[SECOND] = 50
    assert not world.run(definitions, SECOND).success
    assert seen == [[1, 1], [1, 1], [51, 51]], "on the candidate, on the published day, on the candidate"
    assert (world.published(), list(world.waiting())) == ({FIRST: 1}, [SECOND])


def test_a_resource_with_another_database_and_other_resources_are_what_they_are(tmp_path: Path) -> None:
    world = World(tmp_path, "duckdb")

    class Limit(dg.ConfigurableResource):  # type: ignore[misc]
        most: int

    @dg.asset_check(asset=world.orders, blocking=True)
    def within(duckdb: DuckDBResource, limit: Limit) -> dg.AssetCheckResult:
        with duckdb.get_connection() as connection:
            tables = connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall()
        return dg.AssetCheckResult(passed=tables == [(0,)] and limit.most == 3)

    other = DuckDBResource(database=str(tmp_path / "other.duckdb"))
    assert world.run(world.definitions([within], duckdb=other, limit=Limit(most=3)), FIRST).success


def test_an_asset_without_a_blocking_check_is_refused_when_it_is_loaded(world: World) -> None:
    @dg.asset_check(asset=world.orders)
    def only_tells() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    with pytest.raises(UnsupportedAsset, match=r"'orders' says publish: after_checks and has no blocking check.*true"):
        checked(world.definitions([only_tells]))


def test_checks_that_the_body_makes_and_other_words_are_refused_when_they_are_loaded(tmp_path: Path) -> None:
    spec = dg.AssetCheckSpec("inside", asset="orders", blocking=True)

    @dg.asset(partitions_def=DAYS, metadata=AUDITED, check_specs=[spec])
    def orders() -> Any:
        yield dg.Output(pd.DataFrame())

    manager = DuckDBPartitionIOManager(url=str(tmp_path / "w.duckdb"))
    with pytest.raises(UnsupportedAsset, match="its own body makes the blocking checks inside"):
        checked(dg.Definitions(assets=[orders], resources={"io_manager": manager}))

    @dg.asset(metadata={"publish": "later"})
    def other() -> pd.DataFrame:
        return pd.DataFrame()

    with pytest.raises(UnsupportedAsset, match="publish is 'later'; the one thing to say is publish: after_checks"):
        checked(dg.Definitions(assets=[other], resources={"io_manager": manager}))


OF_A_FILE = """
import os
from datetime import date
import dagster as dg, pandas as pd
from dagster_duckdb import DuckDBResource
from etl_project.storage import DuckDBPartitionIOManager, checked

DAYS = dg.DailyPartitionsDefinition("2024-01-01")

@dg.asset(partitions_def=DAYS)
def raw(context):
    return pd.DataFrame({"batch_date": [date.fromisoformat(context.partition_key)], "n": [int(os.environ["N"])]})

@dg.asset(partitions_def=DAYS, metadata={"publish": "after_checks"})
def orders(raw: pd.DataFrame):
    return raw

@dg.asset(partitions_def=DAYS)
def report(orders: pd.DataFrame):
    return orders

@dg.asset_check(asset=orders, blocking=True)
def positive(duckdb: DuckDBResource):
    with duckdb.get_connection() as connection:
        [[least]] = connection.execute("SELECT min(n) FROM main.orders").fetchall()
    return dg.AssetCheckResult(passed=least > 0)

place = os.environ["PLACE"]
without_checks = dg.define_asset_job("without_checks", selection=dg.AssetSelection.all().without_checks())
resources = {"io_manager": DuckDBPartitionIOManager(url=place), "duckdb": DuckDBResource(database=place)}
assets = [raw, orders, report]
defs = checked(dg.Definitions(assets, asset_checks=[positive], resources=resources, jobs=[without_checks]))
"""


@pytest.mark.long
def test_a_process_a_step_runs_the_checks_of_the_code_location_even_in_a_job_that_leaves_them_out(
    tmp_path: Path,
) -> None:
    place, file = tmp_path / "w.duckdb", tmp_path / "definitions.py"
    file.write_text(OF_A_FILE)
    (tmp_path / "dagster.yaml").touch()
    tags = json.dumps(utc.run_tags(FIRST, FIRST))
    command = ["-m", "dagster", "job", "execute", "-f", str(file), "-j", "without_checks", "--tags", tags]
    ended = [
        subprocess.run(
            [sys.executable, *command],
            env={**os.environ, "DAGSTER_HOME": str(tmp_path), "PLACE": str(place), "N": number},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        for number in ("5", "-5")
    ]
    assert [one.returncode for one in ended] == [0, 1], ended[0].stderr
    assert "multiprocess" in ended[0].stderr and "check positive failed" in ended[1].stderr
    with duckdb.connect(str(place), config=dict(CONFIG)) as connection:
        assert connection.execute("SELECT n FROM orders UNION ALL SELECT n FROM report").fetchall() == [(5,), (5,)]
        assert connection.execute("SELECT asset FROM main_candidates.etl_candidates").fetchall() == [("orders",)]
