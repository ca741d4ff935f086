"""What a message says, and why one is dead."""

from __future__ import annotations

from datetime import date

import pytest

from etl_project.kafka.decode import MessageReader, Poison
from etl_project_tests.kafka_broker import DAY_MS, FIRST_MS, subscription

TODAY = date(2025, 3, 20)
DAY = date(2025, 3, 10)


def reader(**changes: str) -> MessageReader:
    return MessageReader(subscription("t", **changes), lambda: TODAY)


def test_a_message_has_the_utc_day_of_its_timestamp_and_its_own_text() -> None:
    text = b' {"note": "x", "id": 1.0e2} '
    assert reader().read(text, FIRST_MS) == (DAY, text)
    assert reader().read(text, FIRST_MS - 1) == (date(2025, 3, 9), text)
    assert reader().read(text, FIRST_MS + DAY_MS - 1) == (DAY, text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(b'{"id": 1}', b'{"id": 1,"note":null}'), (b' {"id":1 } ', b'{"id":1 ,"note":null}')],
)
def test_a_field_that_may_be_missing_is_there_as_null(value: bytes, text: bytes) -> None:
    """A file whose rows all lack a column would be refused as one of another schema."""
    assert reader().read(value, FIRST_MS) == (DAY, text)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        (b"", "not JSON in UTF-8"),
        (b"\xff\xfe", "not JSON in UTF-8"),
        (b'{"id": "\xff"}', "not JSON in UTF-8"),
        (b'\xef\xbb\xbf{"id": 1}', "not JSON in UTF-8"),
        (b'{"id": NaN}', "not JSON in UTF-8"),
        (b'{"id": "\\ud800"}', "not JSON in UTF-8"),
        (b'{"id": 1} {"id": 2}', "not JSON in UTF-8"),
        (b'{"id": ' + b"[" * 5000, "not JSON in UTF-8"),
        (b'"text"', "JSON, but no object"),
        (b"null", "tombstone"),
        (b'{"note": "x"}', "missing 'id'"),
        (b'{"note": "x", "more": 1, "most": 2}', "missing 'id'; not expected 'more', 'most'"),
        (b'{"id": 1, "kafka_topic": "forged"}', "not expected 'kafka_topic'"),
    ],
)
def test_poison_is_named(value: bytes | None, reason: str) -> None:
    with pytest.raises(Poison) as raised:
        reader().read(value, FIRST_MS)
    assert reason in str(raised.value)


@pytest.mark.parametrize("timestamp", [None, -(10**17), 10**17, FIRST_MS - 69 * DAY_MS - 1, FIRST_MS + 12 * DAY_MS])
def test_a_message_without_a_day_that_exists_is_dead(timestamp: int | None) -> None:
    with pytest.raises(Poison, match=r"day|date"):
        reader().read(b'{"id": 1}', timestamp)


def test_the_days_that_exist_go_from_the_first_of_the_source_to_tomorrow() -> None:
    assert reader().read(b'{"id": 1}', FIRST_MS - 68 * DAY_MS)[0] == date(2025, 1, 1)
    assert reader().read(b'{"id": 1}', FIRST_MS + 11 * DAY_MS)[0] == date(2025, 3, 21)


@pytest.mark.parametrize(
    ("text", "zone", "day"),
    [
        ("2025-03-10", "UTC", DAY),
        ("2025-03-10T23:30:00Z", "UTC", DAY),
        ("2025-03-10T23:30:00-05:00", "UTC", date(2025, 3, 11)),
        ("2025-03-11 00:30:00", "Europe/Berlin", DAY),
        ("2025-03-11T00:30:00+00:00", "Europe/Berlin", date(2025, 3, 11)),
    ],
)
def test_a_field_gives_the_utc_day(text: str, zone: str, day: date) -> None:
    value = b'{"id": 1, "note": "%s"}' % text.encode()
    assert reader(day_from="note", time_zone=zone).read(value, None)[0] == day


@pytest.mark.parametrize(
    "text", ["null", "12", '"soon"', '"2025-02-30"', '"1999-01-01"', '"0001-01-01T00:00:00+14:00"']
)
def test_a_field_that_names_no_day_that_exists_is_dead(text: str) -> None:
    with pytest.raises(Poison, match=r"no date|lies outside"):
        reader(day_from="note").read(b'{"id": 1, "note": %s}' % text.encode(), FIRST_MS)


def test_a_timestamp_that_no_row_can_show_is_dead_even_where_a_field_gives_the_day() -> None:
    with pytest.raises(Poison, match="beyond the calendar"):
        reader(day_from="note").read(b'{"id": 1, "note": "2025-03-10"}', 10**17)


def test_a_reader_that_waited_over_midnight_knows_the_new_days() -> None:
    """A quiet topic keeps one batch open for days: what comes then is as good as on the first day."""
    days = [TODAY]
    waiting = MessageReader(subscription("t"), lambda: days[-1])
    at = FIRST_MS + 15 * DAY_MS
    with pytest.raises(Poison, match="outside 2025-01-01 to 2025-03-21"):
        waiting.read(b'{"id": 1}', at)
    days.append(date(2025, 3, 24))
    for _ in range(2):
        assert waiting.read(b'{"id": 1}', at)[0] == date(2025, 3, 25)
    with pytest.raises(Poison, match="outside 2025-01-01 to 2025-03-25"):
        waiting.read(b'{"id": 1}', at + DAY_MS)
