"""Which columns of a query are followed to its inputs: never one that leaves out a row that a result was made of."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import duckdb
import pytest

from etl_project.proofs.plain_columns import plain_columns
from etl_project.storage import NotFollowed

pytest.importorskip("sqlglot")

COLUMNS = {"orders": ["n", "code", "units", "customer"], "payments": ["n", "amount", "currency"]}
ORDERS = [(1, "a", 1, 7), (1, "b", 2, 7), (2, "a", 3, None), (3, "c", None, 8), (3, None, 1, 8)]
PAYMENTS = [(1, 3, "GBP"), (2, 3, "GBP"), (2, 1, "EUR"), (9, 5, None)]

FOLLOWED = [
    ("select code, sum(units) as units from orders group by code", {"orders": {"code": "code"}}),
    ("select code as c, count(*) as k from orders group by all", {"orders": {"c": "code"}}),
    ("from orders", {"orders": {name: name for name in COLUMNS["orders"]}}),
    ("select upper(code) as code, count(*) as k from orders group by 1", {}),
    ("select max(code) as code from orders", {}),
    (
        "with o as (select n, sum(units) as u from orders group by n), "
        "p as (select n, sum(amount) as a from payments group by n) select * from o full join p using (n)",
        {"orders": {"n": "n"}, "payments": {"n": "n"}},
    ),
    (
        "select o.code, coalesce(p.currency, o.code) as x from orders o left join payments p on o.n = p.n",
        {"orders": {"code": "code"}},
    ),
    (
        "select coalesce(p.n, o.n) as n from orders o full join payments p on o.units = p.amount",
        {},
    ),
    (
        "select code as word from orders union all select currency from payments",
        {"orders": {"word": "code"}, "payments": {"word": "currency"}},
    ),
    ("select distinct customer from orders where code is not null", {"orders": {"customer": "customer"}}),
    ("select n as code, code as n from orders", {"orders": {"code": "n", "n": "code"}}),
    ("select N, Code from ORDERS", {"orders": {"n": "n", "code": "code"}}),
    ("select n, code, lag(units) over (order by n, code) as x from orders", {}),
    ("select n, code, sum(units) over (partition by n) as x from orders", {"orders": {"n": "n"}}),
    ("select n, code, sum(units) over w as x from orders window w as (partition by n)", {}),
    (
        "with o as (select n, code, sum(units) over (partition by n, code) as x, count(*) over (partition by code) k "
        "from orders) select o.n, o.code, k, currency from o join payments p on p.n = o.n",
        {"orders": {"code": "code"}, "payments": {"currency": "currency"}},
    ),
    (
        "select n, code from orders qualify row_number() over (partition by n order by code desc) = 1",
        {"orders": {"n": "n", "code": "code"}},
    ),
]


NUMBERED = [
    ("select n, code, row_number() over (order by n, code) as x from orders", {"orders": {"n": "n", "code": "code"}}),
    ("select n, code from orders qualify rank() over (order by n, code) = 2", {"orders": {"n": "n", "code": "code"}}),
]
"""A number says where a row stands among others; no value of theirs is in it."""


@pytest.mark.parametrize(("query", "expected"), [*FOLLOWED, *NUMBERED])
def test_plain_columns_are_followed_and_no_others(query: str, expected: dict[str, dict[str, str]]) -> None:
    assert {table: once for table, [once] in plain_columns(query, COLUMNS).items() if once} == expected


TWICE = [
    (
        "select a.code, b.units from orders a join orders b using (n)",
        {"orders": [{"code": "code"}, {"units": "units"}]},
    ),
    (
        "with o as (select * from orders) select a.code, b.units from o a join o b on a.n = b.units",
        {"orders": [{"code": "code"}, {"units": "units"}]},
    ),
    (
        "select code from orders where units = (select max(units) from orders)",
        {"orders": [{"code": "code"}, {}]},
    ),
    (
        "select code, n from orders where units = 1 union all select code, n from orders where customer = 8",
        {"orders": [{"code": "code", "n": "n"}, {"code": "code", "n": "n"}]},
    ),
    (
        "select n, code from orders union all by name select currency as code, n from payments",
        {"orders": [{"n": "n", "code": "code"}], "payments": [{"code": "currency", "n": "n"}]},
    ),
    ("with c(code, n) as (select n, code from orders) select code from c", {"orders": [{"code": "n"}]}),
]
"""Each time that a table is read has columns of its own; a name in another place is another column."""


@pytest.mark.parametrize(("query", "expected"), TWICE)
def test_a_table_that_is_read_twice_is_followed_each_time(
    query: str, expected: dict[str, list[dict[str, str]]]
) -> None:
    assert plain_columns(query, COLUMNS) == expected


@pytest.mark.parametrize(("query", "_"), [*FOLLOWED, *TWICE])
def test_without_the_rows_that_are_left_out_the_result_row_is_the_same(query: str, _: object) -> None:
    """Every row that agrees in fewer columns is taken away, one input after the other: the result row stays."""
    plain = plain_columns(query, COLUMNS)
    data: dict[str, Sequence[tuple[object, ...]]] = {"orders": ORDERS, "payments": PAYMENTS}
    with duckdb.connect() as connection:
        names, rows = asked(connection, query, data)
        assert rows
        for row in rows:
            for table, readings in plain.items():
                pairs = [
                    [(names.index(out), COLUMNS[table].index(here)) for out, here in columns.items()]
                    for columns in readings
                ]
                kept = [
                    one
                    for one in data[table]
                    if any(all(row[out] == one[here] for out, here in each) for each in pairs)
                ]
                assert row in asked(connection, query, {**data, table: kept})[1], (table, kept)


def asked(
    connection: duckdb.DuckDBPyConnection, query: str, data: dict[str, Sequence[tuple[object, ...]]]
) -> tuple[list[str], list[tuple[object, ...]]]:
    """The names of the columns, lower case, and the rows, of tables that are made anew."""
    connection.execute("create or replace table orders (n int, code varchar, units int, customer int)")
    connection.execute("create or replace table payments (n int, amount int, currency varchar)")
    for table, rows in data.items():
        for row in rows:
            connection.execute(f"insert into {table} values ({', '.join('?' * len(row))})", row)
    found = connection.execute(query)
    return [name[0].lower() for name in found.description or ()], found.fetchall()


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("select code, sum(units) from orders group by rollup (code)", "ROLLUP"),
        ("select code, sum(units) from orders group by cube (code)", "CUBE"),
        ("select code, sum(units) from orders group by grouping sets ((code), ())", "GROUPING SETS"),
        ("select n from orders union by name select code, n from orders", "different columns"),
        ("with recursive r as (select 1 as n union all select n + 1 from r where n < 3) from r", "recursive"),
        ("select code frm orders where", "cannot read"),
        ("select nothing from orders", "cannot read"),
    ],
)
def test_what_cannot_be_followed_says_why(query: str, why: str) -> None:
    with pytest.raises(NotFollowed, match=why):
        plain_columns(query, COLUMNS)


def test_a_chain_of_parts_joined_with_themselves_is_given_up_in_time_and_said() -> None:
    """Each step reads the table twice as often: forty of them, more often than anybody could count."""
    steps = (f"c{n} as (select a.code, b.units from c{n - 1} a join c{n - 1} b using (code))" for n in range(1, 41))
    query = f"with c0 as (from orders), {', '.join(steps)} select * from c40"
    with pytest.raises(NotFollowed, match="1,000 times over"):
        plain_columns(query, COLUMNS)


def test_without_sqlglot_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlglot", None)
    with pytest.raises(NotFollowed, match=r"etl-project\[lineage\]"):
        plain_columns("from orders", COLUMNS)
