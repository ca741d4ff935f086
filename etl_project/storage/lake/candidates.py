"""Candidates in the lake: files that did not pass their checks, below a hidden folder or prefix of the lake's root.

Belongs here: keeping such a file instead of putting it in its partition's place, finding it, removing it. They lie in
`.candidates/<asset>/<partition>/rows.candidate`, like kept versions under no name that a reader of the lake meets, with
what the checks said beside them. The record in the file's footer says which commit it would have been.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from etl_project import atomic, faults
from etl_project.storage.contract import Candidate, Commit
from etl_project.storage.judging.commits import to_json
from etl_project.storage.lake import footer
from etl_project.storage.lake.names import encoded

FOLDER = ".candidates"
ROWS = "rows.candidate"
SAID = "said.json"


class FolderCandidates:
    """The candidates below one root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def keep(self, record: Commit, file: Path, reason: str) -> None:
        """Make the file the candidate of its partition, in one rename; what the checks said goes first."""
        target = self._root / folder_of(record.asset, record.partition) / ROWS
        atomic.make_folder(target.parent)
        with atomic.replacing(target.with_name(SAID), "parquet.candidate_said") as said:
            said.write_text(in_json(record, reason))
        atomic.sync_file(file)
        faults.reach("parquet.before_candidate")
        os.rename(file, target)
        atomic.sync_folder(target.parent)
        faults.reach("parquet.candidate_kept")

    def of(self, asset: str) -> list[Candidate]:
        """The candidates of an asset, by partition."""
        folder = self._root / FOLDER / encoded(asset)
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            files = [folder / name / ROWS for name in sorted(entry.name for entry in entries)]
            found = [(file, footer.intact_record(file)) for file in files]
            return [Candidate(record, _said(file, record)) for file, record in found if record is not None]
        return []

    def file(self, asset: str, key: str | None) -> Path | None:
        """The candidate of a partition; None where there is none."""
        file = self._root / folder_of(asset, key) / ROWS
        return file if file.is_file() else None

    def drop(self, asset: str, key: str | None, committed: Commit | None = None) -> None:
        """Remove the candidate of a partition, where there is one; but not one that came after this write."""
        folder = self._root / folder_of(asset, key)
        if folder.is_dir():
            if came_after(footer.intact_record(folder / ROWS), committed):
                return
            (folder / ROWS).unlink(missing_ok=True)
            shutil.rmtree(folder)
            atomic.sync_folder(folder.parent)


def folder_of(asset: str, key: str | None) -> str:
    """Where below the root the candidate of a partition lies."""
    return f"{FOLDER}/{encoded(asset)}/{'all' if key is None else f'={encoded(key)}'}"


def came_after(candidate: Commit | None, committed: Commit | None) -> bool:
    """Whether the candidate is of a later write than this one, and so nothing that it makes old.

    What changes nothing takes no number of its own: there the times tell at which both were judged.
    """
    if candidate is None or committed is None:
        return False
    return candidate.sequence > committed.sequence or candidate.committed_at > committed.committed_at


def in_json(record: Commit, reason: str) -> str:
    """What the checks said, and of which rows."""
    return json.dumps({"of": to_json(record), "reason": reason})


def reason_in(text: str, record: Commit) -> str:
    """What the checks said of these rows; nothing where it is about others, as a kill between the two leaves it."""
    try:
        found = json.loads(text)
        return str(found["reason"]) if found["of"] == to_json(record) else ""
    except (ValueError, KeyError, TypeError):
        return ""


def _said(file: Path, record: Commit) -> str:
    try:
        return reason_in(file.with_name(SAID).read_text(), record)
    except FileNotFoundError:
        return ""
