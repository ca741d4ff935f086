"""A lock of the test's own, and processes that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from etl_project.exclusion.jobs import Locks
from etl_project.exclusion.locks import TaskLock
from etl_project_tests.crash.locks.holders import Child
from etl_project_tests.crash.locks.places import KINDS, Database, File, Place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sqlite_file.sqlite"


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, path: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return File(path) if request.param == "sqlite" else Database.of(tmp_path_factory.getbasetemp() / "locks")


@pytest.fixture
def lock(place: Place) -> Locks:
    return place.locks()


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


@pytest.fixture
def file_lock(path: Path) -> TaskLock:
    return TaskLock(path)
