"""The landing format: it is on people's disks, so names and bytes never change."""

from __future__ import annotations

import json
from datetime import date

import pytest

from etl_project.kafka import format as landed
from etl_project.kafka.format import RowFormat, Span
from etl_project.sources.day_of_name import DaysOfNames
from etl_project.sources.reading import judge
from etl_project_tests.kafka_broker import FIRST_MS, subscription
from etl_project_tests.unit.sources.world import World

DAY = date(2025, 3, 10)


def test_the_names_are_these_for_ever() -> None:
    span = Span("payments", 2, 41, 99)
    assert landed.name(DAY, span) == "2025-03-10_payments_2_00000000000000000041-00000000000000000099.jsonl"
    assert landed.dead_letters_name(span) == "undated_payments_2_00000000000000000041-00000000000000000099.jsonl"
    assert landed.lost_name(span) == "lost_payments_2_00000000000000000041-00000000000000000099.json"


def test_the_bytes_of_a_row_are_these_for_ever() -> None:
    row = RowFormat("payments", 2).row(41, FIRST_MS + 7, b"k\xc3\xa9\n", [("a", b"\xff"), ("a", None)], b'{"x": 1.10}')
    assert row == (
        b'{"kafka_topic":"payments","kafka_partition":2,"kafka_offset":41,'
        b'"kafka_timestamp":"2025-03-10T00:00:00.007Z","kafka_key":"k\xc3\xa9\\n",'
        b'"kafka_headers":"[[\\"a\\",\\"base64:/w==\\"],[\\"a\\",null]]","x": 1.10}\n'
    )


def test_the_bytes_of_a_dead_letter_are_these_for_ever() -> None:
    letter = landed.dead_letter(Span("payments", 2, 41, 41), None, b"k", [("a", None)], b"\xff", "no JSON")
    assert letter == (
        b'{"kafka_topic":"payments","kafka_partition":2,"kafka_offset":41,"reason":"no JSON",'
        b'"kafka_timestamp_ms":null,"kafka_key_base64":"aw==","kafka_headers_base64":[["a",null]],'
        b'"kafka_value_base64":"/w=="}\n'
    )


@pytest.mark.parametrize("topic", ["payments", "2025-03-11", "a_1_2", "2024-01-01_x_3", "lost", "x" * 180])
def test_what_is_written_into_a_name_is_read_back(topic: str) -> None:
    span = Span(topic, 4_294_967_295, 0, 2**63 - 1)
    assert landed.parse(landed.name(DAY, span)) == ("2025-03-10", span)
    assert landed.parse(landed.dead_letters_name(span)) == (landed.UNDATED, span)
    assert landed.parse(landed.lost_name(span)) == (landed.LOST, span)
    assert len(landed.name(DAY, span)) <= 255


@pytest.mark.parametrize("name", ["", "2025-03-10_a_1.jsonl", "2025-03-10_a_1_1-2.jsonl", ".etl-0.tmp", "notes.txt"])
def test_other_names_say_nothing(name: str) -> None:
    assert landed.parse(name) is None


def test_no_two_keys_look_alike() -> None:
    keys = [None, b"", b"base64:", b"base64:/w==", b"\xff", b"\\xff", "é".encode(), "é".encode("latin-1")]
    rows = [json.loads(RowFormat("t", 0).row(0, None, key, (), b"{}"))["kafka_key"] for key in keys]
    assert len(set(rows)) == len(keys)


@pytest.mark.parametrize("payload", [b"{}", b"{ }", b' {"id":1} ', b'{\n"id":1\r\n}', b'\t{"note":"}"}'])
def test_a_row_is_one_line_of_valid_json(payload: bytes) -> None:
    row = RowFormat("t", 0).row(0, None, None, (), payload)
    assert row.count(b"\n") == 1
    assert {**json.loads(payload)}.items() <= json.loads(row).items()


def test_a_topic_with_a_date_in_its_name_has_the_day_of_its_file() -> None:
    source = subscription("2024-01-01_things").source
    name = landed.name(DAY, Span("2024-01-01_things", 0, 0, 1))
    days = DaysOfNames(source.patterns, source.start_date, DAY)
    assert days.place(name) == DAY


def test_rows_are_what_the_judge_reads_digit_for_digit(tmp_path_factory: pytest.TempPathFactory) -> None:
    source = subscription("t").source
    world = World(tmp_path_factory.mktemp("world"), source)
    rows = RowFormat("t", 3)
    lines = [
        rows.row(
            7, FIRST_MS + 1, b"\x00", [("h", b"v")], b'{"id":9007199254740993,"note":"\\u0000\xc3\xa9\xe2\x80\xa8"}'
        ),
        rows.row(8, FIRST_MS + 2, None, (), b'{"note":null,"id":1}'),
    ]
    path = world.drop(landed.name(DAY, Span("t", 3, 7, 8)), b"".join(lines))
    (batch,) = judge.read(path, source, path.name, DAY)
    assert not batch.rejects.num_rows
    first, second = batch.rows.to_pylist()
    assert (first["id"], first["note"], first["kafka_key"]) == (9007199254740993, "\0é\u2028", "\0")
    assert first["kafka_headers"] == '[["h","v"]]'
    assert (second["kafka_topic"], second["kafka_partition"], second["kafka_offset"]) == ("t", 3, 8)
    assert second["kafka_timestamp"].isoformat() == "2025-03-10T00:00:00.002000+00:00"
    assert second["note"] is None
