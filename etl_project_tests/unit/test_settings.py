"""Settings: everything under one folder, and a wrong value is one line that says what would do."""

from __future__ import annotations

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
        ("ETL_PREVIEW_ROWS", "-5"),
        ("ETL_PREVIEW_ROWS", "five"),
        ("ETL_PREVIEW_ROWS", "1000"),
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


@pytest.mark.parametrize(("value", "rows"), [("", 5), ("0", 0), ("100", 100)])
def test_how_many_rows_are_shown_can_be_said_and_switched_off(tmp_path: Path, value: str, rows: int) -> None:
    assert settings.load({"ETL_DATA_DIR": str(tmp_path), "ETL_PREVIEW_ROWS": value}).preview_rows == rows
