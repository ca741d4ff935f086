"""The warehouse that the settings name: what they say holds for each of the engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl_project import settings
from etl_project.definitions import default_resources

SAID = {
    **{"ETL_KEEP_VERSIONS": "30d", "ETL_WAIT_SECONDS": "7", "ETL_PREVIEW_ROWS": "3", "ETL_MEMORY_LIMIT_MB": "900"},
    "ETL_OPENLINEAGE_URL": "https://marquez.example.com",
}


@pytest.mark.parametrize("name", ["warehouse", "lake"])
@pytest.mark.parametrize(
    "engine",
    [
        {},
        {"ETL_WAREHOUSE": "postgresql://etl@db.example.com/warehouse"},
        {"ETL_WAREHOUSE": "ducklake:postgres:dbname=warehouse host=db.example.com", "ETL_WAREHOUSE_DATA": "/srv/lake"},
    ],
    ids=["file", "postgres", "ducklake"],
)
def test_every_setting_about_tables_reaches_whatever_holds_them(
    engine: dict[str, str], name: str, tmp_path: Path
) -> None:
    manager = default_resources(settings.load({"ETL_DATA_DIR": str(tmp_path), **SAID, **engine}))[name]
    assert (manager.keep_versions, manager.keep_versions_days, manager.record_inputs) == (1000, 30, True)
    assert (manager.wait_seconds, manager.preview_rows, manager.memory_limit_mb) == (7.0, 3, 900)
