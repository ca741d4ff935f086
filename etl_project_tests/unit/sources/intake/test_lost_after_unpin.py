"""A day that is asked for again is one whose files are gone only where they are."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from etl_project.sources.intake import archive, lost
from etl_project.storage import asked_again, input_hash
from etl_project_tests.projects import source_project

DAY = date(2025, 3, 1)
DEFS = {"name": "sales", "patterns": ["{date}.csv"], "columns": {"id": "id"}}
CONTRACT = "CREATE TABLE sales (batch_date DATE NOT NULL, id BIGINT);"


def test_an_unpinned_day_is_built_from_the_archive_and_one_with_lost_files_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with source_project(tmp_path, DEFS, CONTRACT, monkeypatch) as project:
        [spec] = project.deployment.project.sources
        versions = [archive.Accepted(f"{DAY}.csv", number, f"{number}" * 64, f"{number}") for number in (1, 2)]
        of_the_first = input_hash(
            [("sales_files", str(DAY), archive.fingerprint(archive.counting(versions[:1], spec)))]
        )
        assert lost.why(spec, versions, DAY, of_the_first) is None
        assert lost.why(spec, versions, DAY, asked_again(of_the_first)) is None
        assert lost.why(spec, versions, DAY, "unpinned") is None, "what an earlier version of this project wrote"
        assert "gone from the archive" in (lost.why(spec, versions, DAY, asked_again("of another file")) or "")
        assert "gone from the archive" in (lost.why(spec, versions, DAY, "of another file") or "")
