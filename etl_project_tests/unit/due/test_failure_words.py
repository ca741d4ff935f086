"""What failed is told with its reason by everything that says that it waits: drain, sensor and status."""

# No `from __future__ import annotations` here: Dagster reads the annotation of `context` as it stands.

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from etl_project import utc
from etl_project.cli.drain import show_drained
from etl_project.due.drain import drain
from etl_project.due.execution import complaints_of, execute
from etl_project.due.snapshot import look
from etl_project.storage import as_failure, reported
from etl_project.storage.contract import WriteRefused
from etl_project.watch.status import status
from etl_project_tests.unit.due.own_assets import DAYS, MARCH, World, amounts_of, world

PASSWORD = "a-password-of-somebody"


@dg.asset(partitions_def=DAYS)
def refusing(context: dg.AssetExecutionContext, moves: pd.DataFrame) -> pd.DataFrame:
    with reported(context.instance, context.run.run_id):
        raise WriteRefused("Asset 'refusing': no good.\n  - 3 rows\nwith " + PASSWORD)


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def in_one_run(context: dg.AssetExecutionContext, moves: pd.DataFrame) -> pd.DataFrame:
    with reported(context.instance, context.run.run_id):
        raise WriteRefused("no good")


@dg.asset(partitions_def=DAYS)
def breaking(moves: pd.DataFrame) -> pd.DataFrame:
    return moves.assign(other=moves["there is none"])


def told(found: World) -> tuple[str, ...]:
    instance = found.deployment.instance
    snapshot = look(found.deployment.project, utc.now(), instance)
    return status(found.deployment.project, instance, snapshot).failures


def test_a_failure_for_good_is_told_again_with_its_reason_in_one_line_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_TOKEN", PASSWORD)
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), refusing]) as found:
        made["world"] = found
        found.build("moves", MARCH[2])
        assert told(found) == ()
        assert len(found.drain().failed) == 1
        said = "Last time: Asset 'refusing': no good. - 3 rows with ***"
        for _ in range(2):
            [of_sensor], [of_status] = found.waits(), told(found)
            assert of_sensor == of_status and of_status.endswith(said)
            assert f"{MARCH[2]}, refusing: failed for good" in of_status and "`etl retry`" in of_status
            done = drain(found.deployment)
            assert done.runs == 0 and not show_drained(done, 0)
            line = capsys.readouterr().out.splitlines()[0]
            assert line.startswith(f"failed for good {MARCH[2]}") and line.endswith(said)


def test_a_range_that_failed_as_a_whole_is_one_line_before_its_parts_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), in_one_run]) as found:
        made["world"] = found
        found.build("moves", *MARCH[:4])
        monkeypatch.setattr("etl_project.due.drain.MOST_FAILURES_IN_A_ROW", 1)
        assert len(found.drain().failed) == 1
        [line] = told(found)
        assert line.startswith(f"{MARCH[0]} to {MARCH[3]}, in_one_run: failed as a part of more") and "no good" in line


def test_a_failure_that_is_tried_again_is_told_with_its_reason_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), breaking]) as found:
        made["world"] = found
        found.build("moves", MARCH[2])
        assert len(found.drain().failed) == 1
        [of_sensor], [of_status] = found.waits(), told(found)
        assert of_sensor == of_status
        assert "failed 1 times, asked for again after" in of_status and "there is none" in of_status


def test_a_run_that_could_not_begin_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), refusing]) as found:
        made["world"] = found
        found.build("moves", MARCH[2])

        def locked(*_: object, **__: object) -> None:
            raise as_failure(WriteRefused("no lock for you"))

        monkeypatch.setattr("etl_project.exclusion.run_lock.RunLock.setup_for_execution", locked)
        found.drain()
        assert any("no lock for you" in line for line in told(found))


def test_what_keeps_a_run_from_beginning_is_told_in_the_words_meant_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, World] = {}
    with world(tmp_path, monkeypatch, [amounts_of(made), refusing]) as found:
        made["world"] = found
        found.build("moves", MARCH[2])
        state = found.deployment.project.settings.state
        state.write_bytes(b"no database at all" * 100)
        [due] = found.drain().failed
        [said] = execute(found.deployment, due).complaints
        assert said.startswith(f"{state} cannot be used") and "stop all runs and remove it" in said


def test_what_a_body_raises_is_told_with_the_name_of_its_asset() -> None:
    @dg.asset(key_prefix="shop")
    def broken() -> None:
        raise ValueError("the rates are nonsense")

    assert complaints_of(dg.materialize([broken], raise_on_error=False)) == (
        "shop/broken: ValueError: the rates are nonsense",
    )
