"""The id of a data folder: made once, on any disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from etl_project import file_lock
from etl_project.failures import Busy
from etl_project.sources.bucket import owner


def test_a_data_folder_keeps_its_id_and_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", none_here)
    made = owner._own_id(tmp_path)
    assert len(made) == 32 and owner._own_id(tmp_path) == made == owner._known_id(tmp_path)


def test_while_another_process_makes_the_id_it_is_said_and_nothing_is_made(tmp_path: Path) -> None:
    with file_lock.held(tmp_path / "deployment-id.lock", Busy()), pytest.raises(owner.IdBusy, match="retrying helps"):
        owner._own_id(tmp_path)
    assert owner._known_id(tmp_path) is None
