"""A drain over assets of a user's own: weeks, lookups, running balances, on real stores and runs."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from etl_project import utc
from etl_project.due.snapshot import look
from etl_project.exclusion.locks import TaskLock
from etl_project.watch.status import status
from etl_project_tests.unit.due.own_assets import DAYS, MARCH, WEEKS, World, amounts_of, copy, world


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


@pytest.mark.long
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
