"""Scratch folders: beside the data, gone with their block, and swept after a kill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa

from etl_project.storage import ParquetStore
from etl_project.storage.contract import Request, Scope, Table
from etl_project.storage.scratch import FOLDER, scratch_folder

HOLD = """
import sys
from pathlib import Path
from etl_project.storage.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "spilled").write_text("rows")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_scratch_folder_is_gone_with_its_block(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as one, scratch_folder(tmp_path) as other:
        assert one != other and one.parent == other.parent == tmp_path / FOLDER
        (one / "spilled").write_text("rows")
    assert not (tmp_path / FOLDER).exists()


def test_what_a_killed_process_left_is_swept_by_the_next_and_what_a_living_one_uses_is_not(tmp_path: Path) -> None:
    holders = [
        subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=-1, stdout=-1, text=True) for _ in range(2)
    ]
    killed, living = holders
    try:
        left, used = (Path(holder.stdout.readline().strip()) for holder in holders)  # type: ignore[union-attr]
        killed.kill()
        killed.wait()
        assert (left / "spilled").exists()
        with scratch_folder(tmp_path) as folder:
            assert not left.exists() and (used / "spilled").exists() and folder.is_dir()
        living.communicate("")
        assert not (tmp_path / FOLDER).exists()
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def test_where_there_is_no_folder_the_systems_temporary_one_is_used(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "none") as folder:
        assert folder.is_dir() and tmp_path not in folder.parents
    assert not folder.exists() and list(tmp_path.iterdir()) == []


def test_a_lake_keeps_nothing_in_the_systems_temporary_folder(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path / "lake")
    for _ in range(2):
        store.replace(Table("orders", "orders"), Scope.whole(), pa.table({"n": [1]}), Request("a run"))
    assert store.arrow(store.read(Table("orders", "orders"), Scope.whole())).num_rows == 1
    assert [path.name for path in (tmp_path / "lake").iterdir()] == ["orders"]
