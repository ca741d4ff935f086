"""Former: what a write makes of the records that a partition's file carries.

Belongs here: questions to records alone, also which file of an asset is the newest where times of files do not tell.
What is judged by them is `judging`'s, when they are asked is `write`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from etl_project.storage.contract import Commit, Scope, Table, WriteRefused
from etl_project.storage.judging import judgement
from etl_project.storage.judging.messages import refused
from etl_project.storage.lake import footer

_LONGEST_WRITE_SECONDS = 3600.0
"""A file that is so much younger than its record was not put there by the write that made it."""


def is_restored(record: Commit | None, modified: float) -> bool:
    """Whether a file, modified then (seconds since 1970), was put there by a copy: such times say nothing."""
    return record is not None and modified - record.committed_at.timestamp() > _LONGEST_WRITE_SECONDS


def last_committed(files: Iterable[Path]) -> Path | None:
    """The file whose record is the newest one; damaged ones have none."""
    records = ((footer.intact_record(file), file) for file in files)
    found = [(record.committed_at, file) for record, file in records if record is not None]
    return max(found)[1] if found else None


def refuse_another(table: Table, scope: Scope, shown: str, previous: Commit | None) -> None:
    """Refuse to replace what another asset has committed: where upper and lower case make no difference to files."""
    if previous is not None and previous.asset not in (table.asset, table.renamed_from):
        problem = f"{shown} holds rows that the asset {previous.asset!r} has committed"
        raise WriteRefused(refused(table, scope, [problem], "Give the two assets names that differ by more than case."))


def last_alike(earlier: Sequence[Commit], records: Mapping[int, Commit]) -> dict[int, Commit]:
    """The last build of each partition from the same inputs and code, among those that its file remembers."""
    return {
        n: former
        for n, record in records.items()
        for former in [next((one for one in reversed(earlier) if judgement.made_alike(one, record)), None)]
        if former is not None
    }


def says_the_same(record: Commit, previous: Commit) -> bool:
    """Whether writing the file again would say nothing new."""
    return previous.deviation is None and (record.input_hash, record.code_version, record.fingerprint) == (
        previous.input_hash,
        previous.code_version,
        previous.fingerprint,
    )
