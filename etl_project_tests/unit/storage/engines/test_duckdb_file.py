"""Making the database file: what goes wrong is retryable, and what a kill left is gone after the next making."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from etl_project import atomic
from etl_project.storage.contract import Request, Scope, StoreBusy, StoreUnavailable, Table, WriteRefused
from etl_project.storage.engines.duckdb_file import CONFIG, DuckDBFile, DuckDBStore
from etl_project.storage.engines.postgres.address import address_of
from etl_project.storage.engines.server.errors import of_server
from etl_project.storage.tables.transactions import unavailable


def make(path: Path) -> None:
    with DuckDBFile(path, {}).writing(0) as connection:
        connection.execute("SELECT 1")


def test_a_folder_that_cannot_be_made_is_a_retryable_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="retrying helps"):
        make(tmp_path / "file" / "w.duckdb")


@pytest.mark.parametrize("engine", ["a file", "a server"])
def test_an_error_of_memory_names_the_setting_that_gives_more(engine: str) -> None:
    small = {"memory_limit": "10MB", "temp_directory": ""}
    with duckdb.connect(config=small) as connection, pytest.raises(duckdb.OutOfMemoryException) as raised:
        connection.execute("CREATE TEMP TABLE t AS SELECT range, repeat('x', 100) || range FROM range(1_000_000)")
    server = address_of("postgresql://etl@localhost/w")
    meant = unavailable("w", raised.value) if engine == "a file" else of_server(server, str(raised.value))
    assert "memory_limit_mb" in str(meant) and "ETL_MEMORY_LIMIT_MB" in str(meant)
    assert "memory_limit_mb" not in str(unavailable("w", duckdb.IOException("No space left on device")))


@pytest.mark.parametrize("kind", ["error", "full"])
def test_a_disk_that_fails_while_the_file_is_made_is_a_retryable_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("ETL_FAULT", f"duckdb.file_made={kind}")
    monkeypatch.setattr("etl_project.faults._reached", iter([1]))
    with pytest.raises(StoreUnavailable):
        make(tmp_path / "w.duckdb")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_making_left_is_removed_and_one_that_is_under_way_is_not(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    old, young = (atomic.temporary_sibling(path) for _ in range(2))
    for each in (old, young):
        each.write_bytes(b"begun")
    os.utime(old, (0, 0))
    for _ in range(2):
        make(path)
        assert sorted(tmp_path.iterdir()) == sorted([young, path])


SPILL_AND_DIE = """
import os, sys, threading, time, duckdb
path = sys.argv[1]
connection = duckdb.connect(path)
connection.execute("SET memory_limit = '60MB'; SET threads = 1")

def kill():
    while not (os.path.isdir(path + ".tmp") and os.listdir(path + ".tmp")):
        time.sleep(0.002)
    os.kill(os.getpid(), 9)

threading.Thread(target=kill, daemon=True).start()
rows = "SELECT range AS a, range::VARCHAR || repeat('x', 20) AS s FROM range(3000000)"
while True:  # Until the other thread has had its turn.
    connection.execute(f"CREATE OR REPLACE TABLE t AS {rows} ORDER BY hash(a)")
"""


def test_rows_that_a_killed_process_spilled_are_removed_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    spilled = tmp_path / "w.duckdb.tmp"
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", SPILL_AND_DIE, str(path)], check=False)
        assert killed.returncode == -signal.SIGKILL and list(spilled.iterdir())
        make(path)
        assert not spilled.exists()


def test_what_another_connection_of_the_process_spills_and_what_is_somebody_elses_stays(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    spilled = tmp_path / "w.duckdb.tmp"
    rows, other = spilled / "duckdb_temp_storage_DEFAULT-0.tmp", spilled / "mine.txt"
    with DuckDBFile(path, {}).writing(0):
        spilled.mkdir()
        rows.touch()
        other.touch()
        make(path)
        assert sorted(spilled.iterdir()) == [rows, other], "these may be rows of the connection that is open"
    make(path)
    assert list(spilled.iterdir()) == [other]


WHOLE = Table("a", "a", contract_sql="CREATE TABLE a (n BIGINT PRIMARY KEY)")
OPENS = "import sys, duckdb; duckdb.connect(sys.argv[1], read_only=sys.argv[2] == 'read').close()"


def other_process_may_open(path: Path, to: str = "write") -> bool:
    command = [sys.executable, "-c", OPENS, str(path), to]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def written(store: DuckDBStore, *numbers: int) -> None:
    store.replace(WHOLE, Scope.whole(), pa.table({"n": pa.array(numbers, pa.int64())}), Request(run_id="r"))


def test_a_block_opens_the_file_once_and_whoever_waits_for_it_has_it_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    store = DuckDBStore(path, wait_seconds=0)
    with store.kept_open():  # No file yet: none is made for this.
        assert not path.exists()
    for n in range(2):
        written(store, n)
        with pytest.raises(KeyError), store.kept_open():
            written(store, n, n + 1)
            assert store.arrow(store.read(WHOLE, Scope.whole())).num_rows == 2
            assert not other_process_may_open(path)
            raise KeyError("whatever goes wrong in it")
        assert other_process_may_open(path)
    assert [commit.rows for commit in store.history("a", None)] == [1, 2, 1, 2]


def test_a_block_to_read_keeps_out_those_that_write_and_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    store = DuckDBStore(path, wait_seconds=0)
    with store.kept_open(to_read=True):  # No file yet: none is made for this.
        assert not path.exists()
    written(store, 1)
    for _ in range(2):
        with pytest.raises(KeyError), store.kept_open(to_read=True):
            assert store.arrow(store.read(WHOLE, Scope.whole())).to_pylist() == [{"n": 1}]
            assert other_process_may_open(path, "read") and not other_process_may_open(path)
            with pytest.raises(StoreBusy):
                written(store, 2)
            raise KeyError("whatever goes wrong in it")
        assert other_process_may_open(path)
    written(store, 2)
    with store.kept_open(), store.kept_open(to_read=True):  # What may write may read as well.
        written(store, 3)
    assert store.arrow(store.read(WHOLE, Scope.whole())).to_pylist() == [{"n": 3}]


def test_a_file_that_another_thread_opens_at_this_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DuckDBStore(tmp_path / "w.duckdb")
    written(store, 1)
    connect = duckdb.connect
    told = [
        duckdb.BinderException('Binder Error: Unique file handle conflict: Cannot attach "w"'),
        duckdb.BinderException("Binder Error: another one"),
    ]

    def once_in_the_way(*args: Any, **kwargs: Any) -> duckdb.DuckDBPyConnection:
        if told:
            raise told.pop(0)
        return connect(*args, **kwargs)

    monkeypatch.setattr(duckdb, "connect", once_in_the_way)
    impatient = DuckDBStore(store.path, wait_seconds=0)
    with pytest.raises(StoreBusy, match="attached in this process, or just being opened"), impatient.kept_open():
        pass
    with pytest.raises(duckdb.BinderException, match="another one"), impatient.kept_open():
        pass
    told.append(duckdb.BinderException('Binder Error: Unique file handle conflict: Cannot attach "w"'))
    with store.kept_open():
        assert [commit.rows for commit in store.history("a", None)] == [1]
    assert not told


def test_a_look_takes_over_the_index_that_only_the_log_of_a_killed_process_has(tmp_path: Path) -> None:
    store, left = DuckDBStore(tmp_path / "w.duckdb"), DuckDBStore(tmp_path / "left" / "w.duckdb", wait_seconds=0)
    written(store, 1, 2)
    left.path.parent.mkdir()
    with duckdb.connect(str(store.path), config=dict(CONFIG)) as connection:
        connection.execute("SET checkpoint_threshold = '1TB'")
        connection.execute("CREATE INDEX by_number ON a (n)")
        for name in ("w.duckdb", "w.duckdb.wal"):  # What a SIGKILL at this moment leaves.
            (left.path.parent / name).write_bytes((tmp_path / name).read_bytes())
    assert left.arrow(left.read(WHOLE, Scope.whole())).to_pylist() == [{"n": 1}, {"n": 2}]


def test_a_broken_key_in_a_block_is_the_datas_fault_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DuckDBStore(tmp_path / "w.duckdb")
    written(store, 1)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waited for another writer, and there is none"))
    for _ in range(2):
        with store.kept_open(), pytest.raises(WriteRefused):
            written(store, 1, 1)
    assert store.arrow(store.read(WHOLE, Scope.whole())).to_pylist() == [{"n": 1}]


def test_a_write_in_a_block_removes_what_was_spilled_before(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    store = DuckDBStore(path)
    written(store, 1)
    for n in range(2):
        with store.kept_open():
            (tmp_path / "w.duckdb.tmp").mkdir()
            (tmp_path / "w.duckdb.tmp" / "duckdb_temp_storage-0.tmp").write_bytes(b"left")
            written(store, n + 2)
            assert not (tmp_path / "w.duckdb.tmp").exists()


def test_a_look_takes_over_an_index_that_a_killed_process_has_committed(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    made = (
        "import duckdb, os, signal, sys; c = duckdb.connect(sys.argv[1]); "
        "c.execute('CREATE TABLE t AS SELECT range AS n FROM range(10); CREATE INDEX i ON t (n)'); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", made, str(path)], check=False)
    with DuckDBStore(path).look() as connection:
        assert connection is not None and connection.execute("SELECT count(*) FROM t").fetchall() == [(10,)]
