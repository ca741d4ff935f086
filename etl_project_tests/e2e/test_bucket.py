"""A deployment whose raw files are in a bucket: the same commands, the same rows, and no key anywhere."""

from __future__ import annotations

import os
import signal
from datetime import date, timedelta
from pathlib import Path

import pytest

from etl_project.storage import ParquetStore
from etl_project_tests import s3
from etl_project_tests.deployments import Place, order_file

pytestmark = s3.needed

DAYS = [date(2025, 3, 3) + timedelta(n) for n in range(2)]


def prints(commits: dict[tuple[str, str | None], object]) -> dict[tuple[str, str | None], str]:
    return {key: commit.fingerprint for key, commit in commits.items()}  # type: ignore[attr-defined]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_everything_that_the_project_does_with_raw_files_works_in_a_bucket(tmp_path: Path) -> None:
    lake = {"ETL_LAKE": s3.url_of(tmp_path), "ETL_KEEP_VERSIONS": "1"}
    place, alone = Place(tmp_path / "data"), Place(tmp_path / "alone")
    for one, more in ((place, lake), (alone, {})):
        for day in DAYS:
            one.drop(f"{day}.csv", order_file(day))
        one.drained(**more)
    store = s3.lake_of(tmp_path)
    built = prints(store.last_commits())  # type: ignore[arg-type]
    assert built == prints(ParquetStore(alone.data / "lake").last_commits()) and len(built) >= len(DAYS), (
        "as in a folder"
    )  # type: ignore[arg-type]
    assert not (place.data / "lake").exists()
    assert place.drained(**lake).startswith("0 runs, 0 failed") and prints(store.last_commits()) == built  # type: ignore[arg-type]
    place.drop(f"{DAYS[0]}.csv", order_file(DAYS[0], price="9.75"))
    place.drained(**lake)
    changed = {key for key, value in prints(store.last_commits()).items() if built[key] != value}  # type: ignore[arg-type]
    assert {key for _, key in changed} == {DAYS[0].isoformat()} and ("raw_orders", DAYS[0].isoformat()) in changed
    commands = (
        *(("verify",), ("status",), ("doctor",)),
        *((command, "raw_orders", "--day", str(DAYS[0])) for command in ("history", "show", "diff")),
        ("prove", "daily_sales", "--day", str(DAYS[0])),
        ("rollback", "raw_orders", "--day", str(DAYS[0]), "--to", "1", "--reason", "a trial"),
        ("verify",),
    )
    for command in commands:
        done = place.etl(*command, **lake)
        assert done.returncode == (command[0] == "diff"), (command, done.stdout + done.stderr)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert os.environ[name] not in done.stdout + done.stderr
    assert prints(store.last_commits())["raw_orders", str(DAYS[0])] == built["raw_orders", str(DAYS[0])]  # type: ignore[arg-type]
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    holding = [path for path in place.data.rglob("*") if path.is_file()]
    assert holding and [path for path in holding if secret in path.read_bytes()] == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_files_that_come_into_a_bucket_are_built_archived_there_and_gone_from_where_they_came(tmp_path: Path) -> None:
    """Also those of days before the first one that was known: the days begin with the data."""
    objects, url = s3.objects_of(tmp_path), s3.url_of(tmp_path)
    bucket = {"ETL_INCOMING": f"{url}/incoming"}
    place, alone = Place(tmp_path / "data"), Place(tmp_path / "alone")
    for day in reversed(DAYS):
        alone.drop(f"{day}.csv", order_file(day))
        objects.put(f"incoming/orders/{day}.csv", order_file(day).encode(), None)
        said = place.drained(**bucket)
        assert "1 objects fetched" in said and "1 archived" in said
    alone.drained()
    assert place.tables() == alone.tables()
    again = order_file(DAYS[0], price="9.75")
    objects.put(f"incoming/orders/{DAYS[0]}.csv", again.encode(), None)
    assert place.etl("drain", ETL_FAULT="fetch.after_record=kill", **bucket).returncode == -signal.SIGKILL
    place.drop(f"{DAYS[0]}.csv", order_file(DAYS[0], price="8.75"))  # It is taken in before the object of its name.
    said = place.drained(**bucket)
    assert "same name, and is taken in first" in said and "1 objects fetched" in said
    alone.drop(f"{DAYS[0]}.csv", again)
    alone.drained()
    assert place.tables() == alone.tables()
    objects.put(f"incoming/orders/{DAYS[0]}.csv", b"nothing that fits\n", None)
    objects.put("incoming/order/one.csv", b"one", None)
    waits = place.etl("status", **bucket)
    assert "incoming/order: no source has this name; did you mean orders/?" in waits.stdout
    assert f"1 objects wait in the bucket: {DAYS[0]}.csv" in waits.stdout
    assert f"1 objects wait in the bucket: {DAYS[0]}.csv" in place.etl("plan", **bucket).stdout
    assert "1 files refused" in place.drained(expected_exit=1, **bucket)
    keys = [one.key for one in objects.below("")]
    assert sum(key.startswith("archive/orders/") for key in keys) == len(DAYS) + 1
    assert sum(key.startswith("quarantine/orders/") for key in keys) == 2
    assert [key for key in keys if key.startswith("incoming/orders/")] == []
    assert place.tables() == alone.tables()
    doctor = place.etl("doctor", **bucket)
    assert doctor.returncode == 0 and "is this deployment's" in doctor.stdout, doctor.stdout
    lost = place.etl("drain", **{**bucket, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    assert lost.returncode == 1 and "does not answer" in lost.stdout and "Traceback" not in lost.stderr
    other = Place(tmp_path / "other").etl("drain", **bucket)
    assert other.returncode == 1 and "its own prefix" in other.stdout


def test_a_bucket_that_does_not_answer_is_one_line_of_every_command_and_nothing_is_lost(tmp_path: Path) -> None:
    lake = {"ETL_LAKE": s3.url_of(tmp_path), "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "ETL_WAIT_SECONDS": "1"}
    place = Place(tmp_path / "data")
    place.drop(f"{DAYS[0]}.csv", order_file(DAYS[0]))
    for command in (("drain",), ("status",), ("doctor",)):
        done = place.etl(*command, **lake)
        assert done.returncode != 0, done.stdout
        assert "does not answer" in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert (place.incoming / f"{DAYS[0]}.csv").exists(), "nothing is lost"
