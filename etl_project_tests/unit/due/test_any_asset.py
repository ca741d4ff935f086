"""A drain over assets of a user's own: weeks, lookups, blocking checks, running balances, on real stores and runs."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from etl_project import settings, utc
from etl_project.definitions import wire
from etl_project.due import check_verdicts, sensor
from etl_project.due.attempts import DAYS_JOB, REFUSE_JOB
from etl_project.due.drain import Drained, Wish, drain
from etl_project.due.execution import Deployment
from etl_project.due.following import nodes
from etl_project.due.snapshot import Project, look, outlook
from etl_project.http_in import settings as delivery_settings
from etl_project.http_out.resource import Delivery
from etl_project.storage import DuckDBStore

DAYS = dg.DailyPartitionsDefinition("2025-03-01", timezone="UTC", end_offset=1)
WEEKS = dg.WeeklyPartitionsDefinition("2025-03-02", timezone="UTC")
MARCH = [f"2025-03-{n:02}" for n in range(1, 32)]


class World:
    """A project made of some assets; `amounts` are what the first asset gives for a day."""

    def __init__(self, deployment: Deployment, definitions: dg.Definitions) -> None:
        self.deployment, self.definitions = deployment, definitions
        self.amounts: dict[str, int] = {}

    def build(self, asset: str, *days: str, **tags: str) -> bool:
        """Build an asset by hand, one run a day; whether all went well."""
        job = self.deployment.jobs[DAYS_JOB if asset != "week" else "build_weeks"]
        made = [
            job.execute_in_process(
                instance=self.deployment.instance,
                asset_selection=[dg.AssetKey(asset)],
                tags={**({utc.PARTITION_TAG: day} if day else {}), **tags},
                raise_on_error=False,
            )
            for day in days
        ]
        return all(one.success for one in made)

    def drain(self, **wish: Any) -> Drained:
        return drain(self.deployment, wish=Wish(**wish))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with DuckDBStore(self.deployment.project.settings.warehouse).connect() as connection:
            return connection.execute(sql).fetchall()

    def waits(self) -> list[str]:
        """What the sensor says of what it does not ask for."""
        found = look(self.deployment.project, utc.now())
        return sensor.decide(self.deployment.project, found, self.deployment.instance)[1]


@contextmanager
def world(
    folder: Path, monkeypatch: pytest.MonkeyPatch, assets: Sequence[Any], checks: Sequence[Any] = ()
) -> Iterator[World]:
    environment = {"ETL_DATA_DIR": str(folder), "ETL_START_DATE": "2025-03-01", "ETL_WAIT_SECONDS": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    configured = settings.load()
    delivery = Delivery(delivery_settings.outgoing(), configured.data_dir / "delivery.sqlite")
    declared = dg.Definitions(assets=assets, asset_checks=checks, resources={"delivery": delivery})
    project = Project(configured, (), nodes(declared))
    definitions = wire(project, declared, weekly_checks=False)
    with dg.DagsterInstance.ephemeral() as instance:
        jobs = {name: definitions.resolve_job_def(name) for name in {*(node.job for node in project.nodes), REFUSE_JOB}}
        yield World(Deployment(project, jobs, instance), definitions)


def amounts_of(made: "dict[str, World]") -> dg.AssetsDefinition:
    """An asset `moves` with one row a day: what its world says."""

    @dg.asset(partitions_def=DAYS)
    def moves(context: dg.AssetExecutionContext) -> pd.DataFrame:
        day = context.partition_key
        amount = made["world"].amounts.get(day, 1)
        return pd.DataFrame({"batch_date": [pd.Timestamp(day).date()], "amount": [amount]})

    return moves


def copy(name: str, partitions: Any = DAYS, **options: Any) -> dg.AssetsDefinition:
    @dg.asset(name=name, partitions_def=partitions, metadata={"partition_column": "batch_date"}, **options)
    def body(moves: pd.DataFrame) -> pd.DataFrame:
        return moves

    return body


def test_a_week_is_built_once_its_days_are_there_and_again_when_one_of_them_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), copy("week", WEEKS)]) as found:
        made["world"] = found
        assert found.build("moves", *MARCH[1:7])
        assert found.drain().runs == 0, "the week of 2 March lacks its Saturday"
        assert found.build("moves", MARCH[7])
        assert [(str(one.first), one.assets) for one in found.drain().succeeded] == [("2025-03-02", ("week",))]
        assert found.query("select sum(amount), count(*) from week") == [(7, 7)]
        found.amounts[MARCH[3]] = 10
        assert found.build("moves", MARCH[3]) and found.drain().runs == 1
        assert found.query("select sum(amount), count(*) from week") == [(16, 7)]
        assert found.drain().runs == 0


def test_a_day_is_built_again_when_the_lookup_without_partitions_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    factor = [2]

    @dg.asset
    def factors() -> pd.DataFrame:
        return pd.DataFrame({"factor": factor})

    @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def scaled(moves: pd.DataFrame, factors: pd.DataFrame) -> pd.DataFrame:
        return moves.assign(amount=moves["amount"] * int(factors["factor"].iloc[0]))

    with world(tmp_path, monkeypatch, [amounts_of(made), factors, scaled]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:3])
        assert found.drain().runs == 0
        assert found.build("factors", "")
        assert found.drain().runs == 1
        assert found.query("select sum(amount) from scaled") == [(6,)]
        factor[0] = 5
        assert found.build("factors", "") and found.drain().runs == 1
        assert found.query("select sum(amount) from scaled") == [(15,)]
        assert found.drain().runs == 0


def test_an_asset_without_partitions_is_built_of_all_days_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}

    @dg.asset
    def total(moves: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"total": [int(moves["amount"].sum())]})

    with world(tmp_path, monkeypatch, [amounts_of(made), total]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:3])
        assert (found.drain().runs, found.drain().runs) == (1, 0)
        found.build("moves", MARCH[9])
        assert (found.drain().runs, found.drain().runs) == (1, 0)
        assert found.query("select total from total") == [(4,)]


def test_an_asset_without_partitions_that_only_names_what_it_reads_is_built_of_all_days_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}

    @dg.asset(deps=["moves"])
    def total() -> pd.DataFrame:
        return pd.DataFrame({"total": made["world"].query("select sum(amount) as total from moves")[0]})

    with world(tmp_path, monkeypatch, [amounts_of(made), total]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:3])
        assert (found.drain().runs, found.drain().runs) == (1, 0)
        found.build("moves", MARCH[9])
        assert (found.drain().runs, found.drain().runs) == (1, 0)
        assert found.query("select total from total") == [(4,)]


def test_what_is_downstream_of_a_red_blocking_check_is_held_until_it_passes_or_the_day_is_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    lenient: list[str] = []

    @dg.asset_check(asset=dg.AssetKey("moves"), blocking=True)
    def positive(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        day = context.run.tags[utc.PARTITION_TAG]
        good = day in lenient or made["world"].amounts.get(day, 1) > 0
        return dg.AssetCheckResult(passed=good, description=None if good else f"{day} is negative")

    with world(tmp_path, monkeypatch, [amounts_of(made), copy("report")], [positive]) as found:
        made["world"] = found
        found.amounts = {MARCH[1]: -5, MARCH[2]: -7}
        assert not found.build("moves", *MARCH[:4])
        assert [(str(one.first), one.assets) for one in found.drain().succeeded] == [
            (MARCH[0], ("report",)),
            (MARCH[3], ("report",)),
        ]
        assert found.query("select count(*) from report") == [(2,)]
        done = found.drain()
        assert (done.runs, done.all_well) == (0, True)
        assert any(f"{MARCH[1]} is negative" in line and "report" in line for line in done.held), done.held
        assert any(f"{MARCH[2]} is negative" in line for line in found.waits())

        found.amounts[MARCH[1]] = 5
        assert found.build("moves", MARCH[1]) and found.drain().runs == 1, "rebuilt"
        lenient.append(MARCH[2])
        checks = dg.define_asset_job("checks", selection=dg.AssetSelection.checks(*positive.check_keys))
        job = dg.Definitions.merge(found.definitions, dg.Definitions(jobs=[checks])).resolve_job_def("checks")
        assert job.execute_in_process(instance=found.deployment.instance, tags={utc.PARTITION_TAG: MARCH[2]}).success
        assert found.drain().runs == 1, "it passed"
        assert found.query("select count(*) from report") == [(4,)]
        assert found.waits() == []


def test_a_check_that_broke_off_is_run_again_with_its_asset_before_anything_is_built_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    broken = [True]

    @dg.asset_check(asset=dg.AssetKey("moves"), blocking=True)
    def positive() -> dg.AssetCheckResult:
        if broken[0]:
            raise RuntimeError("the machine went away")
        return dg.AssetCheckResult(passed=True)

    with world(tmp_path, monkeypatch, [amounts_of(made), copy("report")], [positive]) as found:
        made["world"] = found
        assert not found.build("moves", MARCH[0])
        broken[0] = False
        assert [one.assets for one in found.drain().succeeded] == [("moves", "report")]
        assert found.drain().runs == 0


def balance() -> dg.AssetsDefinition:
    before = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)

    @dg.asset(name="balance", partitions_def=DAYS, ins={"balance": dg.AssetIn(partition_mapping=before)})
    def body(moves: pd.DataFrame, balance: pd.DataFrame) -> pd.DataFrame:
        before = int(balance["total"].sum())
        return pd.DataFrame({"batch_date": moves["batch_date"], "total": before + moves["amount"]})

    return body


def test_a_balance_starts_is_built_in_order_and_follows_a_correction_when_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), balance()]) as found:
        made["world"] = found
        found.amounts = dict.fromkeys(MARCH, 10)
        found.build("moves", *MARCH[4:8])
        done = found.drain()
        assert [str(one.first) for one in done.succeeded] == MARCH[4:8] and done.all_well
        totals = "select total from balance order by batch_date"
        assert found.query(totals) == [(10,), (20,), (30,), (40,)]
        assert found.drain().runs == 0

        found.amounts[MARCH[5]] = 110
        found.build("moves", MARCH[5])
        done = found.drain()
        assert [str(one.first) for one in done.succeeded] == [MARCH[5]]
        assert found.query(totals) == [(10,), (120,), (30,), (40,)]
        assert any("etl drain --through balance" in line and f"{MARCH[6]} to {MARCH[7]}" in line for line in done.held)
        done = found.drain(through=("balance",))
        assert [str(one.first) for one in done.succeeded] == MARCH[6:8]
        assert found.query(totals) == [(10,), (120,), (130,), (140,)]
        assert found.drain(through=("balance",)).runs == 0 and found.waits() == []


def test_a_balance_is_not_built_over_a_range_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), balance()]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:3])
        found.drain()
        before = found.query("from balance")
        ends = {utc.RANGE_START_TAG: MARCH[0], utc.RANGE_END_TAG: MARCH[2]}
        assert not found.build("balance", "", **ends)
        assert found.query("from balance") == before


def test_a_look_at_checks_reads_no_more_than_the_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, World] = {}

    @dg.asset_check(asset=dg.AssetKey("moves"), blocking=True)
    def positive() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    with world(tmp_path, monkeypatch, [amounts_of(made)], [positive]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:3])
        asked: list[Any] = []
        storage = found.deployment.instance.event_log_storage
        real = storage.get_asset_check_execution_history

        def history(*arguments: Any, **options: Any) -> Any:
            asked.append(options["status"])
            return real(*arguments, **options)

        monkeypatch.setattr(storage, "get_asset_check_execution_history", history)
        snapshot = look(found.deployment.project, utc.now())
        red = check_verdicts.red(found.deployment.project.nodes, snapshot.commits, found.deployment.instance)
        assert (red, len(asked)) == ({}, 1)
        assert outlook(found.deployment.project, snapshot, red=red).due == []
