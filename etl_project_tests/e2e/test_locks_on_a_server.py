"""A deployment whose task locks are on a PostgreSQL server: the same commands, the same rows, no password anywhere."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from etl_project_tests import postgres
from etl_project_tests.crash.locks.places import Database
from etl_project_tests.deployments import Place, order_file

pytestmark = postgres.needed

DAY = date(2025, 3, 3)
MINE = [("raw_orders", DAY.isoformat())]
OTHER_MACHINE = "UPDATE task_lock_holder SET host = 'another boot', machine = 'other.example.com'"
RUN_OUT = "UPDATE task_lock_holder SET expires_at = clock_timestamp() - interval '1 second'"


def test_a_drain_waits_for_another_machine_and_takes_over_from_one_that_is_gone(tmp_path: Path) -> None:
    there = Database.of(tmp_path / "locks")
    password = str(conninfo_to_dict(postgres.SERVER)["password"])
    locked = {"ETL_LOCKS": there.url, "ETL_WAIT_SECONDS": "0"}
    place = Place(tmp_path / "data")
    place.drop(f"{DAY}.csv", order_file(DAY))
    lease = there.locks().take("theirs", MINE, 0)
    there.change(OTHER_MACHINE)
    said = [place.etl("drain", **locked)]
    assert said[0].returncode == 1
    assert "held by run theirs (process" in said[0].stdout and "on other.example.com" in said[0].stdout
    assert (place.incoming / f"{DAY}.csv").exists()
    there.change(RUN_OUT)
    said.append(place.etl("drain", **locked))
    assert said[1].returncode == 0, said[1].stdout + said[1].stderr
    assert not place.data.joinpath("state.sqlite").exists()
    assert there.rows() == there.rows("SELECT * FROM task_lock_holder") == [], "nothing stays behind"
    before = place.last_commits()
    assert before and place.drained(**locked).startswith("0 runs, 0 failed") and place.last_commits() == before
    said += [place.etl(*command, **locked) for command in (("doctor",), ("verify",), ("status",))]
    assert [done.returncode for done in said[2:]] == [0, 0, 0], [done.stdout + done.stderr for done in said[2:]]
    assert "task locks: 0 partitions held by 0 runs" in said[2].stdout and "dbname=etl_test_" in said[2].stdout
    assert not any(password in done.stdout + done.stderr for done in said)
    assert [p for p in place.data.rglob("*") if p.is_file() and password.encode() in p.read_bytes()] == []
    lease.release()


def test_a_wrong_password_of_the_locks_is_one_line_of_every_command_and_changes_nothing(tmp_path: Path) -> None:
    wrong = postgres.plain_url_of(tmp_path / "locks", password="sec-ret-9")
    locked = {"ETL_LOCKS": wrong, "ETL_WAIT_SECONDS": "0"}
    place = Place(tmp_path / "data")
    place.drop(f"{DAY}.csv", order_file(DAY))
    for command in (("drain",), ("doctor",)):
        done = place.etl(*command, **locked)
        assert done.returncode != 0, done.stdout
        [line] = [line for line in (done.stdout + done.stderr).splitlines() if "authentication failed" in line]
        assert "ETL_LOCKS" in line and "retrying does not help" in line
        assert "sec-ret-9" not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert [p for p in place.data.rglob("*") if p.is_file() and b"sec-ret-9" in p.read_bytes()] == []
    assert (place.incoming / f"{DAY}.csv").exists(), "nothing is lost"
