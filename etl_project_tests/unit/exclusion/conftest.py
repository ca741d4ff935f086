"""A lock of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl_project.exclusion.locks import TaskLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sqlite_file.sqlite"


@pytest.fixture
def lock(path: Path) -> TaskLock:
    return TaskLock(path)
