"""The payments pipeline on a real broker: the real command, the real job, the real check."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from etl_project.definitions import load_project, wire
from etl_project.instance import opened
from etl_project_tests import steady
from etl_project_tests.crash.test_kafka_kills import payments
from etl_project_tests.deployments import ROOT, Place
from etl_project_tests.kafka_broker import (
    OwnBroker,
    Topic,
    etl,
    needs_own_broker,
    own_broker,
    topic,
    wait_for_commits,
    wait_for_member,
)

pytestmark = needs_own_broker


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    """A broker of this module's own: the topic and the group of the payments are always called the same."""
    with own_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def made(own: OwnBroker) -> Iterator[Topic]:
    """The topic of the payments, with two good messages and a bad one."""
    with topic(own.bootstrap, 3, name="payments") as made:
        made.send([*payments(0, 2), b"poison"])
        yield made


def test_sigterm_ends_the_command_after_the_running_batch(own: OwnBroker, made: Topic, tmp_path: Path) -> None:
    """Long before the batch is full or old enough: what was consumed is landed and committed on the way out."""
    place = Place(tmp_path / "data")
    environment = place.environment(ETL_KAFKA_BOOTSTRAP=own.bootstrap)
    for pause_seconds in (1.5, 6, 24, 96):
        running = etl(environment, tmp_path / f"printed {pause_seconds}.txt", "consume", "payments")
        wait_for_member(made, "etl-payments")
        time.sleep(pause_seconds)  # It has its partitions, and takes its messages within moments, or did not yet.
        os.kill(running.process.pid, 15)
        running.process.join(steady.PATIENCE_SECONDS)
        if "0 messages landed" not in (printed := running.printed.read_text()):
            break
    assert running.process.exitcode == 1 and "2 messages landed, 1 dead letters, in 2 files" in printed, printed
    wait_for_commits(made, "etl-payments", 3)


def test_the_job_lands_and_notes_its_numbers_and_the_check_compares_them_with_the_broker(
    own: OwnBroker, made: Topic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("ETL_KAFKA_BOOTSTRAP", own.bootstrap)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    definitions = wire(*load_project())
    with opened(ROOT) as instance:
        done = definitions.resolve_job_def("consume_payments").execute_in_process(instance=instance)
        assert done.success
        (observed,) = instance.fetch_observations(dg.AssetKey("payments_files"), limit=5).records
        assert observed.asset_observation is not None
        noted = {name: value.value for name, value in observed.asset_observation.metadata.items()}
        assert {name: noted[name] for name in ("landed messages", "dead letters", "lost offsets", "lag")} == {
            "landed messages": 2,
            "dead letters": 1,
            "lost offsets": 0,
            "lag": 0,
        }
        assert noted["last offset by partition"] == {"0": 2}
        schedule = definitions.resolve_schedule_def("consume_payments_every_minute")
        with dg.build_schedule_context(instance=instance) as context:
            assert schedule.evaluate_tick(context).run_requests, "the last run is over"
    passed, said = check(definitions)
    assert passed, said
    assert "compared with the offsets that the group committed" in said
    next((tmp_path / "incoming" / "payments").glob("2025*")).unlink()
    assert check(definitions)[0], "the dead letter of the same range still covers it"
    next((tmp_path / "dead_letters" / "payments").glob("undated*")).unlink()
    assert check(definitions) == (False, f"partition 0: offset 3 is committed, but nothing has landed; {said}")


def check(definitions: dg.Definitions) -> tuple[bool, str]:
    """Run the check on its own: whether it passed, and what it said."""
    key = dg.AssetCheckKey(dg.AssetKey("payments_files"), "no_holes_in_offsets")
    job = dg.define_asset_job("checks", selection=dg.AssetSelection.checks(key))
    merged = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    done = merged.resolve_job_def("checks").execute_in_process()
    (evaluation,) = done.get_asset_check_evaluations()
    return evaluation.passed, evaluation.description or ""


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (("consume",), {"ETL_KAFKA_BOOTSTRAP": ""}, "etl: ETL_KAFKA_BOOTSTRAP is not set; name the brokers"),
        (("consume", "orders"), {}, "etl: 'orders' is no Kafka source; they are: payments."),
        (("consume",), {"ETL_KAFKA_BOOTSTRAP": "localhost:1", "ETL_WAIT_SECONDS": "1"}, "Is the broker up"),
    ],
)
def test_what_cannot_be_consumed_is_one_line_and_exit_2(
    arguments: tuple[str, ...], environment: dict[str, str], says: str, tmp_path: Path
) -> None:
    more = {"ETL_KAFKA_BOOTSTRAP": "localhost:1", **environment}
    done = etl(Place(tmp_path / "data").environment(**more), tmp_path / "printed.txt", *arguments)
    printed = done.ended(expected_exit=2)
    assert says in printed
    assert "Traceback" not in printed
    assert json.dumps(printed).count("etl: ") == 1
