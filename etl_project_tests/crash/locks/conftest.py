"""A lock of the test's own, and processes that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from etl_project.exclusion.locks import TaskLock
from etl_project_tests.crash.locks.holders import Child


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sqlite_file.sqlite"


@pytest.fixture
def lock(path: Path) -> TaskLock:
    return TaskLock(path)


@pytest.fixture
def start() -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def begin(work: Callable[[Connection], None], **environ: str) -> Child:
        children.append(Child(work, **environ))
        return children[-1]

    yield begin
    for child in children:
        child.process.kill()
        child.process.join()
