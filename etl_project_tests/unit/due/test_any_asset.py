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
from etl_project.declare.checks import by_partition
from etl_project.definitions import wire
from etl_project.due import check_verdicts, sensor
from etl_project.due.attempts import DAYS_JOB, REFUSE_JOB
from etl_project.due.drain import Drained, Wish, drain
from etl_project.due.execution import Deployment
from etl_project.due.following import nodes
from etl_project.due.snapshot import Project, look, outlook
from etl_project.exclusion.locks import TaskLock
from etl_project.http_out import settings as delivery_settings
from etl_project.http_out.resource import Delivery
from etl_project.storage import DuckDBStore
from etl_project.watch.alerts import alerts
from etl_project.watch.status import status

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


def test_a_check_that_passed_in_a_run_that_failed_elsewhere_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}

    @dg.asset_check(asset=dg.AssetKey("moves"), blocking=True)
    def positive() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    @dg.asset_check(asset=dg.AssetKey("moves"))
    def breaks() -> dg.AssetCheckResult:
        raise RuntimeError("broken")

    with world(tmp_path, monkeypatch, [amounts_of(made), copy("report")], [positive, breaks]) as found:
        made["world"] = found
        assert not found.build("moves", MARCH[0])
        assert [one.assets for one in found.drain().succeeded] == [("report",)]
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


def test_a_dropped_table_is_said_and_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), copy("report"), copy("other")]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:3])
        found.drain()
        before = found.query("from report order by all")
        found.query("drop table report")
        snapshot = look(found.deployment.project, utc.now())
        assert snapshot.gone == {"report": ("report", 3)}
        assert any("its table report is gone" in line for line in found.waits())
        told = status(found.deployment.project, found.deployment.instance, snapshot)
        [report] = [one for one in told.assets if one.asset == "report"]
        assert (report.committed, report.missing, len(told.gone)) == (0, 3, 1)
        done = found.drain()
        assert [one.assets for one in done.succeeded] == [("report",)] * 3 and len(done.gone) == 1
        assert found.query("from report order by all") == before
        again = found.drain()
        assert (again.runs, again.gone) == (0, [])


def test_a_red_check_is_in_what_a_drain_reports_in_status_and_in_alerts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    good: list[bool] = []

    @dg.asset_check(asset=dg.AssetKey("report"))
    def plausible() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=bool(good), description=None if good else "twice as much as yesterday")

    @dg.asset_check(asset=dg.AssetKey("report"))
    def only_warns() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)

    with world(tmp_path, monkeypatch, [amounts_of(made), copy("report")], [plausible, only_warns]) as found:
        made["world"] = found
        project, instance = found.deployment.project, found.deployment.instance

        def red() -> list[str]:
            checks = check_verdicts.red_checks(instance, found.definitions.resolve_asset_graph().asset_check_keys)
            snapshot = look(project, utc.now())
            assert status(project, instance, snapshot, checks).red_checks == tuple(map(str, checks))
            assert [one.content["check"] for one in alerts(project, snapshot, checks)] == [one.name for one in checks]
            return list(map(str, checks))

        found.build("moves", MARCH[0])
        done = found.drain()
        assert (done.failed, done.all_well) == ([], False)
        assert [str(check) for check in done.red.values()] == red()
        assert red() == ["report: plausible failed: twice as much as yesterday"]
        good.append(True)
        found.amounts[MARCH[0]] = 2
        found.build("moves", MARCH[0])
        assert found.drain().all_well and red() == []


def test_a_drain_beside_a_run_that_holds_an_asset_waits_once_names_it_and_builds_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    single = dg.BackfillPolicy.single_run()

    @dg.asset(partitions_def=DAYS, deps=["moves"], backfill_policy=single)
    def held(context: dg.AssetExecutionContext) -> pd.DataFrame:
        return pd.DataFrame({"batch_date": [pd.Timestamp(key).date() for key in context.partition_keys]})

    @dg.asset(partitions_def=DAYS)
    def others(context: dg.AssetExecutionContext) -> pd.DataFrame:
        return pd.DataFrame({"batch_date": [pd.Timestamp(context.partition_key).date()]})

    @dg.asset(partitions_def=DAYS, backfill_policy=single)
    def free(others: pd.DataFrame) -> pd.DataFrame:
        return others

    with world(tmp_path, monkeypatch, [amounts_of(made), held, others, free]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:8])
        found.build("others", *MARCH[:8])
        lock = TaskLock(found.deployment.project.settings.state)
        other = [("held", day) for day in MARCH[:8]]
        lease = lock.take("the other run", other, 0)
        done = found.drain()
        assert done.busy is not None and "the other run" in done.busy and not done.all_well
        assert [one.assets for one in done.failed] == [("held",)], "it is not halved"
        assert found.query("select count(*) from free") == [(8,)]
        lease.release()
        assert found.drain().all_well and found.query("select count(*) from held") == [(8,)]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_check_by_partition_holds_the_bad_day_of_a_range_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    policy = dg.BackfillPolicy.single_run() if at_once else None
    amounts = {MARCH[0]: 1, MARCH[1]: -1, MARCH[2]: 3}

    @dg.asset(partitions_def=DAYS, backfill_policy=policy)
    def clean(context: dg.AssetExecutionContext, moves: pd.DataFrame) -> pd.DataFrame:
        days = context.partition_keys
        return pd.DataFrame({"batch_date": [pd.Timestamp(d).date() for d in days], "n": [amounts[d] for d in days]})

    @dg.asset_check(asset=clean, blocking=True, partitions_def=DAYS)
    def positive(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        found = {key: dg.AssetCheckResult(passed=amounts[key] > 0) for key in context.partition_keys}
        return by_partition(context, found)

    @dg.asset(partitions_def=DAYS)
    def report(clean: pd.DataFrame) -> pd.DataFrame:
        return clean

    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), clean, report], [positive]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:3])
        done = found.drain()
        assert found.query("select n from report order by all") == [(1,), (3,)]
        assert {(check.name, check.partition) for check in done.red.values() if check.partition} == {
            ("positive", MARCH[1])
        }
        checks = check_verdicts.red_checks(
            found.deployment.instance, found.definitions.resolve_asset_graph().asset_check_keys
        )
        assert [(check.name, check.partition) for check in checks] == [("positive", MARCH[1])]
        amounts[MARCH[1]] = 2
        assert found.build("clean", MARCH[1]) and found.drain().all_well
        assert found.query("select n from report order by all") == [(1,), (2,), (3,)]
        assert (found.drain().runs, found.waits()) == (0, [])
