"""From which columns of its inputs a query computes each of its columns: all of them, and never another one."""

from __future__ import annotations

import sys

import duckdb
import pytest

from etl_project.storage.sql_lineage import NotFollowed, columns_behind

pytest.importorskip("sqlglot")

COLUMNS = {"orders": ["n", "Code", "units", "price", "tags"], "payments": ["n", "amount", "code"]}
ROWS = {
    "orders": "(1, 'a', 3, 10, [1, 2]), (2, 'b', 5, 20, [3]), (3, 'b', 8, 40, [4, 5])",
    "payments": "(1, 7, 'a'), (2, 11, 'x'), (3, 13, 'y')",
}
OTHER = {"n": "n * (7 - 2 * n)", "units": "units * 7 + 1", "price": "price * price + 3", "amount": "amount * 3 + 1"} | {
    "code": "code || 'z'",
    "tags": "list_transform(tags, lambda x: x + 50)",
}
"""Another value for each column: what is computed from it is another one then, too."""

VALUES = [
    (
        "select n, Code as c, units * price as revenue from orders",
        {"n": "o.n", "c": "o.code", "revenue": "o.price o.units"},
    ),
    ("from orders", {name.lower(): f"o.{name.lower()}" for name in COLUMNS["orders"]}),
    (
        "select * exclude (tags, code) replace (units + price as units) from ORDERS",
        {"n": "o.n", "units": "o.price o.units", "price": "o.price"},
    ),
    ("select count(*) as rows, sum(units) as units from orders", {"rows": "", "units": "o.units"}),
    ("select units + 1 as x, x * 2 as y from orders", {"x": "o.units", "y": "o.units"}),
    ("select price as units, units * 2 as y from orders", {"units": "o.price", "y": "o.units"}),
    (
        "with a as (select n, units as u from orders), b(x, y) as (select u, n from a) select x, y + x as z from b",
        {"x": "o.units", "z": "o.n o.units"},
    ),
    ("with orders as (select price * 2 as units from orders) select units from orders", {"units": "o.price"}),
    (
        "select a.units as x, b.price as y from orders a positional join orders b",
        {"x": "o.units", "y": "o.price"},
    ),
    (
        "select n, units as u from orders union all select amount, n from payments",
        {"n": "o.n p.amount", "u": "o.units p.n"},
    ),
    (
        "select n, units as u from orders union all by name select n as u, amount as n from payments",
        {"n": "o.n p.amount", "u": "o.units p.n"},
    ),
    ("select (select sum(amount) from payments) as s, units from orders", {"s": "p.amount", "units": "o.units"}),
    ("select sum(units) over (order by n) as u from orders", {"u": "o.n o.units"}),
    (
        "select sum(units) over v as u from orders window w as (order by n), v as (w rows 1 preceding)",
        {"u": "o.n o.units"},
    ),
    ("select list_transform(tags, x -> x + units) as t from orders", {"t": "o.tags o.units"}),
    ("select t.x from orders, unnest(tags) as t(x)", {"x": "o.tags"}),
    ("select {'a': n, 'b': price} as s from orders", {"s": "o.n o.price"}),
    ("select s.a as v from (select {'a': n} as s from orders)", {"v": "o.n"}),
    ("select max(price) - min(price) as spread, $etl as run from orders", {"spread": "o.price", "run": ""}),
]
"""Queries in which nothing but values counts: no column chooses rows."""

CHOOSING = [
    (
        "select o.units, amount, n from orders o full join payments p using (n) where price > 3",
        {"units": "o.units", "amount": "p.amount", "n": "o.n p.n"},
    ),
    (
        "select code, sum(units) filter (price > 1) as u from orders group by all",
        {"code": "o.code", "u": "o.price o.units"},
    ),
    ("select n from orders except select n from payments", {"n": "o.n"}),
    (
        "select n, sum(units) over w as u from orders window w as (partition by code) qualify row_number() over w = 1",
        {"n": "o.n", "u": "o.code o.units"},
    ),
    ("select d.day as v, n from generate_series(1, 3) as d(day), orders", {"v": "", "n": "o.n"}),
    (
        "select n, (select max(amount) from payments p where p.n = o.n) as m from orders o",
        {"n": "o.n", "m": "p.amount"},
    ),
    ("select case when code = 'a' then units end as u from orders -- why", {"u": "o.code o.units"}),
]


def behind(query: str) -> dict[str, str]:
    found = columns_behind(query, COLUMNS)
    return {
        name.lower(): " ".join(f"{one.table[0]}.{one.column.lower()}" for one in ones) for name, ones in found.items()
    }


@pytest.mark.parametrize(("query", "expected"), [*VALUES, *CHOOSING])
def test_every_column_has_exactly_the_columns_that_it_is_computed_from(query: str, expected: dict[str, str]) -> None:
    assert behind(query) == expected


@pytest.mark.parametrize("query", [query for query, _ in VALUES])
def test_another_value_in_a_column_changes_exactly_what_is_computed_from_it(query: str) -> None:
    """Asked of DuckDB: its columns have these names, and each follows its edges and nothing else."""
    edges, before = behind(query), answered(query, {})
    assert [*edges] == [*before]
    for table, columns in COLUMNS.items():
        for column in map(str.lower, columns):
            after = answered(query, {table: column})
            changed = {name for name, values in after.items() if values != before[name]}
            assert changed == {name for name, ones in edges.items() if f"{table[0]}.{column}" in ones.split()}, column


def answered(query: str, other: dict[str, str]) -> dict[str, list[str]]:
    """The values of each column of the result, with other ones in the column that is named for a table."""
    with duckdb.connect() as connection:
        for table, columns in COLUMNS.items():
            changed = other.get(table)
            replaced = f"* replace ({OTHER[changed]} as {changed})" if changed else "*"
            rows = f"(values {ROWS[table]}) t({', '.join(columns)})"
            connection.execute(f"create table {table} as select {replaced} from {rows}")
        found = connection.execute(query, {"etl": 1} if "$etl" in query else None)
        names, rows_found = [one[0].lower() for one in found.description or ()], found.fetchall()
    return {name: [str(row[n]) for row in rows_found] for n, name in enumerate(names)}


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("select orders from orders", "whole row"),
        ("select count(orders) as k from orders", "whole row"),
        ("select columns('n.*') from orders", "COLUMNS"),
        ("select * like 'n%' from orders", "no name"),
        ("select count(*) from orders", "no name"),
        ("select #1 as y from orders", "by its number"),
        ("pivot orders on code using sum(units)", "no SELECT"),
        ("from (pivot orders on code using sum(units))", "PIVOT"),
        ("with recursive r as (select 1 as n union all select n + 1 from r where n < 3) from r", "recursive"),
        ("select p.amount, x.n from orders x, lateral (select amount from payments p where p.n = x.n) p", "LATERAL"),
        ("select * from read_csv('x.csv')", "cannot tell all columns"),
        ("select r.n as n from read_csv('x.csv') r", "by itself"),
        ("select n from main.orders", "none of its inputs"),
        ("select x.n from others x", "none of its inputs"),
        ("select json_extract(code -> 'n', '$.a') as v from orders", "called like a column"),
        ("select [n for n in tags] as l from orders", "called like a column"),
        ("select n from orders union by name select code, n from orders", "different columns"),
        ("select * from orders join payments on true", "one name"),
        ("select nothing from orders", "cannot read"),
        ("select code frm orders where", "cannot read"),
        ("drop table orders", "no SELECT"),
    ],
)
def test_what_is_not_understood_gives_no_edge_and_says_why(query: str, why: str) -> None:
    with pytest.raises(NotFollowed, match=why):
        columns_behind(query, COLUMNS)


def test_a_column_that_is_named_twice_at_every_step_is_followed_once_at_each() -> None:
    """Followed each time it is named, forty steps would never end, and the run waits for it after its commit."""
    steps = ", ".join(f"c{n + 1} as (select case when n > 0 then n else -n end as n from c{n})" for n in range(40))
    query = f"with c0 as (select n from orders), {steps} select n from c40"
    assert columns_behind(query, COLUMNS) == {"n": [("orders", "n")]}


def test_what_nobody_has_thought_of_gives_no_edge_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with another release of sqlglot: the rows are committed by then."""
    monkeypatch.setattr("etl_project.storage.sql_lineage.branches", lambda scope, _: scope.of_another_release)
    with pytest.raises(NotFollowed, match="not understood: AttributeError"):
        columns_behind("select n + 1 as n from orders", COLUMNS)


def test_names_are_spelt_as_they_are_written() -> None:
    found = columns_behind("select CODE as Kind, * exclude (n, units, price, tags) from orders", COLUMNS)
    assert {name: [*map(tuple, ones)] for name, ones in found.items()} == {
        "Kind": [("orders", "Code")],
        "Code": [("orders", "Code")],
    }


def test_without_sqlglot_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlglot", None)
    with pytest.raises(NotFollowed, match=r"etl-project\[lineage\]"):
        columns_behind("from orders", COLUMNS)
