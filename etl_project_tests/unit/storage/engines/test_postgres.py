"""PostgreSQL beyond the contract suite: what of a table survives, what keeps two writers apart, what can be wrong."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest

from etl_project.failures import Permanent, Transient
from etl_project.storage.contract import Partition, PartlyCommitted, Request, Scope, Sql, StoreBusy, Table, WriteRefused
from etl_project.storage.engines.duckdb_file import DuckDBStore
from etl_project.storage.engines.postgres.address import address_of
from etl_project.storage.engines.postgres.engine import Postgres, PostgresStore
from etl_project.storage.places import UnknownPlace
from etl_project.storage.tables.store import TableStore
from etl_project_tests import postgres
from etl_project_tests.steady import PATIENCE_SECONDS

ONE, TWO = date(2024, 3, 5), date(2024, 3, 6)
BOTH = Scope.days(ONE, TWO)
ORDERS = Table("orders", "orders")


def rows(*of: tuple[date, int], **more: Any) -> pa.Table:
    return pa.table({"batch_date": pa.array([d for d, _ in of], pa.date32()), "n": [n for _, n in of], **more})


def put(store: TableStore, data: Any, *days: date, table: Table = ORDERS, **request: Any) -> None:
    store.replace(table, Scope.days(days[0], days[-1]), data, Request("a run", **request))


def found(store: TableStore, table: Table = ORDERS) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in store.arrow(store.read(table, BOTH)).to_pylist())


def opened(folder: Path, wait_seconds: float = PATIENCE_SECONDS, **parts: str) -> PostgresStore:
    return PostgresStore(postgres.plain_url_of(folder, **parts), wait_seconds, scratch=folder)


def behind(folder: Path) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection for what somebody else does in the database."""
    return postgres.admin(postgres.database_of(folder))


@pytest.fixture
def store(tmp_path: Path) -> PostgresStore:
    return opened(tmp_path)


# What an address says, and does not show.


def test_a_password_is_in_nothing_that_an_address_shows() -> None:
    address = address_of("postgresql://u:hunter22@h:5433/w?sslmode=require")
    assert address.shown == "postgresql://u@h:5433/w" and "hunter22" in address.connection_string
    assert "hunter22" not in f"{address!r} {address.session(1)} {address.catalog}"


@pytest.mark.parametrize(
    "said", ["postgresql://u:hunter22@h", "postgresql://u:hunter22@h/w?nonsense=1", "mysql://h/hunter22"]
)
def test_an_address_that_is_none_is_refused_without_being_shown(said: str) -> None:
    with pytest.raises(UnknownPlace, match="Write it like postgresql://") as refusal:
        address_of(said)
    assert "hunter22" not in "".join(traceback.format_exception(refusal.value))


# What of a table survives.

_STATE = """
SELECT 'table', pg_class.oid::text, relacl::text, obj_description(pg_class.oid) FROM pg_class WHERE relname = 'orders'
UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid), NULL FROM pg_constraint
    WHERE conrelid = 'orders'::regclass
UNION ALL SELECT 'index', indexname, indexdef, NULL FROM pg_indexes WHERE tablename = 'orders'
UNION ALL SELECT 'column', attname, attacl::text, col_description(attrelid, attnum) FROM pg_attribute
    WHERE attrelid = 'orders'::regclass AND attnum > 0
UNION ALL SELECT 'view', viewname, definition, NULL FROM pg_views WHERE viewname = 'big_orders'
UNION ALL SELECT 'trigger', tgname, pg_get_triggerdef(oid), NULL FROM pg_trigger WHERE tgrelid = 'orders'::regclass
ORDER BY 1, 2, 3
"""


@postgres.needed
def test_constraints_grants_views_indexes_and_comments_survive_a_rewrite(store: PostgresStore, tmp_path: Path) -> None:
    with behind(tmp_path) as other:
        other.execute(
            "CREATE TABLE orders (batch_date date, n bigint PRIMARY KEY, code text UNIQUE, CHECK (n > 0));"
            "CREATE INDEX by_day ON orders (batch_date); COMMENT ON TABLE orders IS 'sold';"
            "COMMENT ON COLUMN orders.n IS 'number'; GRANT SELECT ON orders TO public;"
            "CREATE VIEW big_orders AS SELECT * FROM orders WHERE n > 10;"
            "CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER looks BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION noop()"
        )
        before = other.execute(_STATE).fetchall()
        for n in (1, 1, 2):
            put(store, rows((ONE, n), (ONE, 20 + n), code=["a", None]), ONE)
        assert other.execute(_STATE).fetchall() == before and len(before) > 10
        assert other.execute("SELECT n FROM big_orders").fetchall() == [(22,)]
    with pytest.raises(WriteRefused, match="unique constraint"):
        put(store, rows((TWO, 2), code=["z"]), TWO)
    with pytest.raises(WriteRefused, match="check constraint"):
        put(store, rows((ONE, -1), code=["z"]), ONE)
    assert found(store) == [(ONE, 2, "a"), (ONE, 22, None)]


@postgres.needed
def test_a_table_partitioned_by_range_is_written_a_day_at_a_time(store: PostgresStore, tmp_path: Path) -> None:
    """Rows of its partitions lie at the same places: deleting by place would delete another day's, too."""
    with behind(tmp_path) as other:
        other.execute(
            "CREATE TABLE orders (batch_date date, n bigint) PARTITION BY RANGE (batch_date);"
            f"CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM ('{ONE}') TO ('{TWO}');"
            f"CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM ('{TWO}') TO ('2024-03-07')"
        )
    put(store, rows((ONE, 1), (TWO, 2)), ONE, TWO)
    put(store, rows((ONE, 3)), ONE)
    put(store, rows((ONE, 3)), ONE)
    assert found(store) == [(ONE, 3), (TWO, 2)]
    outside = TWO + timedelta(days=1)
    with pytest.raises(WriteRefused, match="no partition of relation"):
        put(store, rows((outside, 1)), outside)
    assert found(store) == [(ONE, 3), (TWO, 2)]


_HALF = (Decimal("1.50"), None, "eu")


@postgres.needed
def test_a_contract_means_what_it_means_in_a_file(store: PostgresStore, tmp_path: Path) -> None:
    contract = (
        "CREATE TABLE orders (batch_date DATE NOT NULL, n INTEGER PRIMARY KEY, half DECIMAL(10, 2) DEFAULT 1.5 "
        "CHECK (n / 2 < 10), small UTINYINT, region VARCHAR DEFAULT 'eu'); CREATE INDEX by_day ON orders (batch_date);"
        "COMMENT ON TABLE orders IS 'it''s sold'; COMMENT ON COLUMN orders.n IS 'number'"
    )
    table = replace(ORDERS, contract_sql=contract)
    for into in (store, DuckDBStore(tmp_path / "w.duckdb")):
        put(into, rows((ONE, 19), (TWO, 2)), ONE, TWO, table=table)
        assert [row[1:] for row in found(into, table)] == [(19, *_HALF), (2, *_HALF)], into
        assert into.key(table) == ["n"]
        with pytest.raises(PartlyCommitted, match="CHECK constraint"):
            put(into, rows((ONE, 20), (TWO, 3)), ONE, TWO, table=table)
        with pytest.raises(WriteRefused, match=r"primary key|unique constraint"):
            put(into, rows((ONE, 3)), ONE, table=table)
        assert [row[1] for row in found(into, table)] == [19, 3]
    with behind(tmp_path) as other:
        said = "SELECT obj_description('orders'::regclass), col_description('orders'::regclass, 2)"
        assert other.execute(said).fetchall() == [("it's sold", "number")]
        assert other.execute("SELECT count(*) FROM pg_indexes WHERE indexname = 'by_day'").fetchall() == [(1,)]


@postgres.needed
@pytest.mark.parametrize(
    ("contract", "told"),
    [
        ("CREATE TABLE orders (n INTEGER, x STRUCT(a INTEGER))", "column 'x' is STRUCT"),
        ("CREATE TABLE orders (n INTEGER, x TIMESTAMP DEFAULT date_trunc('day', now()))", "column 'x' has the default"),
        ("CREATE TABLE orders (n INTEGER); CREATE VIEW v AS FROM orders", "has a VIEW"),
        ("CREATE SEQUENCE s; CREATE TABLE orders (n INTEGER)", "has a SEQUENCE"),
        (f"CREATE TABLE orders (n INTEGER, {'x' * 64} INTEGER)", "more than 63 bytes"),
    ],
)
def test_what_postgres_may_read_otherwise_is_refused_by_name(store: PostgresStore, contract: str, told: str) -> None:
    with pytest.raises(WriteRefused, match=told):
        put(store, rows((ONE, 1)), ONE, table=replace(ORDERS, contract_sql=contract))
    assert store.last_commits() == {}


# Values.

_VALUES = {
    "BOOLEAN": "true",
    "TINYINT": "-128",
    "UTINYINT": "255",
    "USMALLINT": "65535",
    "UINTEGER": "4294967295",
    "BIGINT": "-9223372036854775808",
    "FLOAT": "'nan'",
    "DOUBLE": "'-0.0'",
    "DECIMAL(38, 10)": "1234567890123456789012345678.0123456789",
    "VARCHAR": "'Straße 😀 ''' || chr(1)",
    "DATE": "'infinity'",
    "TIME": "'23:59:59.999999'",
    "TIMESTAMP": "'-infinity'",
    "TIMESTAMP_S": "'1900-01-01'",
    "TIMESTAMP_NS": "'2024-03-05 10:11:12.123456'",
    "TIMESTAMP WITH TIME ZONE": "'2024-03-05 23:30:00-05'",
    "INTERVAL": "'3 months 2 days 1 microsecond'",
    "UUID": "'ffffffff-7a49-4b4e-9a55-0123456789ab'",
    "BLOB": "'\\x00\\xFF'::BLOB",
    "INTEGER[]": "[1, NULL, 3]",
    "VARCHAR[]": "['', NULL, 'a,\"b']",
    "DOUBLE[]": "[]",
    "ENUM('a', 'b')": "'b'",
}


@postgres.needed
def test_fingerprints_equal_those_of_a_duckdb_file_value_for_value(store: PostgresStore, tmp_path: Path) -> None:
    values = ", ".join(f"({value})::{kind} AS c{n}" for n, (kind, value) in enumerate(_VALUES.items()))
    nothing = ", ".join(f"NULL::{kind}" for kind in _VALUES)
    day = f"SELECT DATE '{ONE}' AS batch_date, "
    query = Sql(f"{day} {values} UNION ALL {day} {nothing}")
    scope = Scope.days(ONE, ONE)
    told = [
        into.replace(ORDERS, scope, query, Request("r"))[0].fingerprint
        for into in (store, DuckDBStore(tmp_path / "w.duckdb"), store)
    ]
    assert len(set(told)) == 1 and [c.changed for c in store.history("orders", str(ONE))] == [True, False]


@postgres.needed
@pytest.mark.parametrize(
    ("value", "column"),
    [
        ("chr(0) || 'x'", "NULL-byte"),
        ("'2024-03-05 10:11:12.123456789'::TIMESTAMP_NS", "'x' is TIMESTAMP"),
        ("170141183460469231731687303715884105727::HUGEINT", "'x' is DECIMAL"),
        ("'5881580-07-10'::DATE", "5881580"),
        ("{'a': 1}", "'x' is STRUCT"),
        ("MAP {1: 2}", "'x' is MAP"),
        ("[[1], [2, 3]]", r"'x' is INTEGER\[\]\[\]"),
        ("'0101'::BIT", "'x' is BIT"),
        ("'10:11:12.123456789'::TIME_NS", "'x' is TIME_NS"),
    ],
)
def test_a_value_without_a_home_is_refused_by_name(store: PostgresStore, value: str, column: str) -> None:
    for _ in range(2):
        with pytest.raises(WriteRefused, match=column):
            put(store, Sql(f"SELECT DATE '{ONE}' AS batch_date, {value} AS x"), ONE)
    assert store.last_commits() == {}


@postgres.needed
def test_unsigned_and_128_bit_integers_have_their_home_in_decimals(store: PostgresStore) -> None:
    values = "18446744073709551615::UBIGINT AS u, 10::HUGEINT AS h"
    for _ in range(2):
        put(store, Sql(f"SELECT DATE '{ONE}' AS batch_date, {values}"), ONE)
    assert [row[1:] for row in found(store)] == [(18446744073709551615, 10)]
    assert [commit.changed for commit in store.history("orders", str(ONE))] == [True, False]


@postgres.needed
def test_a_table_that_makes_other_values_of_what_it_gets_is_found_out(store: PostgresStore, tmp_path: Path) -> None:
    with behind(tmp_path) as other:
        other.execute("CREATE TABLE orders (batch_date date, n bigint, code text, note text)")
        put(store, rows((ONE, 1), code=["abc"]), ONE)
        other.execute(
            "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN NEW.code = upper(NEW.code); RETURN NEW; END';"
            "CREATE TRIGGER loud BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION loud()"
        )
    with pytest.raises(WriteRefused, match="does not hold the values of 'code' as"):
        put(store, rows((ONE, 1), code=["a"]), ONE)
    assert found(store) == [(ONE, 1, "abc", None)]


@postgres.needed
def test_a_row_that_a_trigger_drops_is_missed(store: PostgresStore, tmp_path: Path) -> None:
    with behind(tmp_path) as other:
        other.execute(
            "CREATE TABLE orders (batch_date date, n bigint);"
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            "CREATE TRIGGER nothing BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION nothing()"
        )
    with pytest.raises(WriteRefused, match="does not hold the values"):
        put(store, rows((ONE, 1)), ONE)
    assert store.last_commits() == {}


@postgres.needed
def test_days_of_instants_are_utc_days_whatever_the_server_thinks(store: PostgresStore, tmp_path: Path) -> None:
    table = replace(ORDERS, partition_column="at")
    with behind(tmp_path) as other:
        other.execute(f"ALTER DATABASE {postgres.database_of(tmp_path)} SET timezone = 'America/New_York'")
        other.execute(f"ALTER DATABASE {postgres.database_of(tmp_path)} SET datestyle = 'SQL, DMY'")
    at = datetime(2024, 3, 5, 23, 59, tzinfo=UTC)
    for n in (1, 2, 2):
        put(store, pa.table({"at": pa.array([at], pa.timestamp("us", "UTC")), "n": [n]}), ONE, table=table)
    assert [row[1] for row in found(store, table)] == [2]


# What keeps two writers apart.


class Unqueued(Postgres):
    """Writers that do not wait for each other, as after the queue's connection was lost."""

    def turn(self, table: Table, wait_seconds: float) -> AbstractContextManager[None]:
        return nullcontext()


@postgres.needed
@pytest.mark.parametrize("filled", [False, True])
def test_of_two_writers_of_a_day_without_a_queue_the_second_tries_again(tmp_path: Path, filled: bool) -> None:
    """The other one commits between the first one's look and its COMMIT; its rows go, and no row is there twice."""
    store = opened(tmp_path)
    engine = Unqueued(address_of(postgres.plain_url_of(tmp_path)), {}, tmp_path, PATIENCE_SECONDS)
    first, second = (TableStore(engine, PATIENCE_SECONDS) for _ in range(2))
    put(store, rows((TWO, 0)), TWO)
    if filled:
        put(store, rows((ONE, 0)), ONE)
    others: list[threading.Thread] = []

    def overtaken() -> None:
        if not others:
            others.append(threading.Thread(target=put, args=(second, rows((ONE, 1), (ONE, 10)), ONE)))
            others[0].start()
            others[0].join(1.0)  # It waits for this one's claim: both are in their transactions now.

    put(first, rows((ONE, 2), (ONE, 20)), ONE, still_owner=overtaken)
    others[0].join()
    assert found(store) == [(ONE, 1), (ONE, 10), (TWO, 0)]
    assert [c.sequence for c in store.history("orders", str(ONE))] == ([1, 2, 3] if filled else [1, 2])


@postgres.needed
def test_somebody_elses_lock_is_waited_for_no_longer_than_is_set(tmp_path: Path) -> None:
    store = opened(tmp_path, wait_seconds=0.2)
    put(store, rows((ONE, 1)), ONE)
    with behind(tmp_path) as other, other.transaction():
        other.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreBusy, match="retrying helps"):
            put(store, rows((ONE, 2)), ONE)
    put(store, rows((ONE, 2)), ONE)
    assert found(store) == [(ONE, 2)]


# What can be wrong.


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[str]:
    """A role that may only log in; it goes with the test."""
    name = f"{postgres.database_of(tmp_path)}_guest"
    with behind(tmp_path) as other:
        other.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'hunter22'")
        yield name
        other.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@postgres.needed
def test_a_role_without_create_writes_into_tables_that_are_there(tmp_path: Path, guest: str) -> None:
    owner = opened(tmp_path)
    put(owner, rows((ONE, 1)), ONE)
    store = opened(tmp_path, user=guest, password="hunter22")
    with behind(tmp_path) as other:
        other.execute("REVOKE CREATE ON SCHEMA public FROM public")
        other.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {guest}")
        assert found(store) == [(ONE, 1)]
        told = str(store.engine.refusal_to_write())
        assert "permission denied" in told and "retrying does not help. Give the role" in told
        assert owner.engine.refusal_to_write() is None and "hunter22" not in told
        with pytest.raises(WriteRefused, match=r"permission denied .*retrying does not help. Give the role") as refusal:
            put(store, rows((ONE, 2)), ONE)
        assert "hunter22" not in "".join(traceback.format_exception(refusal.value))
        other.execute(f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {guest}")
        assert store.engine.refusal_to_write() is None
        put(store, rows((ONE, 2), (TWO, 3)), ONE, TWO)
        put(store, rows((ONE, 2)), ONE)
        with pytest.raises(WriteRefused, match="permission denied"):
            put(store, rows((ONE, 2)), ONE, table=Table("others", "others"))
    assert found(owner) == [(ONE, 2), (TWO, 3)]


@postgres.needed
@pytest.mark.parametrize(
    ("parts", "told", "kind"),
    [
        ({"password": "hunter22"}, "Correct the user or the password", Permanent),
        ({"user": "nobody_like_this", "password": "hunter22"}, "Correct the user", Permanent),
        ({"dbname": "none_like_this"}, "CREATE DATABASE", Permanent),
        ({"host": "127.0.0.1", "port": "1", "password": "hunter22"}, "retrying helps once", Transient),
    ],
)
def test_a_server_that_lets_nobody_in_is_one_clear_line(
    tmp_path: Path, parts: dict[str, str], told: str, kind: type[Exception]
) -> None:
    store = opened(tmp_path, **parts)
    for attempt in (store.last_commits, lambda: put(store, rows((ONE, 1)), ONE)):
        with pytest.raises(kind, match=told) as refusal:
            attempt()
        shown = "".join(traceback.format_exception(refusal.value))
        assert "hunter22" not in shown and "\n" not in str(refusal.value) and "retrying" in str(refusal.value)


@postgres.needed
def test_a_database_in_another_encoding_or_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    name = f"{postgres.database_of(tmp_path)}_latin"
    store = opened(tmp_path, dbname=name)
    with postgres.admin() as other:
        other.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(WriteRefused, match=r"its encoding is LATIN1.*retrying does not help"):
            put(store, rows((ONE, 1)), ONE)
    finally:
        with postgres.admin() as other:
            other.execute(f"DROP DATABASE {name}")
    newer = opened(tmp_path)
    put(newer, rows((ONE, 1)), ONE)
    with behind(tmp_path) as other:
        other.execute("ALTER TABLE etl_commits ADD COLUMN judged_by text")
    with pytest.raises(WriteRefused, match=r"judged_by.*newer version"):
        put(newer, rows((ONE, 2)), ONE)
    assert found(newer) == [(ONE, 1)]


@postgres.needed
def test_the_password_is_in_no_list_of_databases_connections_or_settings(store: PostgresStore, tmp_path: Path) -> None:
    [_, password] = postgres.SERVER.rsplit("password=", 1)
    with store.connect() as connection, behind(tmp_path) as other:
        seen = [
            *connection.execute("SELECT path, database_name FROM duckdb_databases()").fetchall(),
            *connection.execute("SELECT secret_string FROM duckdb_secrets()").fetchall(),
            *other.execute("SELECT application_name, query FROM pg_stat_activity").fetchall(),
        ]
        with pytest.raises(duckdb.Error) as error:
            connection.execute("SELECT * FROM nothing_like_this")
    assert password not in f"{seen} {error.value} {store!r} {store}"


@postgres.needed
def test_a_collation_that_takes_two_keys_for_the_same_is_refused(store: PostgresStore, tmp_path: Path) -> None:
    """The DELETE of the one partition would take the rows of the other along."""
    with behind(tmp_path) as server:
        server.execute("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        server.execute("CREATE TABLE shops (k text COLLATE loose, n bigint)")
    table = Table("shops", "shops", partition_column="k")
    with pytest.raises(WriteRefused, match="the collation of column 'k' takes different texts for the same"):
        store.replace(table, Scope((Partition("a", "a", None),)), pa.table({"k": ["a"], "n": [1]}), Request("a run"))


@postgres.needed
@pytest.mark.parametrize("deferred", ["DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE INITIALLY IMMEDIATE"])
def test_a_key_that_is_checked_at_commit_is_the_datas_fault_and_nobody_elses(
    store: PostgresStore, tmp_path: Path, deferred: str
) -> None:
    """Taken for another writer's, it would be tried again for as long as the store may wait."""
    with behind(tmp_path) as server:
        server.execute(f"CREATE TABLE orders (batch_date date, n bigint, UNIQUE (n) {deferred})")
    put(store, rows((ONE, 1), (TWO, 2)), ONE, TWO)
    for _ in range(2):
        with pytest.raises(WriteRefused, match=r"\(n\)=\(2\)"):
            put(store, rows((ONE, 2)), ONE)
    with pytest.raises(PartlyCommitted) as partly:
        put(store, rows((ONE, 3), (TWO, 4), (TWO, 4)), ONE, TWO)
    assert list(partly.value.failures) == [TWO.isoformat()]
    assert found(store) == [(ONE, 3), (TWO, 2)]


@postgres.needed
def test_rows_of_tables_that_inherit_are_not_taken_along(store: PostgresStore, tmp_path: Path) -> None:
    put(store, rows((ONE, 1)), ONE)
    with behind(tmp_path) as server:
        server.execute("CREATE TABLE orders_of_others () INHERITS (orders)")
        server.execute(f"INSERT INTO orders_of_others VALUES ('{ONE}', 7)")
        for _ in range(2):
            with pytest.raises(
                WriteRefused,
                match=r"inherit from it \(orders_of_others\)(?s:.)*Retrying does not help(?s:.)*TimescaleDB",
            ):
                put(store, rows((ONE, 2)), ONE)
        assert server.execute("SELECT n FROM orders ORDER BY 1").fetchall() == [(1,), (7,)]
        put(store, rows((ONE, 8)), ONE, table=Table("others", "orders_of_others"))
        assert server.execute("SELECT n FROM orders ORDER BY 1").fetchall() == [(1,), (8,)]
        server.execute("ALTER TABLE orders_of_others NO INHERIT orders")
    put(store, rows((ONE, 2)), ONE)
    assert found(store) == [(ONE, 2)]


@postgres.needed
@pytest.mark.parametrize("how", ["postgres_query", "view"])
def test_what_a_query_of_a_check_writes_in_the_server_is_not_committed(
    store: PostgresStore, tmp_path: Path, how: str
) -> None:
    other = Table("others", "others")
    put(store, rows((ONE, 7)), ONE, table=other)
    written = "DELETE FROM others RETURNING n"
    with behind(tmp_path) as server:
        server.execute(f"CREATE FUNCTION emptied() RETURNS SETOF bigint LANGUAGE sql AS '{written}'")
        server.execute("CREATE VIEW emptying AS SELECT * FROM emptied() AS n")
    asked = {
        "postgres_query": "FROM postgres_query('warehouse', 'SELECT n FROM emptied() AS n')",
        "view": "FROM emptying",
    }[how]
    seen: list[Any] = []

    def audit(scope: Scope, shown: Any) -> None:
        with shown.connect() as connection:
            seen.extend(connection.execute(asked).fetchall())

    put(store, rows((ONE, 1)), ONE, table=replace(ORDERS, publish_after_checks=True), audit=audit)
    assert seen == [(7,)], "the check has written"
    assert found(store, other) == [(ONE, 7)] and found(store) == [(ONE, 1)]
