"""A day that was rolled back: its old inputs do not ask for it, nor may they rebuild it; its readers follow."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from pathlib import Path

import pytest

from etl_project import utc
from etl_project.due.drain import Wish, ahead
from etl_project.due.rebuild import Span, plan, rebuild, stale
from etl_project.due.snapshot import look
from etl_project.proofs import chosen, stored_assets
from etl_project.proofs import rollback as going_back
from etl_project_tests.unit.due.own_assets import MARCH, World, amounts_of, copy, world

DAY = MARCH[0]


def rolled_back(found: World, asset: str) -> None:
    job = found.definitions.resolve_job_def("rollback")
    form = {"ops": {"roll_back": {"config": {"asset": asset, "day": DAY, "reason": "wrong"}}}}
    assert job.execute_in_process(instance=found.deployment.instance, run_config=form).success


def test_a_day_that_went_back_stays_until_it_is_let_go_of_and_its_readers_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_KEEP_VERSIONS", "3")
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), copy("report", code_version="1")]) as found:
        made["world"] = found

        def amount() -> int:
            return int(found.query("select amount from report")[0][0])

        for found.amounts[DAY] in (1, 5):
            assert found.build("moves", DAY) and found.drain().runs == 1
        rolled_back(found, "report")
        assert (amount(), found.drain().runs) == (1, 0), "the inputs are those of the bad rows"
        project = found.deployment.project
        snapshot = look(project, utc.now())
        assert stale(project, snapshot, ["report"], Span()).runs == []
        asked = plan(project, snapshot, ahead(found.deployment, snapshot, Wish()), ["report"], Span())
        assert not rebuild(found.deployment, asked.runs, lambda *_: None).all_well
        assert (amount(), found.drain().runs) == (1, 0)
        [target] = chosen(stored_assets(found.definitions), ["report"])
        going_back.unpin(target, [DAY], "a run", lambda: None)
        assert (found.drain().runs, amount()) == (1, 5)
        rolled_back(found, "moves")
        assert (found.drain().runs, amount()) == (1, 1), "what reads the day follows it"
        assert found.drain().runs == 0
