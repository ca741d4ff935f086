"""Change events and deletions: the row inside, literally, or what the source says."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest

from etl_project.kafka import envelope, json_text
from etl_project.kafka.decode import MessageReader, Poison
from etl_project.kafka.json_text import NoJson
from etl_project.sources.spec import SpecError
from etl_project_tests.kafka_broker import FIRST_MS, subscription

DAY = date(2025, 3, 10)
ROW = '{"id": 1.10 ,"note":"a, {b}"}'


def read(value: bytes | None, **settings: str) -> Any:
    return MessageReader(subscription("t", **settings), lambda: date(2025, 3, 20)).read(value, FIRST_MS)


def event(op: str, before: str = "null", after: str = "null") -> bytes:
    return f'{{"before":{before},"after": {after},"source":{{"lsn":5}},"op":"{op}","ts_ms":17424720000001}}'.encode()


@pytest.mark.parametrize("op", ["c", "u", "r"])
def test_the_row_after_the_change_is_landed_digit_for_digit(op: str) -> None:
    expected = (DAY, b'{"id":1.10,"note":"a, {b}"}')
    assert read(event(op, after=ROW), envelope="debezium") == expected
    with_schema = b'{"schema":{"op":"x"},"payload":' + event(op, after=ROW) + b"}"
    assert read(with_schema, envelope="debezium") == expected


def test_a_deletion_is_what_the_source_says() -> None:
    gone = event("d", before=ROW)
    with pytest.raises(Poison, match=r"the row is gone.*`tombstones: drop`"):
        read(gone, envelope="debezium")
    assert read(gone, envelope="debezium", tombstones="drop") is None
    assert read(gone, envelope="debezium", tombstones="keep") == (DAY, b'{"id":1.10,"note":"a, {b}"}')
    with pytest.raises(Poison, match="missing 'id'"):
        read(event("d"), envelope="debezium", tombstones="keep")


@pytest.mark.parametrize("value", [None, b"null", b' {"schema":null,"payload":null}'])
def test_the_tombstone_behind_a_deletion_says_nothing_new(value: bytes | None) -> None:
    assert read(value, envelope="debezium", tombstones="keep") is None
    assert read(value, envelope="debezium", tombstones="drop") is None
    with pytest.raises(Poison, match="tombstone"):
        read(value, envelope="debezium")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (event("t"), "op is 't'"),
        (b'{"id":1}', "op is None"),
        (event("c"), "after of the change event is null, no object"),
        (event("u", after="[1]"), r"after of the change event is \[1\]"),
        (event("c", after='{"id":1,"id":2}'), "the key 'id' is repeated"),
        (b'{"op":"c","after":{},"op":"d"}', "the key 'op' is repeated"),
        (b'{"payload":5,"schema":1}', "payload of the change event is 5"),
    ],
)
def test_what_is_no_change_of_a_row_is_dead_with_its_reason(value: bytes, reason: str) -> None:
    with pytest.raises(Poison, match=reason):
        read(value, envelope="debezium")


def test_nesting_beyond_all_reason_is_no_object() -> None:
    with pytest.raises(NoJson, match="nested too deeply"):
        json_text.members('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")


def test_columns_may_take_values_of_the_envelope() -> None:
    wanted = ["id", "__op", "__deleted", "__source_lsn", "__source_none", "__ts_ms"]
    change = envelope.unwrapped(event("u", after='{"id":1}'), wanted)
    assert change is not None
    assert json.loads(change.text) == {
        "id": 1,
        "__op": "u",
        "__deleted": False,
        "__source_lsn": 5,
        "__source_none": None,
        "__ts_ms": 17424720000001,
    }


def test_a_tombstone_is_a_dead_letter_dropped_or_a_row() -> None:
    with pytest.raises(Poison, match="`tombstones: drop`, or `keep`"):
        read(None)
    assert read(None, tombstones="drop") is None
    with pytest.raises(SpecError, match="NOT NULL: id"):
        subscription("t", tombstones="keep")


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1.10,"b":[1, {"c":"}"}],"d":"\\"x","e":1e400,"f":123456789012345678901234567890}',
        "{}",
        ' { "a" : 1 } ',
        "{\n}",
    ],
)
def test_an_object_is_taken_apart_and_put_together_as_it_was_written(text: str) -> None:
    parts = json_text.members(text)
    assert json.loads(json_text.joined(parts.items()), parse_float=str) == json.loads(text, parse_float=str)
    assert all(value in text for value in parts.values())


def test_numbers_that_are_too_long_for_python_stay_what_they_are() -> None:
    digits = "9" * 5_000
    assert json_text.members(f'{{"a":{digits}}}') == {"a": digits}


def test_a_value_that_json_does_not_have_is_refused() -> None:
    for value in (float("inf"), {1}, object(), "\ud800"):
        with pytest.raises(NoJson):
            json_text.written({"a": value})


@pytest.mark.parametrize(
    ("form", "value", "day"),
    [
        ("epoch_days", "20157", DAY),
        ("epoch_seconds", "1741564800", DAY),
        ("epoch_seconds", "1741564799.999", date(2025, 3, 9)),
        ("epoch_milliseconds", "1741651199999", DAY),
        ("epoch_milliseconds", '"1741564800000"', DAY),
        ("epoch_microseconds", "1741564800000000", DAY),
    ],
)
def test_the_day_may_be_a_number_since_1970(form: str, value: str, day: date) -> None:
    text = f'{{"id":{value},"note":null}}'.encode()
    assert read(text, day_from="id", day_format=form) == (day, text)


@pytest.mark.parametrize("value", ["true", '"x"', "null", "1e300", "-99999999999999", '"nan"', "1741564800"])
def test_a_number_that_is_no_day_is_dead(value: str) -> None:
    with pytest.raises(Poison, match=r"no date|lies outside"):
        read(f'{{"id":{value},"note":null}}'.encode(), day_from="id", day_format="epoch_milliseconds")


def test_a_number_without_a_format_names_the_setting() -> None:
    with pytest.raises(Poison, match="`day_format: epoch_milliseconds`"):
        read(b'{"id":1741564800000,"note":null}', day_from="id")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"tombstones": "ignore"},
            "tombstones is 'ignore'; it can be one of reject, drop, keep, like `tombstones: drop`",
        ),
        ({"envelope": "cdc"}, "envelope is 'cdc'; it can be one of none, debezium"),
        ({"day_format": "unix", "day_from": "id"}, "day_format is 'unix'; it can be one of iso, epoch_days"),
        ({"day_format": "epoch_days"}, "day_format: epoch_days needs day_from"),
        ({"decoder": "xml"}, "decoder is 'xml'; it can be json, json-schema, avro, protobuf, or a function"),
        ({"decoder": "no_such_module:f"}, "No module named 'no_such_module'"),
        ({"decoder": "json:nothing"}, "json has no function nothing"),
    ],
)
def test_a_wrong_word_is_one_line_with_a_right_example(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(SpecError, match=reason) as refused:
        subscription("t", **settings)
    assert "\n" not in str(refused.value)
