"""What is kept with the commit of a rebuild that gave other rows for the same inputs and code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from etl_project.storage.contract import UNKNOWN, Commit, Deviation, Example, Request, Scope, Store, Table
from etl_project.storage.judging import commits, deviation, judgement, payload
from etl_project_tests.contracts.backends import open_store

DAY = date(2024, 1, 1)
KEY = DAY.isoformat()
Build = Callable[..., Commit]


@pytest.fixture(params=["duckdb", "parquet"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(request.param, tmp_path)


@pytest.fixture
def build(store: Store) -> Build:
    """Writes a day from columns of values, by default from the same inputs and code as before."""

    def write(table: Table, inputs: str = "inputs", version: str | None = "code", **columns: Any) -> Commit:
        rows = len(next(iter(columns.values())))
        data = pa.table({"batch_date": pa.array([DAY] * rows, pa.date32()), **columns})
        (commit,) = store.replace(table, Scope.days(DAY, DAY), data, Request("a run", version, {KEY: inputs}))
        return commit

    return write


def keyed(*key: str, columns: str = "id BIGINT, a BIGINT") -> Table:
    return Table("t", "t", contract_sql=f"CREATE TABLE t (batch_date DATE, {columns}, PRIMARY KEY ({', '.join(key)}))")


PLAIN = Table("t", "t")
CASES: dict[str, tuple[Table, dict[str, Any], dict[str, Any], set[str], list[tuple[Any, Any]]]] = {
    "a column beside the key": (
        keyed("id"),
        {"id": [1, 2, 3], "a": [11, 12, 13]},
        {"id": [3, 2, 1], "a": [13, 12, 0]},
        {"a"},
        [({"id": "1", "a": "11"}, {"id": "1", "a": "0"})],
    ),
    "a column, without a key": (
        PLAIN,
        {"name": ["x", "y"], "v": [0.3, 1.0]},
        {"name": ["y", "x"], "v": [1.0, 0.1 + 0.2]},
        {"v"},
        [({"name": "x", "v": "0.3"}, {"name": "x", "v": "0.30000000000000004"})],
    ),
    "a key that is random": (
        keyed("id", columns="id VARCHAR, a BIGINT"),
        {"id": ["p", "q"], "a": [1, 2]},
        {"id": ["s", "r"], "a": [2, 1]},
        {"id"},
        [({"id": "p", "a": "1"}, {"id": "r", "a": "1"}), ({"id": "q", "a": "2"}, {"id": "s", "a": "2"})],
    ),
    "another pick of rows with a key": (
        keyed("id"),
        {"id": [1, 2], "a": [11, 12]},
        {"id": [2, 3], "a": [12, 13]},
        {"id", "a"},
        [({"id": "1", "a": "11"}, None), (None, {"id": "3", "a": "13"})],
    ),
    "another pick of rows without a key": (
        PLAIN,
        {"id": [1, 2], "a": [11, 12]},
        {"id": [2, 3], "a": [12, 13]},
        {"id", "a"},
        [({"id": "1", "a": "11"}, None), (None, {"id": "3", "a": "13"})],
    ),
    "numbers over ties": (
        PLAIN,
        {"name": ["x", "y"], "nth": [1, 2]},
        {"name": ["x", "y"], "nth": [2, 1]},
        {"nth"},
        [
            ({"name": "x", "nth": "1"}, {"name": "x", "nth": "2"}),
            ({"name": "y", "nth": "2"}, {"name": "y", "nth": "1"}),
        ],
    ),
    "more rows": (
        keyed("id"),
        {"id": [1], "a": [11]},
        {"id": [1, 2], "a": [11, 12]},
        set(),
        [(None, {"id": "2", "a": "12"})],
    ),
    "a row twice": (
        PLAIN,
        {"id": [1, 2, 2], "a": [1, 2, 2]},
        {"id": [1, 1, 2], "a": [1, 1, 2]},
        {"id", "a"},
        [(None, {"id": "1", "a": "1"}), ({"id": "2", "a": "2"}, None)],
    ),
    "one row of one value": (PLAIN, {"v": [0.0]}, {"v": [-0.0]}, {"v"}, [({"v": "0.0"}, {"v": "-0.0"})]),
    "nothing any more": (PLAIN, {"v": [1]}, {"v": pa.array([], pa.int64())}, set(), [({"v": "1"}, None)]),
    "a value that was missing": (
        PLAIN,
        {"name": ["x"], "v": pa.array([None], pa.string())},
        {"name": ["x"], "v": ["there"]},
        {"v"},
        [({"name": "x", "v": None}, {"name": "x", "v": "there"})],
    ),
    "nested and odd types, and names that need quotes": (
        PLAIN,
        {'a "b"; --': [b"\x00"], "List": [[1, 2]], "d": [{"x": 1}]},
        {'a "b"; --': [b"\x00"], "List": [[1, 3]], "d": [{"x": 1}]},
        {"List"},
        [
            (
                {'a "b"; --': "\\x00", "List": "[1, 2]", "d": "{'x': 1}"},
                {'a "b"; --': "\\x00", "List": "[1, 3]", "d": "{'x': 1}"},
            )
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_columns_that_differ_and_example_rows_are_kept_with_the_commit(
    case: str, store: Store, build: Build
) -> None:
    table, old, new, columns, examples = CASES[case]
    former = build(table, **old)
    commit = build(table, **new)
    found = commit.deviation
    assert former.deviation is None and found is not None and found.note is None
    assert (found.fingerprint, set(found.columns)) == (former.fingerprint, columns)
    assert list(found.examples) == [Example(one, other) for one, other in examples]
    assert store.history("t", KEY)[-1] == commit == store.last_commits()["t", KEY]


def test_the_same_rows_three_times_more_clear_it_and_a_coin_that_repeats_once_or_twice_does_not(
    store: Store, build: Build
) -> None:
    tosses = [(1, "green"), (2, "red"), (2, "red"), (1, "red"), (1, "red"), (1, "red"), (2, "red")]
    steady = [(2, "red"), (2, "red"), (2, "green"), (2, "green"), (1, "red")]
    for value, colour in tosses + steady:
        assert (build(PLAIN, v=[value]).deviation is not None) is (colour == "red")
        assert (store.last_commits()["t", KEY].deviation is not None) is (colour == "red")


def test_a_deviation_is_kept_with_its_examples_while_its_rows_repeat(build: Build) -> None:
    for value in (1, 2):
        found = build(PLAIN, v=[value]).deviation
    again = build(PLAIN, v=[2]).deviation
    assert found is not None and found.examples and again == replace(found, repeats=1)
    assert build(PLAIN, version="other", v=[2]).deviation is None


def test_inputs_that_come_back_give_the_rows_that_they_gave_before(build: Build) -> None:
    """A correction and its withdrawal: input A, B, A. The rows of the first build are gone, its fingerprint is not."""
    first = build(PLAIN, inputs="A", v=[1])
    assert build(PLAIN, inputs="B", v=[2]).deviation is None
    assert build(PLAIN, inputs="A", v=[1]).deviation is None
    build(PLAIN, inputs="B", v=[2])
    found = build(PLAIN, inputs="A", v=[3]).deviation
    assert found is not None and found.fingerprint == first.fingerprint and "taken the place" in str(found.note)
    again = [build(PLAIN, inputs="A", v=[3]).deviation for _ in range(judgement.STEADY)]
    assert [each is not None for each in again] == [True, True, False]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"inputs": "a"}, {"inputs": "b"}),
        ({"version": "1"}, {"version": "2"}),
        ({"inputs": UNKNOWN}, {"inputs": UNKNOWN}),
        ({"version": None}, {"version": None}),
    ],
)
def test_other_or_unknown_inputs_and_code_may_give_other_rows(
    build: Build, first: dict[str, Any], second: dict[str, Any]
) -> None:
    build(PLAIN, **first, v=[1])
    assert build(PLAIN, **second, v=[2]).deviation is None


def test_fingerprints_of_another_algorithm_are_not_compared() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    old = Commit("t", KEY, 1, "r", "code", "inputs", "1:1:aa", 0, 1, 1, 0, 0, True, at)
    assert judgement.is_not_reproducible(old, replace(old, fingerprint="1:1:bb"))
    assert not judgement.is_not_reproducible(old, replace(old, fingerprint="2:1:bb"))


def test_rows_that_were_edited_meanwhile_are_not_compared_and_this_is_said(tmp_path: Path) -> None:
    store = open_store("duckdb", tmp_path)
    request = Request("a run", "code", {KEY: "inputs"})

    def write(value: int) -> Commit:
        data = pa.table({"batch_date": pa.array([DAY], pa.date32()), "v": [value]})
        return store.replace(PLAIN, Scope.days(DAY, DAY), data, request)[0]

    write(1)
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("UPDATE t SET v = 5")
    found = write(2).deviation
    assert found is not None and not found.examples and "have been changed since" in str(found.note)


def test_of_many_days_the_first_are_looked_into_and_all_are_named(store: Store) -> None:
    scope = Scope.days(DAY, date(2024, 1, 10))
    days = pa.array([partition.lower for partition in scope.partitions], pa.date32())
    request = Request("a run", "code", {partition.key: "inputs" for partition in scope.partitions})
    store.replace(PLAIN, scope, pa.table({"batch_date": days, "v": [1] * 10}), request)
    made = store.replace(PLAIN, scope, pa.table({"batch_date": days, "v": [2] * 10}), request)
    found = [commit.deviation for commit in made]
    assert all(found) and [bool(each.examples) for each in found if each] == [True] * 3 + [False] * 7
    assert found[9] is not None and "not compared" in str(found[9].note)


def test_what_is_kept_is_bounded(build: Build) -> None:
    wide = {f"c{n}": ["steady"] * 50 for n in range(40)}
    build(PLAIN, **wide, text=["a" * 10_000 + str(n) for n in range(50)])
    found = build(PLAIN, **wide, text=["b" * 10_000 + str(n) for n in range(50)]).deviation
    assert found is not None and found.columns == ("text",) and len(found.examples) == 5
    assert all(
        each.new is not None and len(each.new) == 12 and len(str(each.new["text"])) < 110 for each in found.examples
    )


@pytest.mark.parametrize("rows", [4, 130_000], ids=["one row group", "several, of which a sample is compared"])
def test_a_stream_too_long_to_be_held_has_example_rows_too(
    store: Store, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(payload, "_HELD_ROWS", 3)
    ids = pa.array(range(rows), pa.int64())
    days = pa.array([DAY] * rows, pa.date32())

    def written(values: pa.Array, inputs: str = "inputs") -> Commit:
        stream = pa.table({"batch_date": days, "id": ids, "a": values}).to_reader(max_chunksize=50_000)
        (commit,) = store.replace(keyed("id"), Scope.days(DAY, DAY), stream, Request("a run", "code", {KEY: inputs}))
        return commit

    def there() -> pa.Table:
        return store.arrow(store.read(keyed("id"), Scope.days(DAY, DAY))).sort_by("id")

    assert written(ids).deviation is None
    other = pc.add(ids, 7)
    found = written(other).deviation
    assert found is not None and found.columns == ("a",)
    assert len(found.examples) == min(rows, deviation.EXAMPLES)
    assert all(one.old and one.new and int(one.new["a"]) == int(one.old["a"]) + 7 for one in found.examples)
    assert (found.note is None) == (rows == 4)
    assert there()["a"].to_pylist() == other.to_pylist()
    kept = max(store.history("t", KEY), key=lambda one: one.sequence)
    assert kept.deviation == found
    again = written(other)
    assert again.deviation is not None and again.deviation.repeats == 1
    assert written(ids, "other inputs").deviation is None
    assert there()["a"].to_pylist() == ids.to_pylist()


def test_of_very_many_rows_a_sample_is_compared(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deviation, "SAMPLED_ROWS", 1000)
    ids = list(range(10_000))
    build(keyed("id"), id=ids, a=ids)
    found = build(keyed("id"), id=ids[::-1], a=[n + 1 for n in ids[::-1]]).deviation
    assert found is not None and found.columns == ("a",) and found.note == "compared one in 11 rows"
    assert len(found.examples) == 5 and all(each.old and each.new for each in found.examples)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Deviation("f", ("a", "b"), ()), ["columns that differ: a, b"]),
        (
            Deviation("f", ("a",), (Example({"k": "1", "a": None}, {"k": "1", "a": "x"}),)),
            ["columns that differ: a", "a was NULL, is x where k = 1"],
        ),
        (Deviation("f", (), (Example(None, {"k": "1"}),)), ["a row is there that was not: k = 1"]),
        (Deviation("f", (), (Example({"k": "1"}, None),)), ["a row that was there is gone: k = 1"]),
        (Deviation("f"), ["rows are put together differently"]),
    ],
)
def test_it_is_told_in_words(found: Deviation, says: list[str]) -> None:
    assert deviation.in_words(found) == says


def test_records_of_an_earlier_version_are_read_and_their_table_gets_the_new_column(tmp_path: Path) -> None:
    store = open_store("duckdb", tmp_path)
    data = pa.table({"batch_date": pa.array([DAY], pa.date32()), "v": [1]})
    request = Request("a run", "code", {KEY: "inputs"})
    store.replace(PLAIN, Scope.days(DAY, DAY), data, request)
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT * EXCLUDE (deviation) FROM etl_commits")
        connection.execute("DROP TABLE etl_commits")
        connection.execute(
            "CREATE TABLE etl_commits (asset VARCHAR NOT NULL, partition_key VARCHAR NOT NULL, "
            "sequence BIGINT NOT NULL, run_id VARCHAR NOT NULL, code_version VARCHAR, input_hash VARCHAR NOT NULL, "
            "fingerprint VARCHAR NOT NULL, rows_before BIGINT NOT NULL, rows BIGINT NOT NULL, rows_added BIGINT, "
            "rows_removed BIGINT, rows_kept BIGINT, changed BOOLEAN NOT NULL, "
            "committed_at TIMESTAMP WITH TIME ZONE NOT NULL, schema_changes VARCHAR[] NOT NULL, "
            "PRIMARY KEY (asset, partition_key, sequence))"
        )
        connection.execute("INSERT INTO etl_commits BY NAME FROM kept")
    assert store.last_commits()["t", KEY].deviation is None
    for value in (2, 3):
        data = data.set_column(1, "v", [[value]])
        (commit,) = store.replace(PLAIN, Scope.days(DAY, DAY), data, request)
        assert commit.deviation is not None and store.history("t", KEY)[-1] == commit


def test_a_record_without_the_field_is_read_from_a_footer() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    commit = Commit("t", KEY, 1, "r", "code", "inputs", "1:1:aa", 0, 1, 1, 0, 0, True, at)
    fields = commits.to_fields(commit)
    del fields["deviation"]
    assert commits.from_fields(fields) == commit
    red = replace(commit, deviation=Deviation("f", ("a",), (Example({"a": "1"}, None),), "a note"))
    assert commits.from_json(commits.to_json(red)) == red
