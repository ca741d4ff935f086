"""A lock of the test's own, as the tests with real processes have it, in a folder that is not there yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl_project_tests.crash.locks.conftest import file_lock, lock, place

__all__ = ["file_lock", "lock", "path", "place"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sqlite_file.sqlite"
