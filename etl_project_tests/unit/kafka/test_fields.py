"""Fields that a producer adds, nests or leaves out: from the message through the landed file to the row."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from etl_project.kafka import format as landed
from etl_project.kafka.decode import MessageReader, Poison
from etl_project.kafka.source import KafkaSource
from etl_project.kafka.subscription import Subscription
from etl_project.sources.reading import judge
from etl_project_tests.kafka_broker import FIRST_MS

DAY = date(2025, 3, 10)
CONTRACT = """
CREATE TABLE things (
    batch_date DATE NOT NULL, {columns},
    kafka_topic VARCHAR NOT NULL, kafka_partition INTEGER NOT NULL, kafka_offset BIGINT NOT NULL,
    kafka_timestamp TIMESTAMPTZ, kafka_key VARCHAR, kafka_headers VARCHAR
);
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def source(folder: Path, columns: str, yaml: str) -> Subscription:
    (folder / "contract.sql").write_text(CONTRACT.format(columns=columns))
    return KafkaSource.resolve_from_yaml(f"name: things\ntopic: t\n{yaml}").subscription(folder)


def rows(folder: Path, asked: Subscription, values: Iterable[bytes | None]) -> list[dict[str, Any]]:
    """The rows of the messages' own columns, after landing and reading; a reject fails the test."""
    reader, lines = MessageReader(asked, lambda: date(2025, 3, 20)), []
    for offset, value in enumerate(values):
        read = reader.read(value, FIRST_MS)
        assert read is not None and read[0] == DAY
        lines.append(landed.RowFormat("t", 0).row(offset, FIRST_MS, b"k", (), read[1]))
    path = folder / "landed"
    path.write_bytes(b"".join(lines))
    name = landed.name(DAY, landed.Span("t", 0, 0, len(lines) - 1))
    batches = list(judge.read(path, asked.source, name, DAY))
    assert [one.rejects["reason"].to_pylist() for one in batches] == [[]]
    own = [name for name in asked.source.filled if not name.startswith("kafka_")]
    return [row for one in batches for row in one.rows.select(own).to_pylist()]


ADDED = [b'{"id":1,"channel":"web","n":1.10}', b'{"id":2}']


def test_a_field_that_nobody_asked_for_is_a_dead_letter_that_names_the_setting(folder: Path) -> None:
    asked = source(folder, "id BIGINT NOT NULL", "columns: {id: id}")
    with pytest.raises(Poison, match=r"not expected 'channel', 'n' \(a source may say `unknown_columns: ignore`"):
        rows(folder, asked, ADDED)


def test_it_may_be_ignored_and_lies_in_the_archive_all_the_same(folder: Path) -> None:
    asked = source(folder, "id BIGINT NOT NULL", "columns: {id: id}\nunknown_columns: ignore")
    assert rows(folder, asked, ADDED) == [{"id": 1}, {"id": 2}]
    assert b'"channel":"web","n":1.10}' in (folder / "landed").read_bytes()


def test_it_may_be_kept_as_json(folder: Path) -> None:
    asked = source(folder, "id BIGINT NOT NULL, unknown_columns JSON", "columns: {id: id}\nunknown_columns: keep")
    assert rows(folder, asked, ADDED) == [
        {"id": 1, "unknown_columns": '{"channel":"web","n":1.10}'},
        {"id": 2, "unknown_columns": None},
    ]


def test_a_field_that_the_landing_writes_itself_is_never_taken_from_a_message(folder: Path) -> None:
    asked = source(folder, "id BIGINT NOT NULL", "columns: {id: id}\nunknown_columns: ignore")
    with pytest.raises(Poison, match="not expected 'kafka_offset'"):
        rows(folder, asked, [b'{"id":1,"kafka_offset":7}'])


def test_nested_values_are_json_text(folder: Path) -> None:
    asked = source(folder, "tags VARCHAR, who JSON", "columns: {tags: tags, who: who}\nnested_values: text")
    (row,) = rows(folder, asked, [b'{"tags":["a", 1.10],"who":{"n" : 1}}'])
    assert (row["tags"], json.loads(row["who"])) == ('["a",1.10]', {"n": 1})


def test_a_path_leads_into_an_object_and_to_the_day(folder: Path) -> None:
    yaml = "columns: {customer.id: id, customer.at: seen}\nday_from: customer.at\nunknown_columns: ignore"
    asked = source(folder, "id BIGINT, seen TIMESTAMPTZ", yaml)
    values = [b'{"customer":{"id":1,"at":"2025-03-10T01:00:00Z"}}', b'{"customer":{"at":"2025-03-10T02:00:00Z"}}']
    assert [row["id"] for row in rows(folder, asked, values)] == [1, None]
    assert [row["id"] for row in rows(folder, asked, values[1:])] == [None], "no message of the batch has the field"


def test_a_field_may_have_several_names(folder: Path) -> None:
    asked = source(folder, "id BIGINT NOT NULL", "columns: {id: id, order_id: id}")
    assert rows(folder, asked, [b'{"id":1}', b'{"order_id":2}']) == [{"id": 1}, {"id": 2}]
    with pytest.raises(Poison, match="missing 'id'"):
        rows(folder, asked, [b"{}"])


def test_a_kept_tombstone_is_a_row_of_nothing_but_its_key(folder: Path) -> None:
    asked = source(folder, "id BIGINT, note VARCHAR", "columns: {id: id, note: note}\ntombstones: keep")
    assert rows(folder, asked, [b'{"id":1,"note":"x"}', None]) == [{"id": 1, "note": "x"}, {"id": None, "note": None}]


def test_a_change_event_is_a_row_with_what_its_columns_ask_of_the_envelope(folder: Path) -> None:
    yaml = "columns: {id: id, __op: op, __deleted: gone}\nenvelope: debezium\ntombstones: keep"
    asked = source(folder, "id BIGINT NOT NULL, op VARCHAR, gone BOOLEAN", yaml)
    events = [b'{"op":"c","before":null,"after":{"id":1}}', b'{"op":"d","before":{"id":1},"after":null}']
    assert rows(folder, asked, events) == [
        {"id": 1, "op": "c", "gone": False},
        {"id": 1, "op": "d", "gone": True},
    ]
