"""A table takes the shape of its contract in one transaction: whatever its schema, its types and what hangs on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import duckdb
import pytest

from etl_project.storage.contract import Scope, Table
from etl_project.storage.tables import conversion, reshape, shape
from etl_project.storage.tables.table import SqlTable

COLUMNS = "batch_date DATE NOT NULL, n BIGINT, s VARCHAR"


class Changed:
    """A table made by one contract, filled, and brought to another."""

    def __init__(self, old: str, new: str, rows: str, schema: str = "main", also: Sequence[str] = ()) -> None:
        self.connection = duckdb.connect(":memory:")
        self.connection.execute("SET TimeZone = 'UTC'")
        table = Table("shop/t", "t", schema=schema, contract_sql=f"CREATE TABLE t ({old})")
        made = SqlTable(self.connection, table)
        made.prepare(Scope.days(date(2025, 1, 1), date(2025, 1, 1)), ())
        for statement in (f"INSERT INTO {made.name} BY NAME {rows}", *also):
            self.connection.execute(statement)
        table = Table("shop/t", "t", schema=schema, contract_sql=f"CREATE TABLE t ({new})")
        self.target = SqlTable(self.connection, table)
        self.have = shape.read(self.connection, self.target.schema, "t")
        self.want = shape.wanted(table)
        self.found = shape.differences(self.have, self.want, shape.Wishes())
        self.change = reshape.Reshape(self.connection, table, self.target, self.have, self.want, shape.Wishes())
        self.unfit = self.change.conversion.unfit(self.target.name)

    def rows(self) -> list[tuple[Any, ...]]:
        """Make the change; the rows after it."""
        self.connection.begin()
        self.change.run(self.found, "main")
        self.connection.commit()
        assert shape.differences(shape.read(self.connection, self.target.schema, "t"), self.want, shape.Wishes()) == []
        return self.connection.execute(f"SELECT * EXCLUDE (batch_date) FROM {self.target.name} ORDER BY ALL").fetchall()


def test_a_table_in_a_schema_keeps_its_indexes_and_views() -> None:
    changed = Changed(
        f"{COLUMNS}, PRIMARY KEY (batch_date, n)",
        f"{COLUMNS}, PRIMARY KEY (batch_date)",
        "SELECT DATE '2025-01-01' AS batch_date, 1 AS n, 'a' AS s",
        schema="crm",
        also=["CREATE INDEX mine ON crm.t (n)", "CREATE VIEW crm.v AS SELECT n + 1 AS m FROM crm.t"],
    )
    assert list(reshape.broken_indexes(changed.target, changed.have, changed.want, ())) == []
    assert reshape.broken_views(changed.connection, changed.target, changed.want, ()) == []
    assert changed.rows() == [(1, "a")]
    assert changed.connection.sql("SELECT index_name FROM duckdb_indexes()").fetchall() == [("mine",)]
    assert changed.connection.sql("FROM crm.v").fetchall() == [(2,)]


@pytest.mark.parametrize(
    ("old", "new", "value", "kept"),
    [
        ("BIGINT", "DECIMAL(9,2)", "7", "7.00"),
        ("BIGINT", "TINYINT", "300", None),
        ("BIGINT", "DOUBLE", "9007199254740993", None),
        ("DOUBLE", "DECIMAL(9,2)", "0.1", "0.10"),
        ("DOUBLE", "DECIMAL(9,2)", "0.123", None),
        ("DOUBLE", "BIGINT", "1.5", None),
        ("VARCHAR", "BIGINT", "'1.5'", None),
        ("VARCHAR", "BIGINT", "'15'", "15"),
        ("VARCHAR", "DECIMAL(9,2)", "'1.234'", None),
        ("VARCHAR", "DATE", "'2025-01-02'", "2025-01-02"),
        ("VARCHAR", "DATE", "'2025-01-02 10:00:00'", None),
        ("VARCHAR", "DATE", "'02.01.2025'", None),
        ("VARCHAR", "JSON", "'{'", None),
        ("TIMESTAMP", "TIMESTAMPTZ", "'2025-01-02 10:00:00'", None),
        ("DATE", "TIMESTAMPTZ", "'2025-01-02'", None),
        ("DATE", "TIMESTAMP", "'2025-01-02'", "2025-01-02 00:00:00"),
        ("TIMESTAMP", "DATE", "'2025-01-02 10:00:00'", None),
        ("BOOLEAN", "INTEGER", "true", "1"),
        ("INTEGER", "BOOLEAN", "2", None),
        ("BLOB", "BIGINT", "'a'", None),
        ("STRUCT(a INTEGER)", "STRUCT(a BIGINT)", "{'a': 1}", "{'a': 1}"),
        ("INTEGER[]", "BIGINT[]", "[1, 2]", "[1, 2]"),
    ],
)
def test_a_value_goes_over_when_it_comes_out_the_same_and_is_named_when_it_does_not(
    old: str, new: str, value: str, kept: str | None
) -> None:
    rows = f"SELECT DATE '2025-01-01' AS batch_date, x FROM (VALUES ({value}::{old}), (NULL)) v (x)"
    changed = Changed(f"batch_date DATE, x {old}", f"batch_date DATE, x {new}", rows)
    if kept is None:
        [unfit] = changed.unfit
        assert unfit.rows == 1 and unfit.partitions == (("2025-01-01", 1),) and "x is to be" in unfit.why
    else:
        assert changed.unfit == []
        assert sorted(str(x) for (x,) in changed.rows()) == sorted(["None", kept])


def test_defaults_fill_new_columns_in_old_rows() -> None:
    rows = "SELECT DATE '2025-01-01' AS batch_date, 1 AS n, 'a' AS s"
    changed = Changed(COLUMNS, f"{COLUMNS}, z INTEGER DEFAULT 3 NOT NULL, y VARCHAR DEFAULT 'x', w DATE", rows)
    assert changed.unfit == [] and changed.rows() == [(1, "a", 3, "x", None)]


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("BIGINT", "DECIMAL(12,3)", True),
        ("INTEGER", "BIGINT", True),
        ("DECIMAL(9,2)", "DECIMAL(12,3)", True),
        ("DECIMAL(12,3)", "DECIMAL(9,2)", False),
        ("FLOAT", "DOUBLE", False),
        ("VARCHAR", "DATE", False),
        ("DATE", "TIMESTAMP", False),
    ],
)
def test_what_text_reads_as_under_another_type_is_taken_to_be_the_same_for_numbers_with_more_room_only(
    old: str, new: str, same: bool
) -> None:
    assert conversion.keeps_every_text(old, new) is same
