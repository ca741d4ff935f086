"""Which folder the history is opened by."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl_project.instance import home


@pytest.mark.parametrize("named", ["/nowhere/etl", "data/here"], ids=["missing", "relative"])
def test_a_dagster_home_that_is_no_folder_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    (tmp_path / "data" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DAGSTER_HOME", named)
    with (
        pytest.raises(home.HomeMissing, match=f"DAGSTER_HOME is '{named}', which is no folder's whole path"),
        home.opened(),
    ):
        pass
