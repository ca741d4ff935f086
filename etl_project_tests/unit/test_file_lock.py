"""One process at a time: on a file, and with processes of an older version that lock the folder instead."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from etl_project import file_lock
from etl_project.failures import Busy

TAKEN = Busy("taken; retrying helps")


def test_a_second_one_is_told_so_until_the_first_lets_go(tmp_path: Path) -> None:
    lock = tmp_path / "made" / "lock"
    for _ in range(2):
        with file_lock.held(lock, TAKEN), pytest.raises(Busy, match="taken"), file_lock.held(lock, TAKEN):
            pytest.fail("two hold it")
    assert lock.is_file()


def test_who_locks_the_folder_as_an_older_version_does_keeps_it_out_and_is_kept_out(tmp_path: Path) -> None:
    older = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(older, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(Busy, match="taken"):
            file_lock.held(tmp_path / "lock", TAKEN, folder_too=tmp_path).__enter__()
        fcntl.flock(older, fcntl.LOCK_UN)
        with file_lock.held(tmp_path / "lock", TAKEN, folder_too=tmp_path), pytest.raises(BlockingIOError):
            fcntl.flock(older, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(older)


def test_where_folders_cannot_be_locked_as_on_nfs_the_file_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def as_on_nfs(descriptor: int, how: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    lock = tmp_path / "lock"
    with file_lock.held(lock, TAKEN, folder_too=tmp_path), pytest.raises(Busy, match="taken"):
        file_lock.held(lock, TAKEN, folder_too=tmp_path).__enter__()
