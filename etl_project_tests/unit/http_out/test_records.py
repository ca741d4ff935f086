"""Records of deliveries: which key goes out next follows from what has gone out before."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from etl_project.http_in.database import Database, RecordsUnusable
from etl_project.http_out.records import Deliveries, DeliveryRecord

DAY = date(2026, 3, 1)


@pytest.fixture
def deliveries(tmp_path: Path) -> Iterator[Deliveries]:
    database = Database(tmp_path / "delivery.sqlite")
    yield Deliveries(database)
    database.close()


def plan(deliveries: Deliveries, content: str, day: date = DAY) -> DeliveryRecord:
    return deliveries.plan("https://h#1", "report", day, content, lambda old: f"{content} after {old}")


def sent(deliveries: Deliveries, content: str) -> DeliveryRecord:
    planned = plan(deliveries, content)
    deliveries.start_attempt(planned.key)
    deliveries.settle(planned.key, "sent", 201, "digest")
    return planned


def test_the_same_content_is_the_same_delivery_planned_twice(deliveries: Deliveries) -> None:
    assert plan(deliveries, "a") == plan(deliveries, "a")
    sent(deliveries, "a")
    assert plan(deliveries, "a").state == "sent"
    assert len(deliveries.of_asset("report")) == 1


def test_changed_content_is_a_new_key_that_supersedes_the_old(deliveries: Deliveries) -> None:
    first = sent(deliveries, "a")
    assert plan(deliveries, "b").supersedes == first.key
    assert plan(deliveries, "b", date(2026, 3, 2)).supersedes is None


def test_content_that_comes_back_is_the_last_word_again(deliveries: Deliveries) -> None:
    first, second = sent(deliveries, "a"), sent(deliveries, "b")
    third = plan(deliveries, "a")
    assert third.state == "pending"
    assert third.supersedes == second.key
    assert third.key != first.key


def test_a_rejected_delivery_is_superseded_by_nothing_and_tried_again_under_its_key(deliveries: Deliveries) -> None:
    first = sent(deliveries, "a")
    refused = plan(deliveries, "b")
    deliveries.start_attempt(refused.key)
    deliveries.settle(refused.key, "rejected", 400)
    assert plan(deliveries, "c").supersedes == first.key
    deliveries.settle(plan(deliveries, "c").key, "rejected", 400)
    again = plan(deliveries, "b")
    assert (again.key, again.state) == (refused.key, "rejected")
    deliveries.settle(again.key, "rejected", 400)
    assert plan(deliveries, "a").state == "sent"


def test_a_delivery_that_may_have_arrived_is_superseded(deliveries: Deliveries) -> None:
    open_one = plan(deliveries, "a")
    assert deliveries.start_attempt(open_one.key) == (1, "pending")
    assert deliveries.start_attempt(open_one.key) == (2, "unknown")
    assert plan(deliveries, "b").supersedes == open_one.key


def test_sent_stays_sent_whatever_a_late_process_notes(deliveries: Deliveries) -> None:
    planned = sent(deliveries, "a")
    deliveries.start_attempt(planned.key)
    deliveries.settle(planned.key, "unknown", 500)
    [record] = deliveries.of_asset("report")
    assert (record.state, record.status) == ("sent", 201)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "delivery.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 40)
    with pytest.raises(RecordsUnusable, match=r"delivery\.sqlite"):
        Database(tmp_path / "delivery.sqlite")


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(RecordsUnusable, match=r"delivery\.sqlite"):
        Database(tmp_path / "data" / "delivery.sqlite")


def test_records_of_a_version_without_the_columns_of_failures_are_opened_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "delivery.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(
            "create table deliveries (sequence integer primary key autoincrement, key text not null unique,"
            " endpoint text not null, asset text not null, day text not null, content_hash text not null,"
            " supersedes text, state text not null, status integer, response_digest text,"
            " attempts integer not null default 0, created_at text not null, updated_at text not null);"
            "insert into deliveries (key, endpoint, asset, day, content_hash, state, status, attempts, created_at,"
            " updated_at) values ('a after None', 'https://h#1', 'report', '2026-03-01', 'a', 'sent', 201, 1, 't', 't')"
        )
    for _ in range(2):
        database = Database(path)
        assert plan(Deliveries(database), "a").state == "sent"
        assert plan(Deliveries(database), "a").failures == 0
        database.close()
