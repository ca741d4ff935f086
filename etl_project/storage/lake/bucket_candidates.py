"""Candidates in a bucket: files that did not pass their checks, under a hidden prefix.

Belongs here: keeping, finding and removing them; names and words are those of `candidates`.
"""

from __future__ import annotations

from pathlib import Path

from etl_project import faults
from etl_project.storage.contract import Candidate, Commit
from etl_project.storage.lake import footer
from etl_project.storage.lake.candidates import FOLDER, ROWS, SAID, came_after, folder_of, in_json, reason_in
from etl_project.storage.lake.copies import Copies, tail_of
from etl_project.storage.lake.names import encoded
from etl_project.storage.lake.objects import Objects


class BucketCandidates:
    """The candidates below one prefix."""

    def __init__(self, objects: Objects, copies: Copies) -> None:
        self._objects = objects
        self._copies = copies

    def keep(self, record: Commit, file: Path, reason: str) -> None:
        """Make the file the candidate of its partition, in one PUT; what the checks said goes first."""
        folder = folder_of(record.asset, record.partition)
        said = file.with_name(f"{file.name}.json")
        said.write_text(in_json(record, reason))
        self._objects.overwrite(f"{folder}/{SAID}", said)
        faults.reach("bucket.before_candidate")
        self._objects.overwrite(f"{folder}/{ROWS}", file)
        faults.reach("bucket.candidate_kept")

    def of(self, asset: str) -> list[Candidate]:
        """The candidates of an asset, by partition."""
        keys = [one.key for one in self._objects.below(f"{FOLDER}/{encoded(asset)}")]
        found = []
        for key in keys:
            tail = tail_of(self._objects, key) if key.endswith(f"/{ROWS}") else None
            record = None if tail is None else footer.intact_record(footer.of_tail(tail[0]))
            if record is not None:
                said = self._copies.of(f"{key.rpartition('/')[0]}/{SAID}")
                found.append(Candidate(record, "" if said is None else reason_in(said.path.read_text(), record)))
        return found

    def file(self, asset: str, key: str | None) -> Path | None:
        """A copy of the candidate of a partition; None where there is none."""
        found = self._copies.of(f"{folder_of(asset, key)}/{ROWS}")
        return None if found is None else found.path

    def drop(self, asset: str, key: str | None, committed: Commit | None = None) -> None:
        """Remove the candidate of a partition, where there is one; but not one that came after this write.

        The rows go first. Writers of a bucket do not wait for each other: between the look and the removal, which no
        server makes one step, a later candidate may still come, and goes with it; its day is then asked for again.
        """
        found = [one.key for one in self._objects.below(folder_of(asset, key))]
        rows = next((one for one in found if one.endswith(f"/{ROWS}")), None) if committed is not None else None
        tail = None if rows is None else tail_of(self._objects, rows)
        if tail is not None and came_after(footer.intact_record(footer.of_tail(tail[0])), committed):
            return
        self._objects.remove(sorted(found, key=lambda one: not one.endswith(ROWS)))
