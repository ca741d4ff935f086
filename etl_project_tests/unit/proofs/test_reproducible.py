"""Transforms that give other rows for the same input are caught; well-behaved ones never are.

Real Dagster runs on real stores. What differs from build to build in a real system (the clock, the scheduling of
threads, hash seeds) differs here by the number of the turn, so that it differs every time.
"""

# No `from __future__ import annotations` here: Dagster reads annotations as they stand.

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from etl_project.proofs import reproducible
from etl_project.proofs.verify.targets import stored_assets
from etl_project.storage import Slice, Sql
from etl_project.storage.contract import Commit, Deviation
from etl_project_tests.unit.proofs.transforms import BAD, DAILY, DAYS, FIRST, GOOD, World, by_sql


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.ephemeral(str(tmp_path / "home")) as instance:
        yield World(tmp_path, instance)


def test_six_kinds_of_transforms_that_are_not_reproducible_are_all_caught_by_name(world: World) -> None:
    definitions = world.definitions([make(world) for make, _ in BAD.values()])
    first = world.built(definitions)
    assert all(evaluation.passed for evaluation in first.values()), first
    second = world.built(definitions)
    assert {name for name, evaluation in second.items() if not evaluation.passed} == set(BAD)
    commits = world.commits()
    for name, (_, columns) in BAD.items():
        found = commits[name, str(FIRST)].deviation
        assert found is not None and set(found.columns) == columns and 0 < len(found.examples) <= 5, found
        assert second[name].severity == dg.AssetCheckSeverity.ERROR
        said = str(second[name].description)
        assert all(part in said for part in (str(FIRST), f"columns that differ: {', '.join(found.columns)}")), said


@pytest.mark.long
def test_twelve_well_behaved_transforms_give_no_alarm_over_fifty_rebuilds(world: World) -> None:
    """Five turns over ten days each; then the input is corrected and every day has other rows, which is no alarm."""
    assert len(GOOD) == 12
    definitions = world.definitions([make(world) for make in GOOD])
    world.built(definitions, DAYS)
    seen = []
    for turn in range(7):
        if turn == 5:
            world.file, world.extra = "version 2", 4
        results = world.built(definitions, DAYS)
        assert all(evaluation.passed for evaluation in results.values()), results
        seen.append({key: commit.fingerprint for key, commit in world.commits().items()})
    assert seen[0] == seen[4] != seen[5] == seen[6]
    assert len(seen[6]) == 13 * len(DAYS)


def test_a_red_check_stays_red_until_three_rebuilds_repeat_the_rows(world: World) -> None:
    definitions = world.definitions([BAD["picks"][0](world)])
    world.built(definitions, DAYS[:2])
    world.built(definitions, DAYS[:2])
    assert world.built(definitions, DAYS[2:3])["picks"].passed
    assert world.red_days() == set(map(str, DAYS[:2])), "another day does not make these two good, nor they it bad"
    for repeats in range(4):  # The day alone comes in another order than among others, so the first repeats nothing.
        world.turn = 1
        assert world.built(definitions, DAYS[:1])["picks"].passed is (repeats == 3)
        assert world.red_days() == {str(day) for day in DAYS[repeats == 3 : 2]}
    for _ in range(4):
        world.turn = 50
        last = world.built(definitions, DAYS[1:2])["picks"]
    assert last.passed and world.red_days() == set(), last


def test_new_code_and_new_input_may_give_new_rows(world: World) -> None:
    picks = BAD["picks"][0](world)
    world.built(world.definitions([picks]))
    assert world.built(world.definitions([picks], version="2"))["picks"].passed
    world.file, world.extra = "version 2", 1
    assert world.built(world.definitions([picks], version="2"))["picks"].passed
    assert not world.built(world.definitions([picks], version="2"))["picks"].passed


def test_an_asset_over_other_rows_of_its_input_is_not_blamed_for_them(world: World) -> None:
    """The pick upstream is not reproducible; what is built from it is."""

    @dg.asset(partitions_def=DAILY)
    def after(picks: Slice) -> Sql:
        return Sql("select batch_date, sum(n) as total from picks group by all", picks=picks)

    definitions = world.definitions([BAD["picks"][0](world), after])
    world.built(definitions)
    results = world.built(definitions)
    assert not results["picks"].passed and results["after"].passed


def test_an_input_without_a_fingerprint_is_not_checked_which_is_no_pass(world: World) -> None:
    world.file = None
    definitions = world.definitions([])
    for _ in range(2):
        world.extra += 1
        found = world.built(definitions)["lines"]
        assert not found.passed and found.severity == dg.AssetCheckSeverity.WARN
        assert found.metadata["status"].value.startswith("not checked: an input of 1 of 1")


def test_an_asset_without_a_code_version_is_not_checked(world: World) -> None:
    plain = dg.Definitions(assets=[world.lines, by_sql("copied", "from lines")], executor=dg.in_process_executor)
    checks = reproducible.checks(stored_assets(plain, world.resources))
    definitions = dg.Definitions.merge(plain, dg.Definitions(asset_checks=checks, resources=world.resources))
    found = world.built(definitions)["copied"]
    assert not found.passed and found.metadata["status"].value == "not checked: the asset has no code version"


def test_a_first_build_passes_and_says_that_there_was_nothing_to_compare(world: World) -> None:
    definitions = world.definitions([])
    first, second = world.built(definitions)["lines"], world.built(definitions)["lines"]
    assert first.passed and first.metadata["status"].value == "first build"
    assert second.passed and second.metadata["status"].value == "reproducible"


def test_a_config_other_than_the_default_may_give_other_rows(world: World) -> None:
    class Rate(dg.Config):
        percent: int = 20

    @dg.asset(partitions_def=DAILY)
    def taxed(config: Rate, lines: pa.Table) -> pa.Table:
        return pa.table({"batch_date": pa.array([FIRST], pa.date32()), "tax": [config.percent]})

    definitions = world.definitions([taxed])
    for percent in (20, 19, 19, 20):
        assert world.built(definitions, ops={"taxed": {"config": {"percent": percent}}})["taxed"].passed


def test_every_output_of_a_multi_asset_has_a_check_of_its_own(world: World) -> None:
    @dg.multi_asset(
        outs={"sure": dg.AssetOut(), "unsure": dg.AssetOut(io_manager_key="lake")},
        partitions_def=DAILY,
        deps=["lines"],
    )
    def both() -> Any:
        table = pa.table({"batch_date": pa.array([FIRST], pa.date32()), "n": [1]})
        yield dg.Output(table, "sure")
        yield dg.Output(table.append_column("at", pa.array([datetime.now(UTC)])), "unsure")

    definitions = world.definitions([both])
    world.built(definitions)
    results = world.built(definitions)
    assert results["sure"].passed and not results["unsure"].passed
    assert results["unsure"].metadata["columns"].value == "at"


def test_the_event_of_a_day_that_is_not_reproducible_says_so(world: World) -> None:
    definitions = world.definitions([BAD["dice"][0](world)])
    for _ in range(2):
        world.built(definitions, DAYS[:2])
    event = world.instance.get_latest_materialization_event(dg.AssetKey("dice"))
    assert event is not None and event.asset_materialization is not None
    assert str(event.asset_materialization.metadata["not reproducible"].value).startswith("columns that differ: score")


def test_the_verdict_lists_some_days_and_counts_the_others() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    good = Commit("a", "2024-01-01", 2, "r", "v", "h", "1:1:2", 1, 1, 0, 0, 1, True, at)
    red = [
        replace(good, partition=f"2024-02-{n:02}", deviation=Deviation("1:1:1", ("x",), (), None)) for n in range(1, 16)
    ]
    result = reproducible.result([good, *red])
    assert not result.passed and result.metadata["partitions not reproducible"].value == 15
    assert "2024-02-10: columns that differ: x" in str(result.description) and "and 5 more" in str(result.description)
    assert reproducible.result([]).severity == dg.AssetCheckSeverity.WARN
