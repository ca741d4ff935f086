"""The component of a Kafka source: the words of its YAML, and what it adds to a source of files."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from etl_project.declare.contracts import ContractError
from etl_project.kafka import assets, extra
from etl_project.kafka import format as landed
from etl_project.kafka.source import KafkaSource
from etl_project.kafka.subscription import Subscription
from etl_project.sources.spec import SpecError
from etl_project_tests.kafka_broker import subscription

CONTRACT = """
CREATE TABLE things (
    batch_date DATE NOT NULL, id BIGINT NOT NULL,
    kafka_topic VARCHAR NOT NULL, kafka_partition INTEGER NOT NULL, {offset} BIGINT NOT NULL,
    kafka_timestamp TIMESTAMPTZ, kafka_key VARCHAR, kafka_headers VARCHAR
);
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("ETL_KAFKA_BOOTSTRAP", raising=False)
    (tmp_path / "contract.sql").write_text(CONTRACT.format(offset="kafka_offset"))
    return tmp_path


def declared(folder: Path, yaml: str = "") -> Subscription:
    """The subscription of a short YAML."""
    text = "name: things\ntopic: made-things\ncolumns: {id: id}\n"
    return KafkaSource.resolve_from_yaml(text + yaml).subscription(folder)


def test_topic_and_columns_are_all_that_has_to_be_said(folder: Path) -> None:
    asked = declared(folder)
    assert (asked.topic, asked.group, asked.day_from) == ("made-things", "etl-things", landed.TIMESTAMP)
    assert list(asked.source.columns) == [*landed.FIELDS, "id"]
    assert dict(asked.payload) == {"id": False}
    assert (asked.source.deduplicate_on, asked.source.max_rejected_ratio) == (landed.COORDINATES, 1.0)
    assert asked.source.repeats_itself
    assert (asked.source.format, asked.source.patterns, asked.source.files_per_day) == (
        "jsonl",
        landed.PATTERNS,
        "many",
    )


def test_a_kafka_column_may_have_another_name_in_the_table(folder: Path) -> None:
    (folder / "contract.sql").write_text(CONTRACT.format(offset="place"))
    yaml = "deduplicate_on: [kafka_topic, kafka_partition, place]\n"
    source = KafkaSource.resolve_from_yaml(f"name: things\ntopic: t\ncolumns: {{id: id, kafka_offset: place}}\n{yaml}")
    assert source.subscription(folder).source.columns["kafka_offset"] == "place"
    assert dict(source.subscription(folder).payload) == {"id": False}


def test_a_contract_without_the_kafka_columns_is_refused_by_their_names(folder: Path) -> None:
    (folder / "contract.sql").write_text("CREATE TABLE things (batch_date DATE NOT NULL, id BIGINT);")
    with pytest.raises(ContractError, match=r"column kafka_topic is not in CREATE TABLE things.*kafka_headers"):
        declared(folder)


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        ("day_from: paid_at\n", "day_from is 'paid_at'; it can be one of kafka_timestamp, id"),
        ("topic: 'a b'\n", "'a b' is no name of a topic"),
        (f"topic: {'x' * 181}\n", "has 181 characters; file names hold 180"),
        ("group: ''\nbatch_seconds: .inf\n", "batch_seconds is inf; it must be more than 0"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_project_is_loaded(yaml: str, reason: str, folder: Path) -> None:
    base = {"name": "name: things", "topic": "topic: made-things", "columns": "columns: {id: id}"}
    for line in yaml.splitlines():
        base[line.partition(":")[0]] = line
    with pytest.raises(SpecError) as raised:
        KafkaSource.resolve_from_yaml("\n".join(base.values())).subscription(folder)
    assert reason in str(raised.value)


@pytest.mark.parametrize("yaml", ["format: csv\n", "files_per_day: latest\n", "patterns: ['{date}.jsonl']\n"])
def test_what_the_landing_fixes_cannot_be_set(yaml: str, folder: Path) -> None:
    with pytest.raises(Exception, match=r"jsonl|many|always called"):
        declared(folder, yaml)


@pytest.mark.parametrize(("bootstrap", "status"), [("", "STOPPED"), ("somewhere:9092", "RUNNING")])
def test_the_schedule_runs_by_itself_where_a_broker_is_named(
    bootstrap: str, status: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_KAFKA_BOOTSTRAP", bootstrap)
    (schedule,) = assets.definitions(declared(folder)).schedules or ()
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.name, schedule.default_status.name) == ("consume_things_every_minute", status)


def test_the_schedule_does_not_ask_for_a_second_run_beside_the_first(folder: Path) -> None:
    wiring = assets.definitions(declared(folder))
    (schedule,) = wiring.schedules or ()
    assert isinstance(schedule, dg.ScheduleDefinition)
    lock = {"run_lock": dg.ResourceDefinition.none_resource()}
    job = dg.Definitions(jobs=wiring.jobs, resources=lock).resolve_job_def("consume_things")
    home = dg.DagsterInstance.local_temp(str(folder))
    with home as instance, dg.build_schedule_context(instance=instance) as context:
        assert len(schedule.evaluate_tick(context).run_requests or ()) == 1
        running = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        held = schedule.evaluate_tick(context)
        assert (held.run_requests or [], running.run_id in (held.skip_message or "")) == ([], True)
        instance.report_run_canceled(running)
        assert len(schedule.evaluate_tick(context).run_requests or ()) == 1


def test_without_the_extra_there_is_one_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    extra.require()
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(extra.MissingExtra, match=r"not installed: pip install 'etl-project\[kafka\]'"):
        extra.require()


def test_a_subscription_needs_every_field_of_a_row() -> None:
    source = subscription("t").source
    object.__setattr__(source, "columns", {"id": "id"})
    with pytest.raises(SpecError, match="columns does not name kafka_topic"):
        Subscription(source, "t", "g")
