"""Two machines on one deployment: the tables in a DuckLake, locks and Dagster's history on a server.

A machine here is a pid namespace: no process of the one means anything to the other. They share a folder of files.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from psycopg.conninfo import conninfo_to_dict

from etl_project.storage.engines.ducklake.engine import DuckLakeStore
from etl_project_tests import postgres
from etl_project_tests.crash.locks.places import Database
from etl_project_tests.deployments import ROOT, Place, order_file

pytestmark = [postgres.needed, pytest.mark.long, pytest.mark.timeout(900)]
pytest.importorskip("dagster_postgres", reason="needs the extra `postgres`")

DAYS = [date(2025, 3, 3) + timedelta(n) for n in range(2)]
IN_A_CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
NOT_THE_FIRST = ("sh", "-c", '"$@"; exit $?', "sh")
"""The first process of a pid namespace cannot be killed from inside."""
ETL = (sys.executable, "-W", "ignore", "-c", "from etl_project.cli.entry import main; main()")


def example_of_the_docs() -> str:
    """The `dagster.yaml` that the documentation shows; nothing is told to anybody."""
    page = (ROOT / "docs" / "which-deployment.md").read_text()
    [_, after] = page.split("```yaml\nstorage:", 1)
    return "storage:" + after.split("```", 1)[0] + "\ntelemetry:\n  enabled: false\n"


def elsewhere(place: Place, settings: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    """A drain on the other machine, to its end."""
    done = subprocess.run(
        [*IN_A_CONTAINER, *NOT_THE_FIRST, *ETL, "drain"],
        env=place.environment(**settings, **more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stderr.startswith("unshare:"):
        pytest.skip(f"no pid namespaces here: {done.stderr.strip()}")
    return done


def migrate(place: Place, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What an administrator does after an upgrade of Dagster."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "dagster"), "instance", "migrate"],
        env=place.environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )


def unfinished(home: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], data: Path) -> list[str]:
    """The runs that Dagster has as going on."""
    for name, value in {**settings, "ETL_DATA_DIR": str(data)}.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return [run.run_id for run in instance.get_runs() if not run.is_finished]


def test_what_a_killed_machine_had_begun_is_finished_by_another_and_ends_as_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, files, there = tmp_path / "home", tmp_path / "files", Database.of(tmp_path)
    home.mkdir()
    (home / "dagster.yaml").write_text(example_of_the_docs())
    lake = postgres.url_of(tmp_path)
    settings = {
        "ETL_WAREHOUSE": lake,
        "ETL_WAREHOUSE_DATA": str(files),
        "ETL_LOCKS": there.url,
        "ETL_LOCKS_LEASE_SECONDS": "10",
        "DAGSTER_HOME": str(home),
        "DAGSTER_POSTGRES_URL": there.url,
        "ETL_WAIT_SECONDS": "120",
    }
    place, alone = Place(tmp_path / "data"), Place(tmp_path / "alone")
    for day in DAYS:
        for one in (place, alone):
            one.drop(f"{day}.csv", order_file(day))
    alone.drained()
    killed = elsewhere(place, settings, ETL_FAULT="ducklake.before_commit:2=kill")
    assert killed.returncode == 128 + signal.SIGKILL, killed.stdout + killed.stderr
    assert there.rows("SELECT run_id FROM task_lock_holder"), "what it held is held until its lease has run out"
    assert len(unfinished(home, monkeypatch, settings, place.data)) == 1
    place.drained(**settings)
    place.drained(**settings)  # Its lease has run out by now, so that its run is known to be dead.
    assert unfinished(home, monkeypatch, settings, place.data) == []
    again = elsewhere(place, settings)
    assert again.returncode == 0 and "0 runs, 0 failed" in again.stdout, again.stdout + again.stderr
    built = {key: commit.fingerprint for key, commit in DuckLakeStore(lake, files).last_commits().items()}
    assert built == {key: print_ for key, (_, print_, _) in alone.last_commits().items()}, "as on one machine"
    said = [place.etl(*command, **settings) for command in (("verify",), ("status",), ("doctor",))]
    said.append(place.etl("maintain", "--history", "90d", "--dry-run", **settings))
    assert [done.returncode for done in said] == [0] * 4, [done.stdout + done.stderr for done in said]
    migrated = migrate(place, settings)
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr
    said.append(migrated)
    assert not (place.data / "state.sqlite").exists() and not (place.data / "dagster" / "storage").exists()
    password = str(conninfo_to_dict(postgres.SERVER)["password"])
    assert not any(password in done.stdout + done.stderr for done in (*said, killed, again))
    kept = [path for path in (*place.data.rglob("*"), *files.rglob("*")) if path.is_file()]
    assert kept and [path for path in kept if password.encode() in path.read_bytes()] == []


def test_a_history_that_cannot_be_reached_is_said_in_words_without_the_password(tmp_path: Path) -> None:
    home, url = tmp_path / "home", postgres.plain_url_of(tmp_path, password="sec-ret-9")
    home.mkdir()
    (home / "dagster.yaml").write_text(example_of_the_docs())
    place = Place(tmp_path / "data")
    port = str(conninfo_to_dict(url)["port"])
    wrong = {
        url: "does not help. Correct the address",
        url.replace(f":{port}/", ":1/"): "retrying helps once the server answers",
        "": "dagster.yaml takes DAGSTER_POSTGRES_URL from the environment, where it is not set",
    }
    for address, words in wrong.items():
        told = {"DAGSTER_POSTGRES_URL": address} if address else {}
        done = place.etl("status", DAGSTER_HOME=str(home), **told)
        [line] = [line for line in done.stderr.splitlines() if line.startswith("etl: ")]
        assert done.returncode != 0 and words in line, done.stderr
        assert "sec-ret-9" not in done.stdout + done.stderr and "Traceback" not in done.stderr
