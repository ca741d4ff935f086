"""As of: a store as it was, read through the versions that it keeps.

Belongs here: the rows of partitions as they were at a moment, or after a commit, as one slice, from any store. Does not
belong here: which of the kept rows those are (`judging.versions`), and how they are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, NamedTuple

import pyarrow as pa

from etl_project.storage.contract import Commit, Partition, ReadRefused, Scope, Slice, Store, Table
from etl_project.storage.judging.versions import NotYetThere, at_commit, at_moment
from etl_project.storage.sql import quote
from etl_project.utc import UTC

AS_OF = "as_of"
"""Input metadata: read the partitions as they were, by the number of a commit or at a moment."""

Moment = int | datetime
"""The number of a commit, or an instant."""


def moment_of(given: Any) -> Moment:
    """What the metadata says: a number, or a time with its offset. Raises ReadRefused (retrying does not help)."""
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    moment = given
    if isinstance(given, str):
        try:
            moment = datetime.fromisoformat(given)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ReadRefused(
            f"The metadata {AS_OF!r} of an input is {given!r}, neither the number of a commit, like 3, nor a time with "
            "its offset, like '2025-03-20T06:00:00+00:00'. Retrying does not help."
        )
    return moment.astimezone(UTC)


class AsOf(NamedTuple):
    """Reads a store as it was. `may_be_absent`: partitions that were not there yet have no rows, and are no error."""

    store: Store
    moment: Moment
    may_be_absent: bool = False

    def read(self, table: Table, scope: Scope, columns: Sequence[str] | None = None) -> Slice:
        """A slice of the partitions as they were, with the columns that they had.

        Raises ReadRefused when a partition was not there, or its rows are not kept (retrying does not help).
        """
        pieces = []
        for partition in scope.partitions:
            try:
                pieces.append(self._one(table, partition))
            except NotYetThere:
                if not self.may_be_absent:
                    raise
        if not pieces:
            return self.store.read(table, Scope(()), columns)
        return _together(pieces, columns)

    def _one(self, table: Table, partition: Partition) -> Slice:
        history = self.store.history(table.asset, partition.key)
        kept = self.store.versions(table, partition.key)
        if isinstance(self.moment, int):
            there = at_commit(table, partition.key, self.moment, history, kept)
        else:
            there = at_moment(table, partition.key, self.moment, history, kept)
        if there.version is None:
            return self.store.read(table, Scope((partition,)))
        return self.store.read_version(table, partition.key, there.version.sequence)

    def arrow(self, piece: Slice) -> pa.Table:
        """The rows of a slice, in memory."""
        return self.store.arrow(piece)

    def batches(self, piece: Slice) -> AbstractContextManager[pa.RecordBatchReader]:
        """The rows of a slice as a stream, for as long as the block lasts."""
        return self.store.batches(piece)

    def last_commits(
        self, assets: Iterable[str] | None = None, partitions: Collection[str | None] | None = None
    ) -> dict[tuple[str, str | None], Commit]:
        """The newest records, as the store has them now."""
        return self.store.last_commits(assets, partitions)


def _together(pieces: Sequence[Slice], columns: Sequence[str] | None) -> Slice:
    """Several slices of one store as one; a column that a version did not have yet is NULL."""
    chosen = "*" if columns is None else ", ".join(map(quote, columns))
    rows = " UNION ALL BY NAME ".join(f"({piece.sql})" for piece in pieces)
    params = {name: value for piece in pieces for name, value in piece.params.items()}
    reads = tuple(read for piece in pieces for read in piece.reads)
    return Slice(f"SELECT {chosen} FROM ({rows})", params, pieces[0].database, reads, pieces[-1].frame)
