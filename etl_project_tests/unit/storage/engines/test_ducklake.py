"""DuckLake beyond the contract suite: what keeps two writers apart, what DuckLake does not keep, what can be wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pytest

from etl_project import settings, utc
from etl_project.failures import EtlError, Permanent, Transient
from etl_project.storage.contract import (
    PartlyCommitted,
    Request,
    Scope,
    StoreBusy,
    StoreUnavailable,
    Table,
    WriteRefused,
)
from etl_project.storage.engines.duckdb_file import DuckDBStore
from etl_project.storage.engines.ducklake import upkeep
from etl_project.storage.engines.ducklake.address import address_of
from etl_project.storage.engines.ducklake.engine import DuckLake, DuckLakeStore
from etl_project.storage.engines.server import queue
from etl_project.storage.engines.server.errors import clean
from etl_project.storage.places import ExtraMissing, UnknownPlace
from etl_project.storage.sql import has_table
from etl_project.storage.tables.store import TableStore
from etl_project.storage.tables.versions import Versions
from etl_project.watch import lake_upkeep
from etl_project_tests import postgres
from etl_project_tests.steady import PATIENCE_SECONDS

ONE, TWO = date(2024, 3, 5), date(2024, 3, 6)
ORDERS = Table("orders", "orders")
KEYED = replace(
    ORDERS,
    contract_sql="CREATE TABLE orders (batch_date DATE NOT NULL, n INTEGER PRIMARY KEY, code VARCHAR UNIQUE, "
    "units INTEGER DEFAULT 1 CHECK (units > 0)); CREATE INDEX by_code ON orders (code); "
    "COMMENT ON COLUMN orders.n IS 'the number'",
)


def rows(*of: tuple[date, int], **more: list[object]) -> pa.Table:
    return pa.table({"batch_date": pa.array([d for d, _ in of], pa.date32()), "n": [n for _, n in of], **more})


def put(store: TableStore, data: pa.Table, *days: date, table: Table = ORDERS, **request: object) -> None:
    store.replace(table, Scope.days(days[0], days[-1]), data, Request("a run", **request))  # type: ignore[arg-type]


def numbers(store: TableStore, *days: date) -> list[int]:
    found: list[int] = store.arrow(store.read(ORDERS, Scope.days(days[0], days[-1])))["n"].to_pylist()
    return sorted(found)


@pytest.fixture
def store(tmp_path: Path) -> DuckLakeStore:
    return lake(tmp_path)


def lake(folder: Path, wait_seconds: float = PATIENCE_SECONDS, **parts: str) -> DuckLakeStore:
    return DuckLakeStore(postgres.url_of(folder, **parts), folder / "files", wait_seconds, scratch=folder)


# What an address says, and does not show.


@pytest.mark.parametrize(
    "said",
    ["dbname=w host=h user=u password=hunter22", "postgresql://u:hunter22@h/w", "dbname=w password='hunter22' user=u"],
)
def test_a_password_is_in_nothing_that_an_address_shows(said: str, tmp_path: Path) -> None:
    address = address_of(f"ducklake:postgres:{said}", tmp_path)
    assert "dbname=w" in address.shown and "hunter22" in address.connection_string
    store = DuckLakeStore(f"ducklake:postgres:{said}", tmp_path)
    assert "hunter22" not in f"{address} {address!r} {address.shown} {store} {store.identity} {store.engine!r}"
    told = clean(address, "at postgresql://u:hunter22@h/w failed\n\twith password=hunter22 and password='hunter22'")
    assert "hunter22" not in told and "\n" not in told


@pytest.mark.parametrize("said", ["dbname=w password=hunter22 =", "host=h password=hunter22", "dbname=w hunter22"])
def test_an_address_that_is_none_is_refused_without_being_shown(said: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownPlace, match="Write it like") as refusal:
        address_of(f"ducklake:postgres:{said}", tmp_path)
    assert "hunter22" not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize("data", ["gs://bucket/x", "https://host/x", ""])
def test_files_lie_in_a_folder_or_in_s3(data: str) -> None:
    with pytest.raises(UnknownPlace, match="data="):
        address_of("ducklake:postgres:dbname=w", data)
    assert address_of("ducklake:postgres:dbname=w", "s3://bucket/x").data == "s3://bucket/x/"


def test_a_missing_extra_is_one_line() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from etl_project.storage import DuckLakePartitionIOManager\n"
        "manager = DuckLakePartitionIOManager(url='ducklake:postgres:dbname=w', data='/tmp/x')\n"
        "try: manager.store()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(ExtraMissing.__name__) and "pip install 'etl-project[ducklake]'" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_project_without_the_extra_loads_as_before() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from etl_project import settings\n"
        "from etl_project.declare.warehouse import warehouse\n"
        "import etl_project.sources.assets, etl_project.watch.doctor\n"
        "print(type(warehouse(settings.load())).__name__)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "DuckDBStore\n"


# What keeps two writers apart.


class Unqueued(DuckLake):
    """Writers that do not wait for each other, as after the queue's connection was lost."""

    def turn(self, table: Table, wait_seconds: float) -> AbstractContextManager[None]:
        return nullcontext()


class Unfenced(Unqueued):
    """DuckLake alone."""

    def fence(self, connection: duckdb.DuckDBPyConnection, table: Table, scope: Scope) -> None:
        return


def raced(kind: type[DuckLake], folder: Path) -> tuple[list[int], int]:
    """The rows of an empty day, and its records, after a second writer came between the first one's look and COMMIT."""
    address = lake(folder).engine.address  # type: ignore[attr-defined]
    stores = [TableStore(kind(address, {}, folder), PATIENCE_SECONDS) for _ in range(2)]
    put(stores[0], rows((TWO, 1)), TWO)
    others: list[bool] = []

    def overtaken() -> None:
        if not others:
            others.append(True)
            put(stores[1], rows((ONE, 7)), ONE)

    put(stores[0], rows((ONE, 8)), ONE, still_owner=overtaken)
    # Not read through the store: where both have won, it cannot tell which of two newest records it has read.
    with stores[0].look() as connection:
        assert connection is not None
        found = connection.execute("SELECT n FROM orders WHERE batch_date = ? ORDER BY n", [ONE]).fetchall()
    return [n for (n,) in found], len(stores[0].history("orders", ONE.isoformat()))


@postgres.needed
def test_the_guard_alone_keeps_two_writers_of_an_empty_day_apart(tmp_path: Path) -> None:
    assert raced(Unqueued, tmp_path) == ([8], 2), "the second writer of the two was refused, and looked again"


@postgres.needed
def test_ducklake_without_the_guard_would_let_both_win(tmp_path: Path) -> None:
    """Why there is a guard. When this fails, DuckLake has learned it: look whether the guard is still needed."""
    assert raced(Unfenced, tmp_path)[0] == [7, 8]


@postgres.needed
def test_an_emptied_guard_is_refused_with_what_to_do(store: DuckLakeStore) -> None:
    put(store, rows((ONE, 1)), ONE)
    with store.connect() as connection:
        connection.execute('DELETE FROM etl_guards."main.orders"')
    for _ in range(2):
        with pytest.raises(WriteRefused, match="INSERT INTO"):
            put(store, rows((ONE, 2)), ONE)
    assert numbers(store, ONE) == [1]


@postgres.needed
def test_whoever_is_in_the_way_for_too_long_is_named(store: DuckLakeStore, tmp_path: Path) -> None:
    put(store, rows((ONE, 1)), ONE)
    with store.engine.turn(ORDERS, 5):
        for patience in (0.2, 0):
            with pytest.raises(StoreBusy, match=r"held by 'etl .* orders' \(PostgreSQL process \d+\)"):
                put(lake(tmp_path, patience), rows((ONE, 2)), ONE)
        assert numbers(store, ONE) == [1], "who reads does not wait"
        put(lake(tmp_path, 0), rows((ONE, 3)), ONE, table=Table("other", "other"))
    put(lake(tmp_path, 0), rows((ONE, 2)), ONE)
    assert numbers(store, ONE) == [2]


@postgres.needed
def test_two_makers_of_one_catalog_make_one(tmp_path: Path) -> None:
    failures: list[Exception] = []

    def write(n: int) -> None:
        try:
            put(lake(tmp_path), rows((ONE, n)), ONE, table=Table(f"t{n}", f"t{n}"))
        except Exception as error:  # noqa: BLE001  # Told below.
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and len(lake(tmp_path).last_commits()) == 3


# A statement that is lost in COMMIT.


class LostAnswers(DuckLake):
    """Every COMMIT happens, and its answer never arrives."""

    def commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().commit(connection)
        raise duckdb.IOException("server closed the connection unexpectedly")


def cut_off(folder: Path) -> None:
    """End every connection to the folder's database, as a restart of the server does."""
    with postgres.admin() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [postgres.database_of(folder)]
        )


@postgres.needed
def test_a_commit_whose_answer_is_lost_is_settled_by_its_records(store: DuckLakeStore, tmp_path: Path) -> None:
    lossy = TableStore(LostAnswers(store.engine.address, {}, tmp_path), PATIENCE_SECONDS)  # type: ignore[attr-defined]
    for n in (1, 1, 2):
        put(lossy, rows((ONE, n)), ONE)
    assert numbers(store, ONE) == [2] and len(store.history("orders", ONE.isoformat())) == 3


@postgres.needed
def test_connections_cut_before_commit_change_nothing_and_a_retry_helps(store: DuckLakeStore, tmp_path: Path) -> None:
    put(store, rows((ONE, 1)), ONE)
    with pytest.raises(Transient):
        put(store, rows((ONE, 2)), ONE, still_owner=lambda: cut_off(tmp_path))
    assert numbers(store, ONE) == [1] and len(store.history("orders", ONE.isoformat())) == 1
    put(store, rows((ONE, 2)), ONE)
    assert numbers(store, ONE) == [2]


@postgres.needed
def test_an_outcome_that_nobody_can_be_asked_about_is_said_to_be_unknown(tmp_path: Path) -> None:
    class Gone(LostAnswers):
        @contextmanager
        def looking(self, wait_seconds: float) -> Iterator[duckdb.DuckDBPyConnection | None]:
            raise StoreUnavailable("nobody answers")
            yield

    gone = TableStore(Gone(lake(tmp_path).engine.address, {}, tmp_path), 5)  # type: ignore[attr-defined]
    with pytest.raises(StoreUnavailable, match="cannot be asked whether it happened"):
        put(gone, rows((ONE, 1)), ONE)
    assert numbers(lake(tmp_path), ONE) == [1]


# What DuckLake does not keep itself.


@postgres.needed
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (rows((ONE, 2), (ONE, 2)), 'Duplicate key "n: 2" violates primary key'),
        (rows((ONE, 1)), 'Duplicate key "n: 1" violates primary key'),
        (rows((ONE, 2), (ONE, 3), code=["a", "a"]), 'Duplicate key "code: a" violates unique'),
        (rows((ONE, 2), code=["x"]), 'Duplicate key "code: x" violates unique'),
        (rows((ONE, 2), units=pa.array([0])), r"CHECK constraint failed .*units > 0.*in 1 rows"),
        (pa.table({"batch_date": [ONE], "n": pa.array([None], pa.int32())}), r"NOT NULL constraint failed.*n"),
    ],
    ids=["twice", "of another day", "unique twice", "unique of another day", "check", "null"],
)
def test_what_a_contract_says_is_judged_before_rows_go_in(store: DuckLakeStore, data: pa.Table, said: str) -> None:
    put(store, rows((TWO, 1), code=["x"]), TWO, table=KEYED)
    for _ in range(2):
        with pytest.raises(WriteRefused, match=said):
            put(store, data, ONE, table=KEYED)
    assert numbers(store, ONE, TWO) == [1]


@postgres.needed
def test_a_contract_is_kept_as_far_as_it_goes(store: DuckLakeStore) -> None:
    for _ in range(2):
        put(store, rows((ONE, 1), (ONE, 2)), ONE, table=KEYED)
    put(store, rows((ONE, 2), (ONE, 3)), ONE, table=KEYED)
    with pytest.raises(PartlyCommitted) as partly:
        put(store, rows((ONE, 3), (TWO, 4), (TWO, 4)), ONE, TWO, table=KEYED)
    assert list(partly.value.failures) == [TWO.isoformat()] and numbers(store, ONE, TWO) == [3]
    assert store.key(KEYED) == ["n"]
    with store.connect() as connection:
        query = "SELECT comment, is_nullable FROM duckdb_columns() WHERE table_name = 'orders' AND column_name = 'n'"
        assert connection.execute(query).fetchall() == [("the number", False)]
        assert connection.execute("SELECT DISTINCT units, code FROM orders").fetchall() == [(1, None)]


@postgres.needed
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("CREATE TABLE orders (batch_date DATE, n HUGEINT)", "HUGEINT"),
        ("CREATE TABLE orders (batch_date DATE, n INTEGER, span INTERVAL)", "INTERVAL"),
        ("CREATE TABLE orders (batch_date DATE, n INTEGER, s STRUCT(a INTERVAL[]))", "INTERVAL"),
        ("CREATE TABLE orders (batch_date DATE, n INTEGER, clock TIMETZ)", "TIME WITH TIME ZONE"),
        ("CREATE TABLE orders (batch_date DATE, n INTEGER, m INTEGER AS (n + 1))", "GENERATED ALWAYS"),
        ("CREATE TABLE orders (batch_date DATE, n INTEGER, t VARCHAR COLLATE NOCASE)", "COLLATE"),
        ("CREATE TYPE mood AS ENUM ('a'); CREATE TABLE orders (batch_date DATE, n INTEGER)", "TYPE"),
        ("CREATE SEQUENCE s; CREATE TABLE orders (batch_date DATE, n INTEGER)", "SEQUENCE"),
        ("CREATE TABLE orders (batch_date DATE, n INTEGER); CREATE UNIQUE INDEX i ON orders (n)", "UNIQUE INDEX"),
    ],
)
def test_what_a_lake_would_lose_in_silence_is_refused(store: DuckLakeStore, script: str, said: str) -> None:
    for _ in range(2):
        with pytest.raises(WriteRefused, match=said):
            put(store, rows((ONE, 1)), ONE, table=replace(ORDERS, contract_sql=script))
    with store.look() as connection:
        assert connection is not None and not has_table(connection, "orders", "main")


@postgres.needed
def test_every_type_has_the_fingerprint_that_it_has_in_a_duckdb_file(store: DuckLakeStore, tmp_path: Path) -> None:
    moment = datetime(2024, 3, 5, 1, 2, 3, 456789, tzinfo=UTC)
    data = rows(
        (ONE, 1),
        (ONE, 2),
        text=["ü\0🙂", None],
        number=pa.array([0.1, float("nan")]),
        zero=pa.array([0.0, 0.0], pa.float32()),
        big=pa.array([2**64 - 1, None], pa.uint64()),
        money=pa.array([None, 12345], pa.int64()).cast(pa.decimal128(38, 0)),
        moment=pa.array([moment, None], pa.timestamp("us", "UTC")),
        naive=pa.array([moment.replace(tzinfo=None), None], pa.timestamp("us")),
        clock=pa.array([moment.time(), None], pa.time64("us")),
        raw=pa.array([b"\0\xff", b""], pa.binary()),
        flag=[True, None],
        many=pa.array([[1, None], []], pa.list_(pa.int32())),
        record=pa.array([{"a": 1, "b": "x"}, None], pa.struct([("a", pa.int32()), ("b", pa.string())])),
    )
    file = DuckDBStore(tmp_path / "w.duckdb")
    for one in (store, file):
        for _ in range(2):
            put(one, data, ONE)
    prints = [one.last_commits()["orders", ONE.isoformat()].fingerprint for one in (store, file)]
    assert prints[0] == prints[1]
    read = [one.arrow(one.read(ORDERS, Scope.days(ONE, ONE))).sort_by("n") for one in (store, file)]
    assert str(read[0].to_pylist()) == str(read[1].to_pylist())


@postgres.needed
def test_a_negative_zero_is_a_zero_and_never_one_today_and_another_tomorrow(store: DuckLakeStore) -> None:
    """DuckDB's Parquet writer makes one value of the two, whichever comes first; so what is hashed is what is read."""
    data = rows((ONE, 1), (ONE, 2), zero=pa.array([-0.0, 0.0]), other=pa.array([0.0, -0.0], pa.float32()))
    for _ in range(2):
        put(store, data, ONE)
    assert not store.last_commits()["orders", ONE.isoformat()].changed, "the second time nothing is rewritten"
    found = store.arrow(store.read(ORDERS, Scope.days(ONE, ONE)))
    assert str(found.select(["zero", "other"]).to_pydict()) == "{'zero': [0.0, 0.0], 'other': [0.0, 0.0]}"
    with pytest.raises(WriteRefused, match=r"'many' has -0.0 inside of its values in 1 rows"):
        put(store, rows((TWO, 3), (TWO, 4), many=[[-0.0], [-0.05, 10.0]]), TWO)
    put(store, rows((TWO, 3), (TWO, 4), many=[[0.0], [-0.05, 10.0]]), TWO)


@postgres.needed
def test_sums_become_exact_decimals_where_parquet_has_no_such_integers(store: DuckLakeStore) -> None:
    put(store, rows((ONE, 2**62), (ONE, 2**62)), ONE)
    from etl_project.storage.contract import Sql  # noqa: PLC0415

    for _ in range(2):
        query = Sql("SELECT batch_date, sum(n) AS n FROM o GROUP BY ALL", o=store.read(ORDERS, Scope.days(ONE, ONE)))
        store.replace(Table("sums", "sums"), Scope.days(ONE, ONE), query, Request("a run"))
    found = store.arrow(store.read(Table("sums", "sums"), Scope.days(ONE, ONE)))
    assert [int(n) for n in found["n"].to_pylist()] == [2**63]


@postgres.needed
def test_the_history_of_the_lake_says_what_was_committed(store: DuckLakeStore) -> None:
    put(store, rows((ONE, 1), (TWO, 2)), ONE, TWO)
    with store.connect() as connection:
        found = connection.execute(
            "SELECT author, commit_message, commit_extra_info FROM lake.snapshots() ORDER BY snapshot_id DESC LIMIT 1"
        ).fetchall()
    assert found[0][:2] == ("etl-project", "orders 2024-03-05 to 2024-03-06")
    assert store.last_commits()["orders", ONE.isoformat()].fingerprint in found[0][2]


@postgres.needed
def test_upkeep_merges_expires_and_removes_and_changes_no_row(
    store: DuckLakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = store.engine
    assert isinstance(engine, DuckLake)
    for n in range(3):
        put(store, rows((ONE, n), (TWO, 9)), ONE, TWO)
        put(store, rows((ONE, n + 10)), ONE)
    history, files = store.history("orders", ONE.isoformat()), tmp_path / "files"
    before = len(list(files.rglob("*.parquet")))
    with store.engine.turn(ORDERS, 5):
        done = upkeep.tidy(engine, 0, timedelta(days=1))
    assert done.busy == ("main.orders",) and "main.etl_commits" in done.merged and done.files == 0
    real = utc.now
    monkeypatch.setattr(upkeep.utc, "now", lambda: real() + timedelta(days=3))
    monkeypatch.setattr(queue, "MOST_CLOCK_SECONDS", float("inf"))
    for _ in range(2):
        upkeep.tidy(engine, 20, timedelta(days=1))
    assert len(list(files.rglob("*.parquet"))) < before / 2
    assert numbers(store, ONE, TWO) == [9, 12] and store.history("orders", ONE.isoformat()) == history
    put(store, rows((ONE, 5)), ONE)
    assert numbers(store, ONE, TWO) == [5, 9]
    with pytest.raises(upkeep.TooShort, match="1d or more"):
        upkeep.tidy(engine, 0, timedelta(hours=1))


@postgres.needed
def test_upkeep_sweeps_the_entries_of_versions_that_have_gone_and_no_version(
    store: DuckLakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers only add to that list, so that those of two tables do not collide: it would grow for ever."""
    engine = store.engine
    assert isinstance(engine, DuckLake)
    keeping = replace(ORDERS, keep_versions=1)
    for n in range(4):
        put(store, rows((ONE, n)), ONE, table=keeping)

    def entries() -> int:
        with store.connect() as connection:
            [[found]] = connection.execute("SELECT count(*) FROM etl_versions").fetchall()
            return int(found)

    assert entries() == 5, "three that were kept, and two that say that one of them has gone"
    seen: list[tuple[int, tuple[str, ...]]] = []
    swept = Versions.sweep

    def in_between(self: Versions) -> int:
        found = swept(self)
        if not seen:
            put(lake(tmp_path), rows((ONE, 4)), ONE, table=keeping)
        return found

    monkeypatch.setattr(Versions, "sweep", in_between)
    for _ in range(3):
        done = upkeep.tidy(engine, 20, timedelta(days=1))
        seen.append((done.versions, done.busy))
    assert seen == [(0, ("main.etl_versions",)), (3, ()), (0, ())], "whoever writes in between is not disturbed"
    assert entries() == 1
    [version] = store.versions(keeping, ONE.isoformat())
    piece = store.read_version(keeping, ONE.isoformat(), version.sequence)
    assert (version.sequence, store.arrow(piece)["n"].to_pylist()) == (4, [3])
    put(store, rows((ONE, 5)), ONE, table=keeping)
    assert numbers(store, ONE) == [5] and [v.sequence for v in store.versions(keeping, ONE.isoformat())] == [5]


# What can be wrong with a server, its database, a role, a clock.


def refusal_of(store: TableStore, *, write: bool = True) -> EtlError:
    """The same one-line answer twice, without the password, not even in what a traceback shows."""
    told = []
    for _ in range(2):
        with pytest.raises(EtlError) as refusal:
            if write:
                put(store, rows((ONE, 9)), ONE)
            else:
                store.last_commits()
        told.append(refusal.value)
        shown = "".join(traceback.format_exception(refusal.value))
        assert "sec-ret-9" not in shown and psycopg.conninfo.conninfo_to_dict(postgres.SERVER)["password"] not in shown
    assert str(told[0]) == str(told[1]) and "\n" not in str(told[0])
    return told[0]


WRONG = {
    "a port where nobody listens": ({"port": "1"}, Transient, "Connection refused"),
    "a host that is unknown": ({"host": "nowhere.invalid"}, Transient, "translate host name"),
    "a wrong password": ({"password": "sec-ret-9"}, Permanent, "Correct the user or the password"),
    "a database that is not there": ({"dbname": "etl_none"}, Permanent, "CREATE DATABASE"),
    "an option that is unknown": ({"sslmode": "perhaps"}, Permanent, "Correct the address"),
}


@postgres.needed
@pytest.mark.parametrize("wrong", WRONG)
def test_a_server_that_cannot_be_worked_with_is_one_clear_line(wrong: str, tmp_path: Path) -> None:
    parts, kind, said = WRONG[wrong]
    for write in (True, False):
        refusal = refusal_of(lake(tmp_path, **parts), write=write)
        assert isinstance(refusal, kind) and said in str(refusal)
        assert ("retrying helps" in str(refusal)) == (kind is Transient)


@postgres.needed
def test_a_role_that_may_only_read_reads_and_is_refused_its_writes(store: DuckLakeStore, tmp_path: Path) -> None:
    put(store, rows((ONE, 1)), ONE)
    role = f"{postgres.database_of(tmp_path)}_reader"
    with postgres.admin(postgres.database_of(tmp_path)) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'sec-ret-9'")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    try:
        reader = lake(tmp_path, user=role, password="sec-ret-9")
        assert numbers(reader, ONE) == [1]
        assert "the role may only read" in str(reader.engine.refusal_to_write())
        assert store.engine.refusal_to_write() is None
        refusal = refusal_of(reader)
        assert isinstance(refusal, Permanent) and "permission denied" in str(refusal)
    finally:
        with postgres.admin(postgres.database_of(tmp_path)) as connection:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")
    assert numbers(store, ONE) == [1]


@postgres.needed
def test_a_catalog_of_another_version_another_path_or_without_its_schema_is_refused(
    store: DuckLakeStore, tmp_path: Path
) -> None:
    put(store, rows((ONE, 1)), ONE)
    other = DuckLakeStore(postgres.url_of(tmp_path), tmp_path / "elsewhere", 5)
    assert "ETL_WAREHOUSE_DATA" in str(refusal_of(other)) and isinstance(refusal_of(other, write=False), Permanent)
    with postgres.admin(postgres.database_of(tmp_path)) as connection:
        for version in ("0.2", "9.9"):
            connection.execute("UPDATE ducklake_metadata SET value = %s WHERE key = 'version'", [version])
            assert "version" in str(refusal_of(store)) and isinstance(refusal_of(store), Permanent)
            assert "migrate" not in str(refusal_of(store)), "one machine would leave the others behind"
        connection.execute("UPDATE ducklake_metadata SET value = '1.0' WHERE key = 'version'")
        assert numbers(store, ONE) == [1]
        connection.execute("ALTER SCHEMA public RENAME TO hidden")
        assert "public" in str(refusal_of(store)) and isinstance(refusal_of(store), Permanent)
        connection.execute("ALTER SCHEMA hidden RENAME TO public")
    assert numbers(store, ONE) == [1]


@postgres.needed
def test_a_clock_that_is_far_off_writes_nothing(store: DuckLakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, rows((ONE, 1)), ONE)
    real = utc.now
    for hours, said in ((1, "3600 s ahead of"), (-1, "3600 s behind")):
        monkeypatch.setattr(queue.utc, "now", lambda hours=hours: real() + timedelta(hours=hours))
        with pytest.raises(StoreUnavailable, match=said):
            put(store, rows((ONE, 2)), ONE)
    monkeypatch.setattr(queue.utc, "now", lambda: real() + timedelta(minutes=2))
    assert numbers(store, ONE) == [1]
    put(store, rows((ONE, 2)), ONE)
    assert numbers(store, ONE) == [2]


@postgres.needed
def test_the_command_keeps_a_lake_and_refuses_what_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(lake(tmp_path), rows((ONE, 1)), ONE)
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(lake_upkeep.NoLake, match="is no DuckLake"):
        lake_upkeep.tidied(settings.load(), 7)
    monkeypatch.setenv("ETL_WAREHOUSE", postgres.url_of(tmp_path))
    monkeypatch.setenv("ETL_WAREHOUSE_DATA", str(tmp_path / "files"))
    said = lake_upkeep.tidied(settings.load(), 7)
    assert said.endswith("0 snapshots and 0 files removed") and numbers(lake(tmp_path), ONE) == [1]
