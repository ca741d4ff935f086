"""Writers of a lake who meet: what one of them adds or keeps is not lost with the other's commit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from etl_project import faults
from etl_project.storage.contract import Commit, ReadRefused, Request, Scope, Slice, Store, Table
from etl_project.storage.judging.messages import ChecksFailed
from etl_project.storage.judging.publishing import refusal
from etl_project.storage.lake import draft
from etl_project.storage.lake.candidates import FolderCandidates
from etl_project.storage.lake.store import ParquetStore
from etl_project_tests import s3

DAYS = [date(2024, 1, n) for n in (1, 2, 3)]
TABLE = Table("orders", "orders")


def put(store: ParquetStore, day: date, **columns: Any) -> list[Commit]:
    rows = pa.table({"batch_date": pa.array([day], pa.date32()), **{name: [value] for name, value in columns.items()}})
    return store.replace(TABLE, Scope.days(day, day), rows, Request("a run"))


def read(store: ParquetStore, *days: date) -> list[dict[str, Any]]:
    piece: Slice = store.read(TABLE, Scope.days(days[0], days[-1]))
    rows: list[dict[str, Any]] = store.arrow(piece).drop_columns("batch_date").to_pylist()
    return sorted(rows, key=str)


def during(monkeypatch: pytest.MonkeyPatch, step: str, do: Callable[[], object]) -> None:
    """Do something once when a writer reaches this step."""
    reached, times = faults.reach, iter([do])

    def reach(name: str) -> None:
        reached(name)
        if name == step:
            next(times, lambda: None)()

    monkeypatch.setattr(faults, "reach", reach)


def test_a_column_that_another_writer_adds_meanwhile_is_read_with_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower writer has matched its columns before there was another one: no file has both."""
    store = ParquetStore(tmp_path / "lake")
    put(store, DAYS[0], n=1)
    during(monkeypatch, "parquet.before_rename", lambda: put(store, DAYS[1], n=2, added="a"))
    put(store, DAYS[2], n=3, other=0.5)
    assert read(store, *DAYS) == [
        {"n": 1, "other": None, "added": None},
        {"n": 2, "other": None, "added": "a"},
        {"n": 3, "other": 0.5, "added": None},
    ]
    assert [read(store, day)[0].get("added") for day in DAYS] == [None, "a", None]
    assert [read(store, day)[0].get("other") for day in DAYS] == [None, None, 0.5]
    for _ in range(2):
        put(store, DAYS[0], n=1, added="b")
    assert {row["added"] for row in read(store, *DAYS)} == {None, "a", "b"}


def test_files_that_were_restored_without_their_times_are_read_with_the_columns_of_the_last_commit(
    tmp_path: Path,
) -> None:
    store = ParquetStore(tmp_path / "lake")
    put(store, DAYS[0], n=1)
    put(store, DAYS[1], n=2, added="a")
    later = time.time() + 24 * 3600
    for n, day in enumerate(reversed(DAYS[:2])):  # The oldest file last.
        os.utime(tmp_path / "lake" / "orders" / f"batch_date={day}" / "data.parquet", (later + n, later + n))
    assert read(store, DAYS[0]) == [{"n": 1, "added": None}]
    put(store, DAYS[2], n=3)
    assert read(store, *DAYS) == [{"n": 1, "added": None}, {"n": 2, "added": "a"}, {"n": 3, "added": None}]


@pytest.mark.parametrize("sequence", [1, 2, 3])
def test_a_commit_removes_no_candidate_of_a_later_write(tmp_path: Path, sequence: int) -> None:
    [committed] = put(ParquetStore(tmp_path / "lake"), DAYS[0], n=1)
    [again] = put(ParquetStore(tmp_path / "lake"), DAYS[0], n=2)
    assert (committed.sequence, again.sequence) == (1, 2)
    file = tmp_path / "rows"
    draft.write(file, pa.table({"n": [1]}).to_reader(), replace(again, sequence=sequence), [])
    kept = FolderCandidates(tmp_path / "other")
    kept.keep(replace(again, sequence=sequence), file, "red")
    kept.drop("orders", DAYS[0].isoformat(), again)
    assert [one.record.sequence for one in kept.of("orders")] == ([3] if sequence == 3 else [])


@pytest.mark.parametrize("seconds", [-1, 0, 1])
def test_a_rebuild_without_a_change_removes_no_candidate_that_was_judged_after_it(tmp_path: Path, seconds: int) -> None:
    [there] = put(ParquetStore(tmp_path / "lake"), DAYS[0], n=1)
    again = replace(there, sequence=2, changed=False)
    late = replace(again, committed_at=again.committed_at + timedelta(seconds=seconds))
    file = tmp_path / "rows"
    draft.write(file, pa.table({"n": [1]}).to_reader(), late, [])
    kept = FolderCandidates(tmp_path / "other")
    kept.keep(late, file, "red")
    kept.drop("orders", DAYS[0].isoformat(), again)
    assert len(kept.of("orders")) == (1 if seconds > 0 else 0)


@s3.needed
def test_a_slow_commit_in_a_bucket_leaves_the_candidate_of_a_write_that_came_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, audited = s3.lake_of(tmp_path), replace(TABLE, publish_after_checks=True)
    one = Scope.days(DAYS[0], DAYS[0])

    def audit(scope: Scope, shown: Store) -> None:
        if shown.arrow(shown.read(audited, scope))["n"].to_pylist() == [-1]:
            raise refusal(audited, scope, "n is negative")

    def write(n: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        rows = pa.table({"batch_date": pa.array([DAYS[0]], pa.date32()), "n": [n]})
        store.replace(audited, one, rows, Request("a run", audit=audit, still_owner=meanwhile))

    def refused() -> None:
        with pytest.raises(ChecksFailed):
            write(-1)

    write(1)
    during(monkeypatch, "bucket.after_put", refused)
    write(2)
    assert store.arrow(store.read(audited, one))["n"].to_pylist() == [2]
    assert [found.record.sequence for found in store.candidates(["orders"])] == [3]
    write(3)
    assert store.candidates(["orders"]) == []
    write(3, refused)
    assert len(store.candidates(["orders"])) == 1, "nor does a rebuild that changes nothing remove it"
    write(3)
    assert store.candidates(["orders"]) == []


def with_two_kinds(folder: Path, monkeypatch: pytest.MonkeyPatch, one: Any, other: Any) -> ParquetStore:
    """A lake to which two writers have added a column at the same time, the last one with the value `one`."""
    store = ParquetStore(folder / "lake")
    put(store, DAYS[0], n=1)
    with monkeypatch.context() as patched:
        during(patched, "parquet.before_rename", lambda: put(store, DAYS[1], n=2, added=other))
        put(store, DAYS[0], n=1, added=one)
    return store


MUCH = 2**60 + 1
INSTANT = datetime(2024, 1, 1, 5, tzinfo=UTC)
NAIVE = INSTANT.replace(tzinfo=None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (MUCH, 0.5),
        (0.5, MUCH),
        (Decimal("12345678901234567890.12"), 0.5),
        ({"a": [MUCH]}, {"a": [0.5]}),
        (NAIVE, INSTANT),
        (INSTANT, NAIVE),
        (True, 2),
        ("x", b"\xff"),
    ],
)
def test_a_column_that_two_writers_add_with_types_that_cannot_meet_is_read_as_stored_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: Any, other: Any
) -> None:
    store = with_two_kinds(tmp_path, monkeypatch, one, other)
    for day, value in zip(DAYS[:2], (one, other), strict=True):
        [row] = read(store, day)
        assert (row["added"], type(row["added"])) == (value, type(value))
    with pytest.raises((ReadRefused, duckdb.InvalidInputException), match=r"column 'added' is .* in some files"):
        read(store, *DAYS[:2])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (2, 0.5, [0.5, 2.0]),
        (0.5, 2, [0.5, 2.0]),
        ("a", 5, ["5", "a"]),
        (5, "a", ["5", "a"]),
        (date(2024, 1, 1), NAIVE, [NAIVE.replace(hour=0), NAIVE]),
        ({"a": 1}, {"b": 2}, [{"a": 1, "b": None}, {"a": None, "b": 2}]),
    ],
)
def test_a_column_that_two_writers_add_with_types_that_can_meet_is_read_with_all_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: Any, other: Any, expected: list[Any]
) -> None:
    store = with_two_kinds(tmp_path, monkeypatch, one, other)
    assert sorted((row["added"] for row in read(store, *DAYS[:2])), key=str) == expected
