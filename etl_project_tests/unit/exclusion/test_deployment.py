"""The id of a data folder, made once, on any disk; and the one of all machines that have the same locks."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from etl_project import file_lock
from etl_project.exclusion import deployment, locks_at
from etl_project.failures import Busy
from etl_project_tests import postgres


def test_a_data_folder_keeps_its_id_and_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none_here)
    made = deployment.own_id(tmp_path)
    assert len(made) == 32 and deployment.own_id(tmp_path) == made == deployment.known_id(tmp_path)


def test_an_id_that_was_emptied_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / deployment.FILE).write_text("\n", encoding="utf-8")
    assert len(deployment.own_id(tmp_path)) == 32


def test_while_another_process_makes_the_id_it_is_said_and_nothing_is_made(tmp_path: Path) -> None:
    with (
        file_lock.held(tmp_path / "deployment-id.lock", Busy()),
        pytest.raises(deployment.IdBusy, match="retrying helps"),
    ):
        deployment.own_id(tmp_path)
    assert deployment.known_id(tmp_path) is None


def test_who_comes_while_another_process_makes_the_id_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause is where the other one gets done: nothing here depends on how long either takes."""
    with ExitStack() as other:
        other.enter_context(file_lock.held(tmp_path / "deployment-id.lock", Busy()))
        monkeypatch.setattr(time, "sleep", lambda _: other.close())
        made = deployment.own_id(tmp_path)
    assert made == deployment.known_id(tmp_path)


def test_on_one_machine_a_deployment_is_its_data_folder(tmp_path: Path) -> None:
    one, two = (deployment.this_one(folder, locks_at(None, folder / "s")) for folder in folders(tmp_path))
    assert one.ids == (deployment.known_id(tmp_path / "one"),) and two.ids != one.ids
    assert one.folder == str(tmp_path / "one")


@pytest.mark.servers
@postgres.needed
def test_machines_with_the_same_locks_are_the_deployment_of_the_folder_that_came_first(tmp_path: Path) -> None:
    url = postgres.plain_url_of(tmp_path)
    one, two = (deployment.this_one(folder, locks_at(url, folder / "s")) for folder in folders(tmp_path))
    first, second = (deployment.known_id(tmp_path / name) for name in ("one", "two"))
    assert one.ids == (first,) and two.ids == (first, second)
    assert deployment.this_one(tmp_path / "one", locks_at(url, tmp_path / "s")) == one


def folders(home: Path) -> Iterator[Path]:
    for name in ("one", "two"):
        (home / name).mkdir()
        yield home / name
