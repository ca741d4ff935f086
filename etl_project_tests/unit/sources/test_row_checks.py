"""Checks declared in YAML: each day has its own result, and a blocking one holds only that day."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import duckdb
import pytest

from etl_project.declare import contracts
from etl_project.sources import SpecError, row_checks
from etl_project.sources.check_words import EXAMPLES, CheckWords
from etl_project_tests.projects import source_project

CONTRACT = """
CREATE TABLE sales (
    batch_date DATE NOT NULL, id BIGINT, amount DECIMAL(12, 3), country VARCHAR, paid BOOLEAN, seen TIMESTAMPTZ
);
"""
ROWS = """
INSERT INTO sales VALUES
    ('2025-03-01', 1, 1.5, 'DE', true, '2025-03-01 10:00:00+00'), ('2025-03-01', 2, NULL, 'FR', false, NULL),
    ('2025-03-02', 3, -1, 'UK', true, '2025-03-02 23:59:00+00'), ('2025-03-02', 3, 99, NULL, NULL, NULL),
    ('2025-03-02', NULL, 5, 'DE', true, '2025-03-03 00:00:00+00');
"""
DEFS: dict[str, Any] = {
    "name": "sales",
    "patterns": ["{date}.csv"],
    "columns": {name: name for name in ("id", "amount", "country", "paid", "seen")},
}


def looked(**words: Any) -> row_checks._Looked:
    contract = contracts.parse(CONTRACT)["sales"]
    return row_checks._Looked("sales", CheckWords(**words), {c.name: c.type for c in contract.columns})


def refusal(*declared: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as refused:
        row_checks.checks(
            SimpleNamespace(name="sales"), contracts.parse(CONTRACT)["sales"], [CheckWords(**one) for one in declared]
        )  # type: ignore[arg-type]
    return str(refused.value)


@pytest.mark.parametrize(
    ("words", "bad"),
    [
        ({"check": "not_null", "columns": ["id"]}, 1),
        ({"check": "not_null", "columns": ["id", "country"]}, 2),
        ({"check": "unique", "columns": ["id"]}, 2),
        ({"check": "unique", "columns": ["id", "amount"]}, 0),
        ({"check": "accepted_values", "columns": ["country"], "values": ["DE", "FR"]}, 1),
        ({"check": "accepted_values", "columns": ["paid"], "values": [False]}, 2),
        ({"check": "accepted_values", "columns": ["amount"], "values": [-1, 99, "5.000"]}, 0),
        ({"check": "accepted_range", "columns": ["amount"], "min": 0}, 1),
        ({"check": "accepted_range", "columns": ["amount"], "min": -1, "max": 98.999}, 1),
        ({"check": "accepted_range", "columns": ["seen"], "max": "2025-03-02 23:59:59+00"}, 1),
    ],
)
def test_rows_at_fault_are_counted_day_by_day(words: dict[str, Any], bad: int) -> None:
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"SET TimeZone = 'UTC'; {CONTRACT} {ROWS}")
        one = looked(**words)
        _, second = one.of_days(connection, one.days(connection)).values()
    assert second.passed == (bad == 0)
    assert second.metadata["rows at fault"].value == bad
    assert second.passed or f"Found: {bad} of 3 rows" in str(second.description)


@pytest.mark.parametrize(
    ("limits", "passed"), [((2, 2), (True, False)), ((3, None), (False, True)), ((0, 1), (False,) * 2)]
)
def test_the_number_of_rows_is_held_within_limits(limits: tuple[int, int | None], passed: tuple[bool, bool]) -> None:
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"SET TimeZone = 'UTC'; {CONTRACT} {ROWS}")
        one = looked(check="row_count", min=limits[0], max=limits[1])
        assert tuple(result.passed for result in one.of_days(connection, one.days(connection)).values()) == passed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"check": "not_null"}, "needs columns; write it like {check: not_null"),
        ({"check": "not_null", "columns": ["idd"]}, "there is no column idd"),
        ({"check": "not_null", "columns": ["id"], "min": 1}, "takes no min"),
        ({"check": "accepted_values", "columns": ["id"]}, "needs values"),
        ({"check": "accepted_values", "columns": ["id"], "values": ["a"]}, "cannot be computed: Conversion Error"),
        ({"check": "accepted_range", "columns": ["id"]}, "needs min, max or both"),
        ({"check": "accepted_range", "columns": ["seen"], "min": "soon"}, "cannot be computed"),
        (
            {"check": "accepted_range", "columns": ["country"], "min": 0},
            "country, which is text, where 9 is more than 10",
        ),
        ({"check": "row_count", "min": 1.5}, "min and max are whole numbers"),
        ({"check": "freshness"}, "needs within_hours"),
        ({"check": "freshness", "within_hours": -1}, "must be above 0"),
        ({"check": "freshness", "within_hours": 1, "blocking": True}, "cannot be blocking"),
    ],
)
def test_a_check_that_cannot_be_made_is_refused_with_a_right_example(words: dict[str, Any], told: str) -> None:
    assert told in refusal(words)


def test_two_checks_of_one_name_are_refused() -> None:
    one = {"check": "not_null", "columns": ["id"]}
    assert "not_null_id' is there twice" in refusal(one, one)


def test_the_examples_are_right() -> None:
    import yaml  # noqa: PLC0415

    names = ("customer_id", "order_no", "country", "amount")
    contract = contracts.parse(f"CREATE TABLE t (batch_date DATE, {', '.join(f'{n} VARCHAR' for n in names)})")["t"]
    declared = [CheckWords(**yaml.safe_load(text)) for text in EXAMPLES.values()]
    row_checks.refuse_unusable(declared, {column.name for column in contract.columns})
    assert row_checks.freshness_policy(declared) == dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=26))


def test_a_blocking_check_shows_the_bad_day_and_a_warning_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = [
        {"check": "not_null", "columns": ["country"], "blocking": True},
        {"check": "row_count", "min": 2, "severity": "warn"},
        {"check": "freshness", "within_hours": 26},
    ]
    with source_project(tmp_path, {**DEFS, "checks": declared}, CONTRACT, monkeypatch) as project:
        for day, country in (("2025-03-01", "DE"), ("2025-03-02", "")):
            project.drop(f"{day}.csv", f"id,amount,country,paid,seen\n{day[-1]},1,{country},true,2025-03-01 10:00:00\n")
        done = project.drain()
        assert {(one.name, one.partition) for one in done.red.values() if one.partition} == {
            ("not_null_country", "2025-03-02")
        }
        assert project.query("select count(*) from sales") == [(2,)]
        [policy] = {
            spec.freshness_policy
            for one in project.definitions.assets or ()
            if isinstance(one, dg.AssetsDefinition)
            for spec in one.specs
            if spec.key == dg.AssetKey("sales")
        }
        assert policy is not None
        project.drop("2025-03-02.csv", "id,amount,country,paid,seen\n2,1,FR,true,2025-03-01 10:00:00\n")
        assert not project.drain().red
