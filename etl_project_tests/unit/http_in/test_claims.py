"""Claims: one upload holds a key, a dead or silent owner loses it, and a rename happens once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from etl_project import settings
from etl_project.exclusion import processes
from etl_project.http_in import settings as receiver_settings
from etl_project.http_in.claims import Answered, ClaimLost, Claims, InProgress, Upload
from etl_project.http_in.database import MARK, Database, RecordsBusy, RecordsUnusable, Rows
from etl_project.http_in.keeper import Keeper
from etl_project.http_in.settings import Receiver
from etl_project_tests import postgres

DIGEST = "0" * 64


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=postgres.needed)])
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rows]:
    (tmp_path / "incoming").mkdir()
    opened: Rows
    if request.param == "sqlite":
        opened = Database(tmp_path / "delivery.sqlite")
    else:
        from etl_project.http_in.server_records import ServerRecords  # noqa: PLC0415

        opened = ServerRecords(postgres.plain_url_of(tmp_path), tmp_path / "incoming")
        (tmp_path / "incoming" / MARK).unlink()
    yield opened
    opened.close()


@pytest.fixture
def claims(database: Rows) -> Claims:
    return Claims(database, lease_seconds=30)


def claim(claims: Claims, tmp_path: Path, key: str = "k", client: str = "acme") -> Upload:
    taken = claims.claim(client, key, "PUT orders/a.csv", tmp_path / "incoming" / "a.csv")
    assert isinstance(taken, Upload)
    return taken


def disown(database: Rows) -> None:
    """Make every claim the property of a process that is gone."""
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            "from etl_project.exclusion import processes; print(processes.this_process().to_json())",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    with database.transaction() as connection:
        connection.execute("update claims set owner = ?", (ended.stdout.strip(),))


def test_a_key_is_held_until_it_is_landed_and_then_has_its_answer(claims: Claims, tmp_path: Path) -> None:
    upload = claim(claims, tmp_path)
    with pytest.raises(InProgress):
        claim(claims, tmp_path)
    upload.temporary.write_bytes(b"x")
    claims.land(upload, DIGEST, 201, "stored")
    assert upload.target.read_bytes() == b"x"
    for _ in range(2):
        found = claims.claim("acme", "k", "PUT orders/b.csv", tmp_path / "incoming" / "b.csv")
        assert found == Answered("PUT orders/a.csv", DIGEST, 201, "stored")


def test_keys_of_different_clients_have_nothing_to_do_with_each_other(claims: Claims, tmp_path: Path) -> None:
    assert claim(claims, tmp_path, client="acme").temporary != claim(claims, tmp_path, client="other").temporary


def test_a_released_key_is_free_and_leaves_nothing(claims: Claims, tmp_path: Path) -> None:
    upload = claim(claims, tmp_path)
    upload.temporary.write_bytes(b"x")
    for _ in range(2):
        claims.release(upload)
    assert list((tmp_path / "incoming").iterdir()) == []
    claim(claims, tmp_path)


def test_an_incomplete_upload_of_a_dead_owner_is_thrown_away(claims: Claims, database: Rows, tmp_path: Path) -> None:
    dead = claim(claims, tmp_path)
    dead.temporary.write_bytes(b"half")
    disown(database)
    mine = claim(claims, tmp_path)
    assert not dead.temporary.exists()
    mine.temporary.write_bytes(b"x")
    with pytest.raises(ClaimLost):
        claims.land(dead, DIGEST, 201, "late")
    claims.land(mine, DIGEST, 201, "stored")


@pytest.mark.parametrize("renamed", [False, True])
def test_a_landed_upload_of_a_dead_owner_happens_once(
    claims: Claims, database: Rows, tmp_path: Path, renamed: bool
) -> None:
    dead = claim(claims, tmp_path)
    dead.temporary.write_bytes(b"x")
    claims.land(dead, DIGEST, 201, "stored")
    dead.target.unlink()
    if not renamed:
        dead.temporary.write_bytes(b"x")
    with database.transaction() as connection:
        connection.execute("update claims set state = 'landed'")
    disown(database)
    for _ in range(2):
        assert claims.recover().claims in (0, 1)
        assert dead.target.exists() is not renamed
    assert isinstance(claims.claim("acme", "k", "any", dead.target), Answered)


def test_a_live_owner_keeps_its_claims_through_a_recovery(claims: Claims, tmp_path: Path) -> None:
    upload = claim(claims, tmp_path)
    assert claims.recover().claims == 0
    upload.temporary.write_bytes(b"x")
    claims.land(upload, DIGEST, 201, "stored")


def test_an_unrenewed_lease_runs_out_even_of_a_live_owner(database: Rows, tmp_path: Path) -> None:
    short = Claims(database, lease_seconds=0.05)
    lost = claim(short, tmp_path)
    lost.temporary.write_bytes(b"x")
    time.sleep(0.1)
    claim(short, tmp_path)
    with pytest.raises(ClaimLost):
        short.land(lost, DIGEST, 201, "late")
    assert not (tmp_path / "incoming" / "a.csv").exists()


def test_a_renewed_lease_holds(database: Rows, tmp_path: Path) -> None:
    claim(Claims(database, lease_seconds=0.05), tmp_path)
    Claims(database, lease_seconds=30).renew()
    time.sleep(0.1)
    with pytest.raises(InProgress):
        claim(Claims(database, lease_seconds=30), tmp_path)


def test_a_landing_that_fails_is_finished_by_the_next_request(claims: Claims, tmp_path: Path) -> None:
    upload = claim(claims, tmp_path)
    upload.temporary.write_bytes(b"x")
    upload.target.mkdir()
    with pytest.raises(IsADirectoryError):
        claims.land(upload, DIGEST, 201, "stored")
    claims.release(upload)
    upload.target.rmdir()
    assert isinstance(claims.claim("acme", "k", "any", upload.target), Answered)
    assert upload.target.read_bytes() == b"x"


def test_a_landing_that_cannot_get_its_name_keeps_nothing_else_back(
    claims: Claims, database: Rows, tmp_path: Path
) -> None:
    blocked, other = claim(claims, tmp_path), claim(claims, tmp_path, key="other")
    for upload in (blocked, other):
        upload.temporary.write_bytes(b"x")
    blocked.target.mkdir()
    with pytest.raises(IsADirectoryError):
        claims.land(blocked, DIGEST, 201, "stored")
    disown(database)
    found = claims.recover()
    assert found.claims == 1
    assert len(found.stuck) == 1
    assert "a.csv" in found.stuck[0]
    assert claims.recover().claims == 0
    blocked.target.rmdir()
    assert claims.recover() == (1, ())
    assert blocked.target.read_bytes() == b"x"


def test_a_folder_that_is_called_like_a_temporary_file_stops_no_sweep(claims: Claims, tmp_path: Path) -> None:
    (tmp_path / "data" / "orders" / ".etl-upload-0123.tmp").mkdir(parents=True)
    (tmp_path / "data" / "orders" / ".etl-upload-4567.tmp").write_bytes(b"x")
    claims.sweep(tmp_path / "data")
    assert [path.name for path in (tmp_path / "data" / "orders").iterdir()] == [".etl-upload-0123.tmp"]


def test_answers_are_forgotten_after_their_time_and_no_sooner(claims: Claims, database: Rows, tmp_path: Path) -> None:
    upload = claim(claims, tmp_path)
    upload.temporary.write_bytes(b"x")
    claims.land(upload, DIGEST, 201, "stored")
    claim(claims, tmp_path, key="still in progress")
    assert claims.recover().claims == 1
    assert claims.recover().claims == 0
    assert claims.forget(timedelta(days=1)) == 0
    with database.transaction() as connection:
        connection.execute("update claims set updated_at = updated_at - 90000")
    assert claims.forget(timedelta(days=1)) == 1
    claim(claims, tmp_path)
    with pytest.raises(InProgress):
        claim(claims, tmp_path, key="still in progress")


def test_temporary_files_that_nobody_claims_are_swept_and_others_stay(claims: Claims, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "orders"
    folder.mkdir(parents=True)
    mine = claims.claim("acme", "k", "PUT orders/a.csv", folder / "a.csv")
    assert isinstance(mine, Upload)
    mine.temporary.write_bytes(b"x")
    of_another_writer = folder / ".etl-0123.tmp"
    of_another_writer.write_bytes(b"x")
    (folder / ".etl-upload-0123.tmp").write_bytes(b"x")
    assert [claims.sweep(tmp_path / "data") for _ in range(2)] == [1, 0]
    assert set(folder.iterdir()) == {mine.temporary, of_another_writer}


@postgres.needed
def test_receivers_of_different_drop_folders_do_not_share_their_keys(tmp_path: Path) -> None:
    from etl_project.http_in.server_records import ServerRecords  # noqa: PLC0415

    url = postgres.plain_url_of(tmp_path)
    for _ in range(2):
        ServerRecords(url, tmp_path / "incoming")
    with pytest.raises(RecordsUnusable, match="have the drop folder"):
        ServerRecords(url, tmp_path / "other")


def receiver_of(data: Path) -> tuple[dict[str, str], Receiver]:
    """The environment and the settings of a receiver with one client."""
    environ = {"ETL_DATA_DIR": str(data), "ETL_RECEIVER_TOKEN_ACME": "correct-horse-battery"}
    environ["ETL_RECEIVER_SOURCES_ACME"] = "orders"
    return environ, receiver_settings.receiver(environ)


@postgres.needed
def test_a_server_takes_over_the_answers_that_the_file_of_the_machine_had(tmp_path: Path) -> None:
    environ, receiving = receiver_of(tmp_path)
    before = Keeper(settings.load(environ), receiving)
    upload = claim(before.claims(), tmp_path)
    upload.temporary.parent.mkdir(exist_ok=True)
    upload.temporary.write_bytes(b"x")
    before.claims().land(upload, DIGEST, 201, "stored")
    before.close()
    for _ in range(2):
        now = Keeper(settings.load({**environ, "ETL_LOCKS": postgres.plain_url_of(tmp_path)}), receiving)
        found = now.claims().claim("acme", "k", "PUT orders/b.csv", tmp_path / "incoming" / "b.csv")
        assert found == Answered("PUT orders/a.csv", DIGEST, 201, "stored")


@postgres.needed
def test_the_uploads_of_a_receiver_that_still_works_with_the_file_are_not_rubbish_to_the_server(tmp_path: Path) -> None:
    environ, receiving = receiver_of(tmp_path)
    before = Keeper(settings.load(environ), receiving)
    target = tmp_path / "incoming" / "orders" / "a.csv"
    target.parent.mkdir(parents=True)
    upload = before.claims().claim("acme", "k", "PUT orders/a.csv", target)
    assert isinstance(upload, Upload)
    upload.temporary.write_bytes(b"x")
    now = Keeper(settings.load({**environ, "ETL_LOCKS": postgres.plain_url_of(tmp_path)}), receiving)
    for _ in range(2):
        with pytest.raises(RecordsBusy, match="1 uploads are not finished"):
            now.claims()
        assert upload.temporary.read_bytes() == b"x"
    before.claims().land(upload, DIGEST, 201, "stored")
    before.close()
    assert now.claims().claim("acme", "k", "PUT orders/a.csv", target) == Answered(
        "PUT orders/a.csv", DIGEST, 201, "stored"
    )
    assert target.read_bytes() == b"x"


def test_a_receiver_without_the_server_is_refused_where_the_keys_are_on_one(tmp_path: Path) -> None:
    environ = {"ETL_DATA_DIR": str(tmp_path), "ETL_RECEIVER_TOKEN_ACME": "correct-horse-battery"}
    environ["ETL_RECEIVER_SOURCES_ACME"] = "orders"
    of_another = tmp_path / "incoming" / "orders" / ".etl-upload-0123.tmp"
    of_another.parent.mkdir(parents=True)
    of_another.write_bytes(b"x")
    mark = tmp_path / "incoming" / MARK
    mark.write_text("0123", encoding="ascii")
    alone = Keeper(settings.load(environ), receiver_settings.receiver(environ))
    for _ in range(2):
        with pytest.raises(RecordsUnusable, match="ETL_LOCKS is not set"):
            alone.claims()
        assert of_another.exists()
    mark.unlink()
    alone.claims()
    alone.close()


@postgres.needed
def test_nobody_is_told_to_drop_the_keys_because_of_their_tables_version(
    tmp_path: Path,
) -> None:
    from etl_project.http_in.server_records import ServerRecords  # noqa: PLC0415

    database = ServerRecords(postgres.plain_url_of(tmp_path), tmp_path / "incoming")
    with pytest.raises(RecordsUnusable) as refusal, database.transaction() as connection:
        connection.execute("select of_another_version from claims")
    assert "do not drop the schema" in str(refusal.value) and "may be dropped" not in str(refusal.value)


@postgres.needed
def test_a_process_of_another_machine_is_known_by_its_lease_alone(tmp_path: Path) -> None:
    from etl_project.http_in.server_records import ServerRecords  # noqa: PLC0415

    database = ServerRecords(postgres.plain_url_of(tmp_path), tmp_path / "incoming")
    claims = Claims(database, lease_seconds=3600)
    upload = claim(claims, tmp_path)
    with database.transaction() as connection:
        connection.execute("update claims set owner = replace(owner, ?, 'another')", (processes.this_host()[0],))
    with pytest.raises(InProgress):
        claim(claims, tmp_path)
    assert claims.recover().claims == 0
    with database.transaction() as connection:
        connection.execute("update claims set lease_until = lease_until - 7200")
    assert claim(claims, tmp_path).temporary != upload.temporary
