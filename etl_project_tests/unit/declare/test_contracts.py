"""Contracts: DDL read by the engine that will run it, and sources that have to fit it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from etl_project.declare import contracts
from etl_project.sources.component import FileSource
from etl_project_tests import shop

ORDERS = Path(shop.__file__).parent / "orders"
SQL = """
create table t (batch_date date not null, a integer not null, b varchar, primary key (batch_date, a));
comment on table t is 'a table'; comment on column t.a is 'a column'; create index i on t (b);
"""


def source(**changes: Any) -> FileSource:
    given: dict[str, Any] = {"name": "t", "patterns": ["{date}.csv"], "columns": {"A": "a", "B": "b"}, **changes}
    return FileSource(**given)


def test_columns_types_holes_and_comments_are_read() -> None:
    table = contracts.parse(SQL)["t"]
    assert [(c.name, c.type, c.nullable, c.comment) for c in table.columns] == [
        ("batch_date", "DATE", False, None),
        ("a", "INTEGER", False, "a column"),
        ("b", "VARCHAR", True, None),
    ]
    assert table.comment == "a table"


def test_a_contract_that_is_no_sql_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "contract.sql").write_text("create tabel t (a int)")
    with pytest.raises(contracts.ContractError, match=r"contract\.sql.*tabel"):
        contracts.read(tmp_path / "contract.sql")


def test_a_missing_contract_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(contracts.ContractError, match=r"contract\.sql"):
        source().spec(tmp_path)


def test_a_table_that_the_contract_does_not_have_is_named_with_those_it_has() -> None:
    with pytest.raises(contracts.ContractError, match=r"no CREATE TABLE payments.*daily_sales, orders"):
        source(name="payments").contract(ORDERS)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"columns": {"A": "a"}}, "column b of CREATE TABLE t comes from nowhere"),
        ({"columns": {"A": "a", "B": "b", "C": "c"}}, "column c is not in CREATE TABLE t"),
        ({"computed": {"b": "1"}}, "column b is given twice"),
        ({"columns": {"A": "x"}}, "column x is not.*column a of.*column b of"),
    ],
)
def test_a_source_that_does_not_fit_its_table_lists_all_differences(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    (tmp_path / "contract.sql").write_text(SQL)
    with pytest.raises(contracts.ContractError, match=says):
        source(**changes).spec(tmp_path)


def test_a_zone_that_does_not_exist_is_refused_when_the_source_is_loaded(tmp_path: Path) -> None:
    shutil.copy(ORDERS / "contract.sql", tmp_path)
    (tmp_path / "contract.sql").write_text(SQL)
    with pytest.raises(Exception, match="Europe/Lodnon"):
        source(time_zone="Europe/Lodnon").spec(tmp_path)
