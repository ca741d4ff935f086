"""Doctor: each thing that is wrong is one line with what to do, and what is right is not."""

from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from etl_project import settings
from etl_project.storage import DuckDBStore
from etl_project.watch import doctor
from etl_project_tests import postgres
from etl_project_tests.deployments import ROOT, Place


def answers(folder: Path, **environ: str) -> dict[str, doctor.Answer]:
    found = doctor.examine({"ETL_DATA_DIR": str(folder), **environ}, lambda: "2 assets")
    return {answer.question: answer for answer in found}


def bad(folder: Path, **environ: str) -> dict[str, str]:
    return {name: one.found for name, one in answers(folder, **environ).items() if not one.well}


def test_a_new_folder_on_a_local_disk_is_well_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    assert bad(tmp_path) == {} and bad(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_nothing_reads_is_named_and_a_secret_is_not_shown(tmp_path: Path) -> None:
    assert "ETL_WAIT_SECOND" in bad(tmp_path, ETL_WAIT_SECOND="5")["environment"]
    shown = answers(tmp_path, ETL_DELIVERY_TOKEN="a-secret-token", ETL_WAIT_SECONDS="5")["environment"]
    assert shown.well and "a-secret-token" not in shown.found and "ETL_WAIT_SECONDS=5" in shown.found
    for value in ("host=h password=hunter22", "postgresql://etl:hunter22@h/w"):
        shown = answers(tmp_path, ETL_TEST_POSTGRES=value)["environment"]
        assert "hunter22" not in shown.found and "ETL_TEST_POSTGRES=***" in shown.found


def test_every_setting_is_told_as_it_is_read_and_from_where_and_no_address(tmp_path: Path) -> None:
    told = answers(tmp_path, ETL_WAIT_SECONDS="5", ETL_LOCKS="postgresql://etl:hunter22@h/locks")["settings"]
    assert (
        told.well
        and "wait_seconds 5.0 (ETL_WAIT_SECONDS)" in told.found
        and "settle_seconds 1.0 (default)" in told.found
    )
    assert "history_days none (default)" in told.found and "hunter22" not in told.found and "locks" not in told.found


def test_a_wrong_value_is_the_answer_and_ends_the_questions(tmp_path: Path) -> None:
    found = answers(tmp_path, ETL_WAIT_SECONDS="soon")
    assert not found["settings"].well and "soon" in found["settings"].found and "disk" not in found


def test_all_wrong_values_are_named_at_once_and_those_of_the_parts_too(tmp_path: Path) -> None:
    wrong = {
        "ETL_WAIT_SECONDS": "soon",
        "ETL_SETTLE_SECONDS": "-1",
        "ETL_PREVIEW_ROWS": "many",
        "ETL_WAREHOUSE": "mysql://etl:hunter22@h/w",
        "ETL_DELIVERY_URL": "ftp://example.com",
        "ETL_RECEIVER_PORTS": "8085",
        "ETL_KAFKA_CONFIG": str(tmp_path / "nothing"),
    }
    environ = {"ETL_DATA_DIR": str(tmp_path), "ETL_KAFKA_BOOTSTRAP": "localhost:9092", **wrong}
    found = [one for one in doctor.examine(environ, lambda: "2 assets") if not one.well]
    assert {one.question for one in found} == {"settings"} and "hunter22" not in str(found)
    lines = [one.found for one in found]
    assert len(lines) == len(wrong)
    assert {re.match("[A-Z_]+", line)[0] for line in lines} == set(wrong)  # type: ignore[index]


def test_a_broker_that_is_set_is_asked_and_its_password_is_not_shown(tmp_path: Path) -> None:
    pytest.importorskip("dagster_celery")
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nobody.settimeout(240)
        port = nobody.getsockname()[1]  # Who connects waits to be answered; nobody else can listen there.
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(bad, tmp_path, ETL_BROKER=f"redis://:hunter22@127.0.0.1:{port}/0")
            connection, _ = nobody.accept()
            nobody.close()
            connection.close()
            said = asked.result()
    assert set(said) == {"broker"} and "does not answer" in said["broker"] and "hunter22" not in said["broker"]
    assert "refuses" in bad(tmp_path, ETL_BROKER="nothing://h")["broker"]
    assert "broker" not in answers(tmp_path)


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 1 << 60)
    assert set(bad(tmp_path)) == {"disk"}


def test_a_file_server_with_another_clock_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.time, "time", lambda: 10.0**9)
    assert set(bad(tmp_path)) == {"clock"}
    assert " s apart" in bad(tmp_path)["clock"], "not that they agree"


def test_folders_that_another_user_has_made_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("incoming/orders/deep", "archive/orders", "archive/refunds"):
        (tmp_path / name).mkdir(parents=True)
    shut = {tmp_path / "incoming" / "orders", tmp_path / "archive"}
    (gone := tmp_path / "state.sqlite-wal").touch()

    def access(path: Path, _mode: int) -> bool:
        gone.unlink(missing_ok=True)  # Whoever had the database open closes it just now.
        return path not in (*shut, gone)

    monkeypatch.setattr(doctor.os, "access", access)
    [(question, answer)] = bad(tmp_path).items()
    assert (question, answer) == ("folders", "no permission: archive, incoming/orders")


def test_no_log_is_tried_where_a_full_disk_would_end_who_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl_project.sqlite_log.fits", lambda _: False)
    monkeypatch.setattr(sqlite3, "connect", lambda *_: pytest.fail("no file was to be opened"))
    assert answers(tmp_path)["SQLite WAL"].well


def test_a_file_system_without_wal_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(doctor.sqlite3, "connect", lambda _path: connect(":memory:"))
    assert "journal mode memory" in bad(tmp_path)["SQLite WAL"]


def test_whoever_holds_the_warehouse_is_named_and_a_damaged_one_is_not_well(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    with DuckDBStore(path).connect():
        pass
    assert answers(tmp_path)["warehouse"].found.startswith("free")
    script = f"import duckdb, time; c = duckdb.connect({str(path)!r}); print('open', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        held = answers(tmp_path)["warehouse"]
        holder.kill()
    assert held.well and str(holder.pid) in held.found
    path.write_bytes(b"no database")
    assert "is no DuckDB database" in bad(tmp_path)["warehouse"]


@postgres.needed
def test_a_role_that_may_make_nothing_in_an_empty_warehouse_is_not_well_and_a_server_set_to_read_only(
    tmp_path: Path,
) -> None:
    role, database = f"{postgres.database_of(tmp_path)}_reader", postgres.database_of(tmp_path)
    url = postgres.plain_url_of(tmp_path)
    with postgres.admin(database) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hunter22'")
        try:
            reader = postgres.plain_url_of(tmp_path, user=role, password="hunter22")
            told = bad(tmp_path, ETL_WAREHOUSE=reader)["warehouse"]
            assert "permission denied" in told and "CREATE on the schema" in told and "hunter22" not in told
            assert answers(tmp_path, ETL_WAREHOUSE=url)["warehouse"].well
            connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
            assert "read only" in bad(tmp_path, ETL_WAREHOUSE=url)["warehouse"]
        finally:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")


def test_pipelines_that_cannot_be_loaded_are_one_line(tmp_path: Path) -> None:
    def broken() -> str:
        raise ValueError("two\nlines")

    found = {answer.question: answer for answer in doctor.examine({"ETL_DATA_DIR": str(tmp_path)}, broken)}
    assert (found["pipelines"].well, found["pipelines"].found) == (False, "ValueError: two lines")


def test_the_command_says_all_of_it_and_its_exit_code_follows(tmp_path: Path) -> None:
    def run(**environ: str) -> subprocess.CompletedProcess[str]:
        return Place(tmp_path / "data").etl("doctor", **environ)

    well = run()
    assert well.returncode == 0 and "pipelines" in well.stdout and "NOT WELL" not in well.stdout, well.stdout
    ill = run(ETL_WAIT_SECONDS="soon")
    assert ill.returncode == 1 and "NOT WELL settings" in ill.stdout and "soon" in ill.stdout


def test_the_settings_page_lists_every_variable() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    assert set(settings.NAMES) - {"ETL_FAULT"} <= set(re.findall(r"ETL_[A-Z_]+", page))
