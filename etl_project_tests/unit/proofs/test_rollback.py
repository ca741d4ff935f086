"""Going back: days get earlier rows again, are pinned to them, and what reads them follows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from etl_project.cli import rollback as rollback_command
from etl_project.cli import unpin as unpin_command
from etl_project.cli.main import load
from etl_project.declare.daily_table import daily
from etl_project.exclusion import RunLock
from etl_project.proofs import Stored, chosen, rollback, rollback_job, stored_assets
from etl_project.storage import DuckDBPartitionIOManager, DuckDBStore, ParquetPartitionIOManager, ParquetStore, Store
from etl_project.storage.contract import (
    PartlyCommitted,
    Request,
    Scope,
    Table,
    WriteRefused,
    built_from,
    is_asked_again,
)
from etl_project.storage.judging.commits import from_json, to_json

DAYS = [date(2024, 1, day) for day in (1, 2, 3)]
DAY, NEXT = DAYS[0].isoformat(), DAYS[1].isoformat()
TABLE = Table("orders", "orders", keep_versions=3, max_removed_ratio=0.1)


def owner() -> None:
    """Nobody took the lock away."""


def rows(*numbers: int, days: tuple[date, ...] = (DAYS[0],)) -> pa.Table:
    records = [(day, number) for day in days for number in numbers]
    return pa.table(
        {
            "batch_date": pa.array([day for day, _ in records], pa.date32()),
            "n": pa.array([number for _, number in records], pa.int64()),
        }
    )


class World:
    def __init__(self, folder: Path, kind: str, table: Table = TABLE) -> None:
        store: Store = DuckDBStore(folder / "w.duckdb") if kind == "duckdb" else ParquetStore(folder / "lake")
        self.target = Stored("orders", table, daily(DAYS[0]), store)

    def put(self, *numbers: int, days: tuple[date, ...] = (DAYS[0],), inputs: str = "in", code: str = "code") -> Any:
        scope = Scope.days(days[0], days[-1])
        hashes: dict[str | None, str] = {day.isoformat(): inputs for day in days}
        request = Request("a run", code, hashes, allow_shrink=True)
        return self.target.store.replace(self.target.table, scope, rows(*numbers, days=days), request)

    def back(self, *keys: str, to: int | None = None, as_of: datetime | None = None, reason: str = "bad file") -> Any:
        planned = rollback.plan(self.target, keys or (DAY,), to, as_of)
        return rollback.roll_back(self.target, planned, "going back", reason, owner)

    def numbers(self, key: str = DAY) -> list[int]:
        found = self.target.store.arrow(self.target.store.read(self.target.table, self.target.scope([key])))
        return sorted(found.column("n").to_pylist())


@pytest.fixture(params=["duckdb", "parquet"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, request.param)


def test_the_rows_that_were_replaced_last_come_back_and_the_record_says_so(world: World) -> None:
    [good] = world.put(1, 2, 3)
    [bad] = world.put(9, inputs="bad file")
    [commit] = world.back()
    assert world.numbers() == [1, 2, 3] and commit.fingerprint == good.fingerprint
    assert (commit.restored.sequence, commit.restored.reason, commit.sequence) == (good.sequence, "bad file", 3)
    assert (commit.input_hash, commit.code_version) == (bad.input_hash, None)
    assert world.target.store.history("orders", DAY)[-1] == commit == from_json(to_json(commit))
    assert [one.partition for one in world.target.store.pinned(["orders"])] == [DAY]
    assert world.target.store.arrow(world.target.store.read_version(TABLE, DAY, bad.sequence)).num_rows == 1


def test_going_back_twice_does_not_bring_the_bad_rows_back(world: World) -> None:
    world.put(1)
    world.put(9)
    world.back()
    with pytest.raises(rollback.CannotRollBack, match="it was rolled back to commit 1 already"):
        world.back()
    with pytest.raises(rollback.CannotRollBack, match="those rows are there now"):
        world.back(to=1)
    assert world.numbers() == [1]
    world.back(to=2)
    assert world.numbers() == [9]


def test_the_same_inputs_and_code_are_refused_until_one_of_them_is_another(world: World) -> None:
    world.put(1)
    world.put(9, inputs="bad")
    world.back()
    for _ in range(2):
        with pytest.raises(WriteRefused, match=r"pinned to the rows of commit 1 \(bad file\).*\n.*etl unpin orders"):
            world.put(9, inputs="bad")
    assert world.numbers() == [1]
    world.put(5, inputs="bad", code="mended")
    assert world.numbers() == [5] and world.target.store.pinned(["orders"]) == []


def test_other_inputs_build_a_pinned_day_again(world: World) -> None:
    world.put(1)
    world.put(9, inputs="bad")
    world.back()
    [commit] = world.put(2, inputs="good")
    assert world.numbers() == [2] and commit.restored is None and commit.deviation is None


def test_the_same_rows_are_never_refused_and_end_the_pin(world: World) -> None:
    world.put(1)
    world.put(9, inputs="bad")
    world.back()
    world.put(1, inputs="bad")
    assert world.numbers() == [1] and world.target.store.pinned(["orders"]) == []


def test_a_range_over_a_pinned_day_builds_the_others(world: World) -> None:
    world.put(1, days=tuple(DAYS))
    world.put(9, days=tuple(DAYS), inputs="bad")
    world.back(NEXT)
    with pytest.raises(PartlyCommitted) as partly:
        world.put(7, days=tuple(DAYS), inputs="bad")
    assert list(partly.value.failures) == [NEXT]
    assert [world.numbers(day.isoformat()) for day in DAYS] == [[7], [1], [7]]


def test_an_unpinned_day_is_due_and_may_be_built(world: World) -> None:
    world.put(1)
    [replaced] = world.put(9, inputs="bad")
    world.back()
    [commit] = rollback.unpin(world.target, [DAY], "a run", owner)
    assert (world.numbers(), commit.restored) == ([1], None)
    assert is_asked_again(commit.input_hash) and built_from(commit.input_hash) == replaced.input_hash
    with pytest.raises(rollback.CannotRollBack, match="none is pinned"):
        rollback.unpin(world.target, [DAY], "a run", owner)
    world.put(9, inputs="bad")
    assert world.numbers() == [9]


def test_days_of_a_range_go_back_to_what_was_there_then(world: World) -> None:
    world.put(1, days=tuple(DAYS))
    world.put(2, days=(DAYS[1],))
    then = datetime.now(UTC)
    world.put(9, days=tuple(DAYS[:2]))
    planned = rollback.plan(world.target, [day.isoformat() for day in DAYS], None, then)
    assert [line.partition(":")[0] for line in planned.left] == ["2024-01-03"]
    rollback.roll_back(world.target, planned, "a run", "", owner)
    assert [world.numbers(day.isoformat()) for day in DAYS] == [[1], [2], [1]]


def test_a_range_goes_back_as_a_whole_or_not_at_all(world: World) -> None:
    world.put(1, days=(DAYS[0], DAYS[1]))
    world.put(9)
    with pytest.raises(rollback.CannotRollBack, match=r"nothing was changed: .*2024-01-02: no version is kept"):
        world.back(DAY, NEXT)
    assert world.numbers() == [9]


def test_a_day_goes_back_to_nothing_where_nothing_was_there(world: World) -> None:
    world.put()
    world.put(9, 8, 7)
    [commit] = world.back()
    assert world.numbers() == [] and commit.rows == 0


def test_the_only_version_that_is_kept_can_come_back(tmp_path: Path) -> None:
    for kind in ("duckdb", "parquet"):
        world = World(tmp_path / kind, kind, replace(TABLE, keep_versions=1))
        world.put(1, 2, days=tuple(DAYS))
        world.put(9, days=tuple(DAYS))
        world.back(*(day.isoformat() for day in DAYS))
        assert [world.numbers(day.isoformat()) for day in DAYS] == [[1, 2]] * 3
        kept = [version.rows for version in world.target.store.versions(world.target.table, DAY)]
        assert kept == [1], "the rows that were rolled back"


def test_a_default_that_fills_itself_is_no_content(tmp_path: Path) -> None:
    contract = (
        "CREATE TABLE orders (batch_date DATE, n BIGINT, loaded TIMESTAMP DEFAULT now(), code VARCHAR DEFAULT 'x')"
    )
    world = World(tmp_path, "duckdb", replace(TABLE, contract_sql=contract))
    [good] = world.put(1)
    world.put(9)
    [commit] = world.back()
    assert commit.fingerprint == good.fingerprint and world.numbers() == [1]
    [unpinned] = rollback.unpin(world.target, [DAY], "a run", owner)
    assert unpinned.fingerprint == good.fingerprint and not unpinned.changed


def test_rows_come_back_after_columns_were_added(world: World) -> None:
    [good] = world.put(1)
    more = rows(2).append_column("more", pa.array(["x"]))
    world.target.store.replace(TABLE, Scope.days(DAYS[0], DAYS[0]), more, Request("a run"))
    [commit] = world.back()
    assert commit.fingerprint == good.fingerprint and world.numbers() == [1]


def test_rows_that_were_edited_before_they_were_replaced_are_not_taken_for_the_commit(tmp_path: Path) -> None:
    world = World(tmp_path, "duckdb")
    world.put(1)
    with DuckDBStore(tmp_path / "w.duckdb").connect() as connection:
        connection.execute("UPDATE orders SET n = 5")
    world.put(9)
    with pytest.raises(WriteRefused, match="the rows were edited before they were replaced"):
        world.back()
    assert world.numbers() == [9]


def test_what_no_commit_left_cannot_come_back(world: World) -> None:
    world.put(1)
    with pytest.raises(rollback.CannotRollBack, match=r"no version is kept \(keep_versions: 3\)"):
        world.back()
    with pytest.raises(rollback.CannotRollBack, match="2024-01-02 was never committed"):
        world.back(NEXT)
    with pytest.raises(rollback.CannotRollBack, match="there is no commit 7; there are 1"):
        world.back(to=7)


class Project:
    """Two assets in Dagster, the jobs, and the commands over them."""

    def __init__(self, folder: Path, kind: str, instance: dg.DagsterInstance) -> None:
        self.instance, self.value = instance, 1
        self.lineage: dg.TableColumnLineage | None = None

        @dg.asset(partitions_def=daily(DAYS[0]), metadata={"keep_versions": 2}, code_version="1")
        def orders(context: dg.AssetExecutionContext) -> pd.DataFrame:
            if self.lineage is not None:
                context.add_output_metadata({"dagster/column_lineage": self.lineage})
            return pd.DataFrame({"batch_date": [date.fromisoformat(context.partition_key)], "n": [self.value]})

        place = {"duckdb": {"url": str(folder / "w.duckdb")}, "parquet": {"root": str(folder / "lake")}}[kind]
        manager = {"duckdb": DuckDBPartitionIOManager, "parquet": ParquetPartitionIOManager}[kind]
        lock = RunLock(state=str(folder / "state.sqlite"), wait_seconds=0.2)
        self.assets, self.resources = [orders], {"io_manager": manager(**place, run_lock=lock), "run_lock": lock}
        plain = dg.Definitions(assets=self.assets, resources=self.resources)
        jobs = rollback_job.jobs(stored_assets(plain))
        self.definitions = dg.Definitions.merge(plain, dg.Definitions(jobs=jobs))
        self.target = chosen(stored_assets(plain), ["orders"])[0]

    def build(self, value: int) -> bool:
        self.value = value
        done = dg.materialize(
            self.assets, resources=self.resources, partition_key=DAY, instance=self.instance, raise_on_error=False
        )
        return done.success

    def say(self, name: str, *arguments: str) -> int:
        code = load(name).main([*arguments], standalone_mode=False)
        return int(code or 0)


@pytest.fixture(params=["duckdb", "parquet"])
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    with dg.DagsterInstance.ephemeral() as instance:
        made = Project(tmp_path, request.param, instance)

        @contextmanager
        def opened(**_: Any) -> Iterator[Any]:
            settings = SimpleNamespace(confirm_days=31, wait_seconds=0)
            yield SimpleNamespace(
                definitions=made.definitions, instance=instance, project=SimpleNamespace(settings=settings)
            )

        for module in (rollback_command, unpin_command):
            monkeypatch.setattr(module, "opened", opened)
        yield made


def test_the_command_runs_the_job_and_dagster_knows_of_it(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert project.build(1) and project.build(2)
    assert project.say("rollback", "orders", "--day", DAY, "--reason", "wrong file") == 0
    assert "1 → 1 rows, as commit 1 had left them; pinned" in capsys.readouterr().out
    event = project.instance.get_latest_materialization_event(dg.AssetKey("orders"))
    assert event is not None and event.asset_materialization is not None
    [head] = project.target.store.last_commits().values()
    assert "wrong file; pinned until" in str(event.asset_materialization.metadata["restored"].value)
    assert (event.asset_materialization.tags or {})["dagster/data_version"] == head.fingerprint
    assert not project.build(2), "the same inputs and code"
    assert project.say("unpin", "orders", "--day", DAY) == 0
    assert project.build(2)
    with pytest.raises(rollback.CannotRollBack, match="none is pinned"):
        project.say("unpin", "orders", "--day", DAY)


def test_the_columns_behind_rows_that_come_back_are_said_with_their_event(project: Project) -> None:
    key = dg.AssetKey("orders")
    lineages = []
    for value in (1, 2):
        column = dg.TableColumnDep(dg.AssetKey("raw"), f"n{value}")
        project.lineage = dg.TableColumnLineage({"n": [column]})
        assert project.build(value)
        lineages.append(project.lineage)
    for command in (("rollback", "orders", "--day", DAY), ("unpin", "orders", "--day", DAY)):
        assert project.say(*command) == 0
        event = project.instance.get_latest_materialization_event(key)
        assert event is not None and event.asset_materialization is not None
        said: Any = event.asset_materialization.metadata["dagster/column_lineage"].value
        assert said == lineages[0], command


def test_a_day_that_a_run_is_building_is_not_rolled_back(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert project.build(1) and project.build(2)
    lock = project.resources["run_lock"]
    other = dg.DagsterRun(job_name="other", run_id="5a5f7c0e-0000-0000-0000-000000000000")
    with lock.holding(project.instance, other, [("orders", DAY)]):
        assert project.say("rollback", "orders", "--day", DAY) == 1
    assert "held by run 5a5f7c0e" in capsys.readouterr().out
    [head] = project.target.store.last_commits().values()
    assert head.restored is None
    assert project.say("rollback", "orders", "--day", DAY) == 0


@pytest.mark.parametrize("wrong", ["2025-03-20", "yesterday"])
def test_a_moment_without_its_offset_is_refused(wrong: str) -> None:
    with pytest.raises(rollback.CannotRollBack, match="is no time with its offset; write it like 20"):
        rollback_job.moment(wrong)


def test_pinned_days_are_told_in_one_line_each(world: World) -> None:
    world.put(1)
    world.put(9)
    world.back(reason="wrong file")
    [line] = map(rollback.pin_in_words, rollback.pins([world.target]))
    assert line.startswith("orders 2024-01-01 is pinned to the rows of commit 1 (wrong file) since 20")
