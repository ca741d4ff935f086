"""A drain over assets of a user's own that have checks: what a red one holds, and where it is said."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from etl_project import utc
from etl_project.declare.checks import by_partition
from etl_project.due import check_verdicts
from etl_project.due.snapshot import look, outlook
from etl_project.watch.alerts import alerts
from etl_project.watch.status import status
from etl_project_tests.unit.due.own_assets import DAYS, MARCH, World, amounts_of, copy, world


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


@pytest.mark.parametrize("at_once", [True, pytest.param(False, marks=pytest.mark.long)])
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
