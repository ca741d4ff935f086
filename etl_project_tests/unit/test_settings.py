"""Settings: everything under one folder, and a wrong value is one line that says what would do."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import date
from pathlib import Path

import pytest

from etl_project import settings


def test_all_state_is_under_the_data_folder(tmp_path: Path) -> None:
    loaded = settings.load({"ETL_DATA_DIR": str(tmp_path / "data")})
    places = ("incoming", "archive", "quarantine", "lake", "warehouse", "state", "dagster_home")
    assert all(getattr(loaded, place).is_relative_to(tmp_path / "data") for place in places)
    assert loaded.start_date == date(2010, 12, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ETL_START_DATE", "01.12.2010"),
        ("ETL_SETTLE_SECONDS", "-1"),
        ("ETL_SETTLE_SECONDS", "nan"),
        ("ETL_WAIT_SECONDS", "inf"),
        ("ETL_OPEN_DAY_INTERVAL_SECONDS", "five minutes"),
        ("ETL_MEMORY_LIMIT_MB", "64"),
        ("ETL_MEMORY_LIMIT_MB", "2GB"),
        ("ETL_CONFIRM_DAYS", "-1"),
        ("ETL_CONFIRM_DAYS", "a month"),
        ("ETL_PREVIEW_ROWS", "-5"),
        ("ETL_PREVIEW_ROWS", "five"),
        ("ETL_PREVIEW_ROWS", "1000"),
        ("ETL_DAYS_PER_RUN", "0"),
        ("ETL_DAYS_PER_RUN", "a week"),
        ("ETL_LOCKS_LEASE_SECONDS", "0.5"),
        ("ETL_LOCKS_LEASE_SECONDS", "long"),
        ("ETL_WATCH_SECONDS", "31"),
        ("ETL_WATCH_SECONDS", "nan"),
        ("ETL_SENSOR_INTERVAL_SECONDS", ""),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(tmp_path: Path, name: str, value: str) -> None:
    environment = {"ETL_DATA_DIR": str(tmp_path), name: value}
    if value == "":
        assert settings.load(environment).sensor_interval_seconds == 2, "an empty variable is one that is not set"
        return
    with pytest.raises(settings.SettingsError) as refusal:
        settings.load(environment)
    assert name in str(refusal.value) and value in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(settings.SettingsError, match="name another folder"):
        settings.load({"ETL_DATA_DIR": str(tmp_path / "data")})


LAKE = "ducklake:postgres:dbname=w host=h user=u password=hunter22"


def test_the_warehouse_is_the_file_in_the_data_folder_unless_it_is_said_to_be_elsewhere(tmp_path: Path) -> None:
    def loaded(**more: str) -> settings.Settings:
        return settings.load({"ETL_DATA_DIR": str(tmp_path), **more})

    assert loaded().warehouse == tmp_path / "warehouse.duckdb" == loaded(ETL_WAREHOUSE="").warehouse
    assert loaded(ETL_WAREHOUSE=f"duckdb:///{tmp_path}/w.duckdb").warehouse == tmp_path / "w.duckdb"
    lake = loaded(ETL_WAREHOUSE=LAKE, ETL_WAREHOUSE_DATA="s3://bucket/w")
    assert (lake.warehouse_url, lake.warehouse_data) == (LAKE, "s3://bucket/w")
    server = loaded(ETL_WAREHOUSE="postgresql://u:hunter22@h/w")
    assert server.is_postgres and not lake.is_postgres and "hunter22" not in repr(server)
    assert "hunter22" not in repr(lake) and settings.is_secret("ETL_WAREHOUSE")
    with pytest.raises(settings.SettingsError, match="no DuckDB file"):
        _ = lake.warehouse


@pytest.mark.parametrize(
    ("url", "data", "said"),
    [
        (LAKE, "", "ETL_WAREHOUSE_DATA is not set"),
        ("postgresql://u:hunter22@h/w", "/mnt/w", "ETL_WAREHOUSE_DATA='/mnt/w' is for a DuckLake"),
        ("mysql://u:hunter22@h/w", "", "ETL_WAREHOUSE names no warehouse"),
        ("ducklake:sqlite:hunter22", "", "ETL_WAREHOUSE names no warehouse"),
        ("duckdb:///", "", "ETL_WAREHOUSE names no warehouse"),
        ("duckdb:///:memory:", "", "ETL_WAREHOUSE names no warehouse"),
        ("data/w.duckdb", "", "ETL_WAREHOUSE names no warehouse"),
        ("", "/mnt/warehouse", "ETL_WAREHOUSE_DATA='/mnt/warehouse' is for a DuckLake"),
    ],
)
def test_a_wrong_warehouse_is_one_line_that_does_not_show_it(tmp_path: Path, url: str, data: str, said: str) -> None:
    with pytest.raises(settings.SettingsError, match=said) as refusal:
        settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_WAREHOUSE": url, "ETL_WAREHOUSE_DATA": data})
    assert "hunter22" not in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("url", ["dbname=l password=hunter22", "mysql://u:hunter22@h/l", "locks.sqlite"])
def test_a_wrong_place_of_the_locks_is_one_line_that_does_not_show_it(tmp_path: Path, url: str) -> None:
    right = settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_LOCKS": "postgresql://u:hunter22@h/l"})
    assert "hunter22" not in repr(right) and settings.is_secret("ETL_LOCKS")
    with pytest.raises(settings.SettingsError, match="ETL_LOCKS names no PostgreSQL database; write postg") as refusal:
        settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_LOCKS": url})
    assert "hunter22" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_only_one_place_knows_which_engine_the_warehouse_is() -> None:
    """Whoever took the file's path for the warehouse would make one that nobody looks at where it is a lake."""
    package = Path(settings.__file__).parent
    named = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if any(word in path.read_text() for word in ("settings.warehouse", "configured.warehouse"))
    }
    # A proof works on the side, always on a file; the first day looks whether the file has changed.
    assert named == {"declare/warehouse.py", "proofs/prove/rebuild.py", "due/first_day.py"}


def test_the_lake_is_a_folder_or_a_bucket(tmp_path: Path) -> None:
    def loaded(lake: str) -> settings.Settings:
        return settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_LAKE": lake})

    assert loaded("").lake == tmp_path / "lake"
    assert loaded(f"{tmp_path}/elsewhere").lake == loaded(f"file://{tmp_path}/elsewhere").lake == tmp_path / "elsewhere"
    assert loaded("s3://bucket/a/b/").lake == "s3://bucket/a/b" == loaded("s3://bucket/a/b").lake_url
    assert loaded("s3://bucket").lake == "s3://bucket"


@pytest.mark.parametrize(
    ("lake", "said"),
    [
        ("s3://key:hunter22@bucket/p", "more than a bucket and a prefix"),
        ("s3://bucket/p?secret=hunter22", "more than a bucket and a prefix"),
        ("s3://", "names no bucket"),
        ("s3:///hunter22", "names no bucket"),
        ("s3:bucket/hunter22", "address of a 's3' service"),
        ("s3://bucket/a//hunter22", "an empty part"),
        ("s3://bucket/../hunter22", "an empty part"),
        ("https://host/hunter22", "address of a 'https' service"),
        ("gs://bucket/hunter22", "address of a 'gs' service"),
        ("md:hunter22", "address of a 'md' service"),
    ],
)
def test_a_wrong_lake_is_one_line_that_does_not_show_it(tmp_path: Path, lake: str, said: str) -> None:
    with pytest.raises(settings.SettingsError, match=f"ETL_LAKE .*{said}.*s3://bucket/prefix") as refusal:
        settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_LAKE": lake})
    assert "hunter22" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_objects_come_in_by_a_prefix_and_go_to_others_beside_it(tmp_path: Path) -> None:
    def loaded(url: str) -> settings.Settings:
        return settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_INCOMING": url})

    assert loaded("").incoming_url is None and loaded("").incoming == tmp_path / "incoming"
    found = loaded("s3://bucket/shop/incoming/")
    assert found.incoming_url == "s3://bucket/shop/incoming" and found.incoming == tmp_path / "incoming"
    assert found.beside_incoming("archive") == "s3://bucket/shop/archive"
    assert loaded("s3://bucket/in").beside_incoming("quarantine") == "s3://bucket/quarantine"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket", "has no prefix"),
        ("s3://bucket/", "has no prefix"),
        ("s3://bucket/shop/archive", "ends in 'archive'"),
        ("s3://key:hunter22@bucket/p", "more than a bucket and a prefix"),
        ("s3://bucket/a//hunter22", "an empty part"),
        ("gs://bucket/hunter22", "address of a 'gs' service"),
        ("/mnt/hunter22", "names no bucket"),
    ],
)
def test_a_wrong_address_of_objects_is_one_line_that_does_not_show_it(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(settings.SettingsError, match=f"ETL_INCOMING .*{said}.*s3://bucket/incoming") as refusal:
        settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_INCOMING": url})
    assert "hunter22" not in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("lake", "is_refused"),
    [
        ("s3://bucket", True),
        ("s3://bucket/shop", True),
        ("s3a://bucket/shop/archive/lake", True),
        ("s3://bucket/shop/incoming", True),
        ("s3://bucket/shop/lake", False),
        ("s3://bucket/sho", False),
        ("s3://other", False),
        ("/mnt/lake", False),
    ],
)
def test_what_comes_into_a_bucket_does_not_lie_among_tables(tmp_path: Path, lake: str, is_refused: bool) -> None:
    env = {"ETL_DATA_DIR": str(tmp_path), "ETL_INCOMING": "s3://bucket/shop/incoming"}
    ducklake = {**env, "ETL_WAREHOUSE": "ducklake:postgres:dbname=x", "ETL_WAREHOUSE_DATA": lake}
    for variables, name in (({**env, "ETL_LAKE": lake}, "ETL_LAKE"), (ducklake, "ETL_WAREHOUSE_DATA")):
        with pytest.raises(settings.SettingsError, match=name) if is_refused else nullcontext():
            settings.load(variables)


@pytest.mark.parametrize(("value", "rows"), [("", 5), ("0", 0), ("100", 100)])
def test_how_many_rows_are_shown_can_be_said_and_switched_off(tmp_path: Path, value: str, rows: int) -> None:
    assert settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_PREVIEW_ROWS": value}).preview_rows == rows
