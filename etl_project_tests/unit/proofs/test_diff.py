"""What a diff says of two versions of a day."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl_project.cli.diff import CannotCompare, compared, days_of, show, versions
from etl_project.declare.daily_table import daily
from etl_project.proofs import Difference, Side, Stored, difference, identifying
from etl_project.storage import DuckDBStore, ParquetStore, Scope, Store, Table
from etl_project.storage.contract import Request

DAYS = [date(2024, 3, day) for day in (5, 6, 7)]
DAY = DAYS[0].isoformat()
KEYED = Table(
    "orders",
    "orders",
    contract_sql="CREATE TABLE orders (batch_date DATE, id INTEGER, amount DECIMAL(12, 2), note VARCHAR, "
    "PRIMARY KEY (batch_date, id))",
    keep_versions=3,
)
KEYLESS = replace(KEYED, contract_sql=None)
TYPES = pa.schema(
    [("batch_date", pa.date32()), ("id", pa.int32()), ("amount", pa.decimal128(12, 2)), ("note", pa.string())]
)


def rows(*of: tuple[int, str | None, str | None], day: date = DAYS[0]) -> pa.Table:
    records = [(day, number, None if amount is None else Decimal(amount), note) for number, amount, note in of]
    return pa.Table.from_pylist([dict(zip(TYPES.names, record, strict=True)) for record in records], schema=TYPES)


def stored(folder: Path, kind: str, table: Table = KEYED) -> Stored:
    store: Store = DuckDBStore(folder / "w.duckdb") if kind == "duckdb" else ParquetStore(folder / "lake")
    return Stored("orders", table, daily(DAYS[0]), store)


def put(target: Stored, data: pa.Table, day: date = DAYS[0]) -> None:
    target.store.replace(target.table, Scope.days(day, day), data, Request("a run"))


def found(target: Stored, first: int | None = None, last: int | None = None) -> Difference:
    [one] = compared(target, [DAY], versions(first, last, strict=True))
    return one


BEFORE = rows((1, "1.50", "a"), (2, "2.00", None), (3, "3.00", "c"))
AFTER = rows((2, "2.00", "b"), (3, "4.25", "d"), (4, "5.00", "e"), (5, None, "f"))


@pytest.mark.parametrize("kind", ["duckdb", "parquet"])
def test_rows_are_told_apart_by_their_key(tmp_path: Path, kind: str) -> None:
    target = stored(tmp_path, kind)
    for data in (BEFORE, AFTER):
        put(target, data)
    one = found(target)
    assert (one.rows_before, one.rows_after, one.added, one.removed, one.changed) == (3, 4, 2, 1, 2)
    assert one.columns == {"amount": 1, "note": 2}
    assert one.sums == {"amount": ("6.50", "11.25")} and one.not_summed == ("id",)
    pairs = [(e.old and e.old["id"], e.new and e.new["id"]) for e in one.examples]
    assert sorted(pairs, key=str) == [("1", None), ("2", "2"), ("3", "3"), (None, "4"), (None, "5")]


def test_without_a_key_rows_count_by_their_content(tmp_path: Path) -> None:
    target = stored(tmp_path, "duckdb", KEYLESS)
    put(target, rows((1, "1", "a"), (1, "1", "a"), (2, "2", "b")))
    put(target, rows((1, "1", "a"), (2, "2", "B")))
    one = found(target)
    assert (one.added, one.removed, one.changed) == (1, 2, None)
    assert one.sums == {"id": ("4", "3"), "amount": ("4.00", "3.00")}


def test_a_key_that_comes_twice_on_one_side_is_no_key(tmp_path: Path) -> None:
    target = stored(tmp_path, "parquet")  # Files keep no constraints.
    put(target, rows((1, "1", "a")))
    put(target, rows((1, "1", "a"), (1, "1", "b")))
    assert (found(target).added, found(target).removed, found(target).changed) == (1, 0, None)


def test_what_is_a_key_in_any_contract_is_not_summed_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A customer's number is a key of the customers, and no amount in the orders."""
    keyless = stored(tmp_path, "duckdb", KEYLESS)
    put(keyless, rows((1, "1", "a"), (1, "1", "a")))
    put(keyless, rows((1, "1", "a"), (2, "2", "b")))
    customers = Table(
        "customers", "customers", contract_sql="CREATE TABLE customers (day DATE, ID INT, UNIQUE (day, ID))"
    )
    apart = identifying([keyless, stored(tmp_path, "duckdb", customers)])
    assert apart == {"day", "id", "source_line"}
    [one] = compared(keyless, [DAY], versions(None, None, strict=True), apart)
    assert (one.sums, one.not_summed) == ({"amount": ("2.00", "3.00")}, ("id",))
    show([one], examples=False)
    shown = capsys.readouterr().out
    assert "not summed, being keys: id" in shown and "sum(id)" not in shown
    assert found(keyless).sums.keys() == {"id", "amount"}, "nobody says that it is one"


def test_the_same_rows_differ_in_nothing_whatever_columns_came_since(tmp_path: Path) -> None:
    target = stored(tmp_path, "duckdb", KEYLESS)
    put(target, BEFORE)
    put(target, AFTER)
    wider = BEFORE.append_column("more", pa.array([None] * 3, pa.string()))
    wide = wider.set_column(1, "id", wider.column("id").cast(pa.int64()))
    put(target, wide)
    one = found(target, 1, 3)
    assert one.same and one.columns == {} and one.examples == ()


def test_versions_are_chosen_by_their_commits(tmp_path: Path) -> None:
    target = stored(tmp_path, "duckdb")
    for data in (BEFORE, AFTER, rows(), BEFORE):
        put(target, data)
    assert found(target, 1, 4).same
    assert (found(target, 2, 3).removed, found(target, 2, 3).rows_after) == (4, 0)
    assert (found(target).added, found(target, None, 2).changed) == (3, 2)


def test_a_range_gives_one_line_a_day_that_has_two_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = stored(tmp_path, "duckdb")
    for n, day in enumerate(DAYS):
        put(target, rows((1, "1", "a"), day=day), day)
        if n:
            put(target, rows((1, "2", "a"), day=day), day)
    keys = days_of(target, DAY, DAYS[-1].isoformat())
    several = list(compared(target, keys, versions(None, None, strict=False)))
    assert [(one.partition, one.changed, dict(one.columns)) for one in several] == [
        ("2024-03-06", 1, {"amount": 1}),
        ("2024-03-07", 1, {"amount": 1}),
    ]
    show(several, examples=False)
    shown = capsys.readouterr().out
    assert "2024-03-06" in shown and "1.00 → 2.00" in shown and "amount (1)" in shown


@pytest.mark.parametrize(("day", "until"), [(None, "2024-03-06"), ("2024-03-06", "2024-03-05"), (DAY, "now")])
def test_a_range_that_is_none_is_refused(tmp_path: Path, day: str | None, until: str) -> None:
    with pytest.raises((CannotCompare, Exception), match=r"--day|later one last"):
        days_of(stored(tmp_path, "duckdb"), day, until)


def test_a_day_without_a_kept_version_says_what_to_do(tmp_path: Path) -> None:
    target = stored(tmp_path, "duckdb")
    put(target, BEFORE)
    with pytest.raises(CannotCompare, match=r"no kept version to compare with. Set keep_versions .* `--rebuild`"):
        found(target)


def test_floats_are_summed_to_the_digits_that_no_order_changes(tmp_path: Path) -> None:
    target = stored(tmp_path, "duckdb", KEYLESS)

    def floats(*values: float) -> pa.Table:
        return pa.table({"batch_date": pa.array([DAYS[0]] * len(values), pa.date32()), "v": list(values)})

    put(target, floats(0.1, 0.2, 0.3))
    put(target, floats(0.3, 0.2, 0.1, 1e-20))
    assert found(target).sums == {"v": ("0.6", "0.6")}


def test_it_can_be_written_as_json(tmp_path: Path) -> None:
    from dataclasses import asdict  # noqa: PLC0415

    target = stored(tmp_path, "duckdb")
    put(target, BEFORE)
    put(target, AFTER)
    fields: Any = json.loads(json.dumps(asdict(found(target))))
    assert fields["sums"] == {"amount": ["6.50", "11.25"]} and fields["columns"] == {"amount": 1, "note": 2}


def test_the_sides_may_lie_in_two_stores(tmp_path: Path) -> None:
    one, other = stored(tmp_path / "a", "duckdb"), stored(tmp_path / "b", "parquet")
    put(one, BEFORE)
    put(other, AFTER)
    sides = [Side(each.store, each.store.read(each.table, each.scope([DAY]))) for each in (one, other)]
    assert difference(one, DAY, *sides).changed == 2
