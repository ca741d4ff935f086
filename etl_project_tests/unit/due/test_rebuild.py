"""What a person asks for by name: days built again, what other code built, what failed for good."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from etl_project import utc
from etl_project.due.drain import Wish, ahead
from etl_project.due.rebuild import NothingAskedFor, Plan, Span, plan, rebuild, stale
from etl_project.due.snapshot import NoSuchAsset, look
from etl_project.storage.contract import WriteRefused
from etl_project_tests.unit.due.own_assets import DAYS, MARCH, World, amounts_of, world

SPAN = Span(date(2025, 3, 1), date(2025, 3, 5))


def report(version: str, bad: list[str]) -> dg.AssetsDefinition:
    @dg.asset(name="report", partitions_def=DAYS, code_version=version, backfill_policy=dg.BackfillPolicy.single_run())
    def body(moves: pd.DataFrame) -> pd.DataFrame:
        found = {str(day) for day in moves["batch_date"]}
        if found & set(bad):
            raise WriteRefused(f"no good: {', '.join(sorted(found & set(bad)))}. Retrying does not help.")
        return moves.assign(version=version)

    return body


def planned(found: World, *assets: str, span: Span = SPAN) -> Plan:
    project = found.deployment.project
    snapshot = look(project, utc.now())
    return plan(project, snapshot, ahead(found.deployment, snapshot, Wish()), assets, span)


def silent(*_: Any) -> None:
    """Nobody listens."""


def test_a_range_with_a_missing_day_builds_the_good_days_and_leaves_nothing_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), report("1", [])]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:2], *MARCH[3:5])
        asked = planned(found, "report")
        assert [(str(one.first), str(one.last)) for one in asked.runs] == [(MARCH[0], MARCH[1]), (MARCH[3], MARCH[4])]
        assert asked.left_out == [f"report {MARCH[2]}: left out, it has no input to be built of"]
        for _ in range(2):
            done = rebuild(found.deployment, planned(found, "report").runs, silent)
            assert (len(done.succeeded), done.all_well) == (2, True)
            assert found.query("select count(*) from report") == [(4,)]
        assert (found.drain().runs, found.waits()) == (0, [])


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def top(report: pd.DataFrame) -> pd.DataFrame:
    return report[["batch_date", "amount"]]


def test_days_whose_input_is_not_built_yet_are_left_out_unless_it_is_built_in_the_same_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), report("1", []), top]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:3])
        found.build("report", MARCH[0])
        alone = planned(found, "top", span=Span(date(2025, 3, 1), date(2025, 3, 3)))
        assert [(str(one.first), str(one.last)) for one in alone.runs] == [(MARCH[0], MARCH[0])]
        assert alone.left_out == [f"top {MARCH[1]} to {MARCH[2]}: left out, it has no input to be built of"]
        done = rebuild(found.deployment, planned(found, "report", "top").runs, silent)
        assert done.all_well and found.query("select count(*) from top") == [(3,)]


def test_a_span_whose_end_comes_before_its_beginning_is_refused() -> None:
    with pytest.raises(NothingAskedFor, match="--from 2025-03-05 comes after --to 2025-03-02"):
        Span(date(2025, 3, 5), date(2025, 3, 2))


def test_only_the_day_at_fault_of_a_rebuild_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, World] = {}
    bad: list[str] = []
    with world(tmp_path, monkeypatch, [amounts_of(made), report("1", bad)]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:5])
        found.drain()
        found.amounts = dict.fromkeys(MARCH, 7)
        found.build("moves", *MARCH[:5])
        bad.append(MARCH[2])
        done = rebuild(found.deployment, planned(found, "report").runs, silent)
        assert not done.all_well and str(done.failed[-1].first) == str(done.failed[-1].last) == MARCH[2]
        assert found.query("select amount from report order by batch_date") == [(7,), (7,), (1,), (7,), (7,)]


def test_what_other_code_built_is_listed_and_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), report("1", [])]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:5])
        found.drain()
    with world(tmp_path, monkeypatch, [amounts_of(made), report("2", [])]) as found:
        made["world"] = found
        assert found.drain().runs == 0, "new code alone asks for nothing"
        project = found.deployment.project
        some = stale(project, look(project, utc.now()), [], Span(date(2025, 3, 4)))
        assert [(one.assets, one.span) for one in some.runs] == [(("report",), f"{MARCH[3]} to {MARCH[4]}")]
        everything = stale(project, look(project, utc.now()), ["report"], Span())
        assert rebuild(found.deployment, everything.runs, silent).all_well
        assert found.query("select distinct version from report") == [("2",)]
        assert stale(project, look(project, utc.now()), [], Span()).runs == []


def test_a_name_that_no_asset_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made)]) as found, pytest.raises(NoSuchAsset, match="there are moves"):
        planned(found, "move")


def test_what_failed_for_good_is_tried_again_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, World] = {}
    bad = [MARCH[2]]
    with world(tmp_path, monkeypatch, [amounts_of(made), report("1", bad)]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:5])
        assert not found.drain().all_well
        bad.clear()
        again = found.drain()
        assert again.runs == 0 or again.all_well
        assert found.drain(for_good_too=True).all_well
        assert found.query("select count(*) from report") == [(5,)]
        assert found.drain().runs == 0


def test_a_drain_of_selected_assets_builds_them_and_what_they_are_built_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}

    @dg.asset(partitions_def=DAYS)
    def other(moves: pd.DataFrame) -> pd.DataFrame:
        return moves

    with world(tmp_path, monkeypatch, [amounts_of(made), report("1", []), other]) as found:
        made["world"] = found
        found.build("moves", MARCH[0])
        assert [one.assets for one in found.drain(select=("report",)).succeeded] == [("report",)]
        assert [one.assets for one in found.drain().succeeded] == [("other",)]
        with pytest.raises(NoSuchAsset):
            found.drain(select=("reprot",))


def test_a_change_beyond_the_limits_of_a_table_passes_a_drain_that_is_told_it_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset(partitions_def=DAYS, metadata={"max_changed_ratio": 0.1})
    def guarded(moves: pd.DataFrame) -> pd.DataFrame:
        return moves

    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), guarded]) as found:
        made["world"] = found
        found.build("moves", MARCH[0])
        found.drain()
        found.amounts = {MARCH[0]: 7}
        found.build("moves", MARCH[0])
        assert not found.drain().all_well and not found.drain(for_good_too=True).all_well
        assert "`etl drain --allow-change`" in found.waits()[0]
        assert found.query("select amount from guarded") == [(1,)]
        assert found.drain(allow_change=True, for_good_too=True).all_well
        assert found.query("select amount from guarded") == [(7,)] and found.drain().runs == 0
