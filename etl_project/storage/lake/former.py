"""Former: what a write makes of the records that a partition's file carries.

Belongs here: questions to records alone. What is judged by them is `judging`'s, when they are asked is `write`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etl_project.storage.contract import Commit, Scope, Table, WriteRefused
from etl_project.storage.judging import judgement
from etl_project.storage.judging.messages import refused


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
