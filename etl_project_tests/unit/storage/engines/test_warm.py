"""The DuckDB that stays for looks: no file is held between looks, and one is shown as DuckDB itself does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_project.storage.engines import duckdb_file, warm
from etl_project.storage.engines.duckdb_file import CONFIG, DuckDBFile
from etl_project.storage.engines.warm import Warm

Made = list[str]


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """Which databases are opened meanwhile, each with a DuckDB made around it; this process's own begins anew."""
    monkeypatch.setattr(duckdb_file, "_WARM", Warm(CONFIG))
    connect, opened = duckdb.connect, Made()

    def counted(database: str = ":memory:", *args: Any, **kwargs: Any) -> duckdb.DuckDBPyConnection:
        opened.append(Path(database).name)
        return connect(database, *args, **kwargs)

    monkeypatch.setattr(duckdb, "connect", counted)
    yield opened


@pytest.fixture
def file(tmp_path: Path) -> DuckDBFile:
    return numbered(tmp_path / "w.duckdb", 1)


def numbered(path: Path, *numbers: int, schema: str = "main") -> DuckDBFile:
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}; CREATE TABLE {schema}.t (n INTEGER)")
        connection.executemany(f"INSERT INTO {schema}.t VALUES (?)", [[number] for number in numbers])
    return DuckDBFile(path, {})


def seen(file: DuckDBFile, what: str = "FROM t ORDER BY n") -> list[Any]:
    with file.looking(0) as connection:
        assert connection is not None
        return [row[0] for row in connection.execute(what).fetchall()]


def other_process_may_write(path: Path) -> bool:
    code = "import duckdb, sys; duckdb.connect(sys.argv[1])"
    return not subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=False).returncode


def test_one_look_after_the_other_makes_one_duckdb_and_leaves_the_file_free(tmp_path: Path, made: Made) -> None:
    path = tmp_path / "w.duckdb"
    file = numbered(path, 1)
    made.clear()
    assert seen(file) == [1] and seen(DuckDBFile(path, {})) == [1]
    assert made == [":memory:"]
    assert other_process_may_write(path)
    with file.writing(0) as connection:
        connection.execute("INSERT INTO t VALUES (2)")
    assert seen(file) == [1, 2]
    assert made == [":memory:", "w.duckdb"]


def test_while_a_look_is_under_way_nobody_writes_and_other_looks_share_it(file: DuckDBFile, made: Made) -> None:
    with file.looking(0):
        assert seen(file) == [1]
        assert not other_process_may_write(file._path)
        with pytest.raises(duckdb_file.StoreBusy), file.writing(0):
            pass
        assert seen(file) == [1]
    assert other_process_may_write(file._path)
    assert made.count(":memory:") == 1


def test_a_look_writes_nothing(file: DuckDBFile) -> None:
    with pytest.raises(duckdb.InvalidInputException, match="read-only"):
        seen(file, "INSERT INTO t VALUES (2)")
    assert seen(file) == [1]


def test_a_look_within_a_write_or_beside_a_users_connection_sees_what_they_have_committed(file: DuckDBFile) -> None:
    with file.writing(0) as connection:
        connection.execute("INSERT INTO t VALUES (2)")
        assert seen(file) == [1, 2]
    with duckdb.connect(str(file._path), config=dict(CONFIG)) as connection:
        connection.execute("INSERT INTO t VALUES (3)")
        assert seen(file) == [1, 2, 3]


def test_the_file_has_the_name_schema_zone_and_spill_folder_that_it_has_when_it_is_opened(file: DuckDBFile) -> None:
    what = (
        "SELECT [current_database(), current_schema(), current_setting('TimeZone'), current_setting('temp_directory')]"
    )
    looked = seen(file, what)
    with file.writing(0) as connection:
        assert looked == [row[0] for row in connection.execute(what).fetchall()]


def test_two_files_at_once_are_shown_each_for_itself(file: DuckDBFile, tmp_path: Path) -> None:
    other = numbered(tmp_path / "other.duckdb", 5)
    tables = "SELECT count(*) FROM duckdb_tables()"
    with file.looking(0):
        assert seen(other) == [5] and seen(other, tables) == [1]
        assert seen(file) == [1] and seen(file, tables) == [1]


def test_a_schema_with_the_name_of_the_duckdb_beside_it_is_read(tmp_path: Path) -> None:
    file = numbered(tmp_path / "w.duckdb", 1, schema="memory")
    assert seen(file, "FROM memory.t") == seen(file, "FROM memory.t") == [1]


@pytest.mark.parametrize("name", ["MEMORY.db", "pg_catalog.db", "information_schema.db"])
def test_a_file_with_the_name_of_a_schema_or_database_that_is_always_there_is_read(tmp_path: Path, name: str) -> None:
    file = numbered(tmp_path / name, 1)
    assert seen(file) == seen(file) == [1]
    assert seen(file, "SELECT current_schema()") == ["main"]


def test_settings_of_one_store_are_not_those_of_another(file: DuckDBFile) -> None:
    limit = "SELECT current_setting('memory_limit')"
    before = seen(file, limit)
    assert seen(DuckDBFile(file._path, {"memory_limit": "64MiB"}), limit) == ["64.0 MiB"]
    assert seen(file, limit) == before != ["64.0 MiB"]


def test_after_an_error_the_next_look_begins_with_another_duckdb(file: DuckDBFile, made: Made) -> None:
    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error), file.looking(0):
            raise error
        assert other_process_may_write(file._path)
        assert seen(file) == [1]
    assert made.count(":memory:") == 3


@pytest.mark.parametrize("call", [1, 2])
def test_a_look_that_a_signal_breaks_off_before_or_after_its_block_holds_nothing(
    file: DuckDBFile, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    calls, quote = [], warm.quote

    def interrupted(name: str) -> str:
        calls.append(name)
        if len(calls) == call:
            raise KeyboardInterrupt
        return quote(name)

    monkeypatch.setattr(warm, "quote", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept:  # With all frames in it, as a notebook keeps the last one.
        seen(file)
    with file.writing(0):
        pass
    assert other_process_may_write(file._path)
    assert kept.value and seen(file) == [1]


def test_a_look_that_a_signal_left_between_two_lines_is_forgotten(file: DuckDBFile) -> None:
    left = duckdb_file._WARM._begin(file._path, [])
    assert left is not None
    del left
    assert seen(file) == [1]
    assert other_process_may_write(file._path)


def test_where_a_look_spilled_its_duckdb_is_given_up_with_the_folder(file: DuckDBFile, made: Made) -> None:
    spilled = file._path.with_name(f"{file._path.name}.tmp")
    with file.looking(0) as connection:
        assert connection is not None
        connection.execute("SET memory_limit = '20MB'; SET threads = 1")
        connection.execute("CREATE TEMP TABLE large AS SELECT hash(range) AS h, range FROM range(3_000_000)")
        assert list(spilled.iterdir())
    assert not spilled.exists()
    assert seen(file, "SELECT current_setting('threads') = 1 AND current_setting('memory_limit') = '19.0 MiB'") == [
        False
    ]
    assert made.count(":memory:") == 2


def test_a_process_that_is_forked_after_a_look_looks_too_and_ends(file: DuckDBFile) -> None:
    assert seen(file) == [1]
    child = os.fork()
    if not child:
        try:
            looked = duckdb_file._WARM._base is None and seen(file) == [1]
        finally:  # Never on with the tests in the child.
            os._exit(0 if looked else 1)
    deadline = time.monotonic() + 60
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.05)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
    assert ended == (child, 0)
