"""Carried: raw rows of files that are what they were, taken from the day's last commit instead of being read again.

Belongs here: when these rows are exactly those that reading the files would give, and where they stand among the rows
of the others. Does not belong here: reading files (`reading`), writing rows (`storage`).

A day of very many files is built anew whenever one more of them comes. The rows of a file follow from its bytes, the
settings and the code alone. So the rows that are there are as good as read where their commit was made by this very
code, from an earlier state of this archive, and where rows and rejects are what their records say, to the last bit.
Whatever is otherwise in any of this, every file is read. Asked for the same inputs once more, every file is read too:
that is how rows that cannot be reproduced show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl_project.declare import lake, warehouse
from etl_project.settings import Settings
from etl_project.sources.asset_names import Names
from etl_project.sources.intake import archive
from etl_project.sources.intake.archive import Accepted
from etl_project.sources.names import shown
from etl_project.sources.reading import judge
from etl_project.sources.reading.rows import skipping
from etl_project.sources.spec import SourceSpec
from etl_project.storage import (
    Commit,
    ParquetStore,
    ReadRefused,
    Scope,
    Store,
    StoreBusy,
    StoreUnavailable,
    Table,
    TableStore,
    input_hash,
    is_comparable,
)

MANY_FILES = 500
"""Fewer files are read before anybody could have told that they need not be."""

_HELD_BYTES = 256 * 2**20
"""Rows that come to more are read again: they would have to be held while the files between them are read."""

_TRIED_STATES = 5
"""So many earlier states of the archive are hashed from either end: each takes as long as naming all files."""


@dataclass(frozen=True)
class Carried:
    """The rows of some of a day's files, in the order of the files; `ranks` says for each row of which file it is."""

    files: frozenset[Accepted]
    rows: pa.Table
    ranks: np.ndarray

    def among(self, accepted: Sequence[Accepted]) -> Iterator[Sequence[Accepted] | pa.Table]:
        """The day in the order of its files: rows where they are known, and the files that have to be read."""
        numbered = enumerate(accepted)
        for is_known, some in groupby(numbered, key=lambda one: one[1] in self.files):
            group = list(some)
            if not is_known:
                yield [file for _, file in group]
                continue
            start = int(np.searchsorted(self.ranks, group[0][0], side="left"))
            end = int(np.searchsorted(self.ranks, group[-1][0], side="right"))
            yield self.rows.slice(start, end - start)


def find(
    spec: SourceSpec, configured: Settings, day: date, archived: archive.Archived, code_version: str
) -> Carried | None:
    """What need not be read again of the day, whose archive is `archived`; None where everything has to be.

    Nothing is written, and nobody waits: a store that somebody else holds, that does not answer, or whose rows are
    damaged, is a reason to read. The caller must be the only one who writes the day's raw rows and rejects meanwhile.
    """
    if len(archived.accepted) < MANY_FILES or not _files_stand_alone(spec):
        return None
    try:
        return _found(spec, _Committed(spec, configured, day), archived, code_version)
    except (StoreBusy, StoreUnavailable, ReadRefused, duckdb.Error, pa.ArrowException):
        return None


def _files_stand_alone(spec: SourceSpec) -> bool:
    """Whether the rows of a file follow from its bytes alone, and their number is that of its records, but for rejects.

    Which of several encodings a file is in is noted beside it.
    """
    return len(spec.encodings) == 1 and not judge.needs_whole_files(spec) and not skipping.may_skip(spec)


@dataclass(frozen=True)
class _OneDay:
    """The day as the partitions that are asked for."""

    day: date
    partitioned: bool = True

    def scope(self, keys: Iterable[str | None]) -> Scope:
        return Scope.days(self.day, self.day)

    def holds(self, key: str | None) -> bool:
        return key == self.day.isoformat()

    def owns(self, key: str | None) -> bool:
        return True


class _Committed:
    """What is committed of the day: raw rows and rejects."""

    def __init__(self, spec: SourceSpec, configured: Settings, day: date) -> None:
        own = Names.of(spec.name)
        self.files_asset, self.day, self.key = own.files, day, day.isoformat()
        self._raw: tuple[ParquetStore, Table] = lake(configured), Table(own.raw, own.raw)
        self._rejects: tuple[TableStore, Table] = warehouse(configured, 0), Table(own.rejects, own.rejects)
        self._both: tuple[tuple[Store, Table], ...] = (self._raw, self._rejects)

    def records(self) -> tuple[Commit, Commit] | None:
        """The last commits of the two; None where one was never made."""
        found = [
            store.last_commits([table.asset], [self.key]).get((table.asset, self.key)) for store, table in self._both
        ]
        raw, rejects = found
        return None if raw is None or rejects is None else (raw, rejects)

    def are_what(self, records: tuple[Commit, Commit]) -> bool:
        """Whether what is there is, row by row, what these records say."""
        for (store, table), record in zip(self._both, records, strict=True):
            looked = store.examine(table, _OneDay(self.day))
            if looked.findings or looked.commits.get(self.key) != record:
                return False
        return True

    def rows(self, schema: pa.Schema) -> pa.Table | None:
        """The raw rows; None where they are of other types, or too many to be held."""
        store, table = self._raw
        held, size_bytes = [], 0
        with store.batches(store.read(table, Scope.days(self.day, self.day))) as batches:
            if not _same_types(batches.schema, schema):
                return None
            for batch in batches:
                held.append(batch)
                size_bytes += batch.get_total_buffer_size()
                if size_bytes > _HELD_BYTES:
                    return None
        return pa.Table.from_batches(held, batches.schema).select(schema.names).cast(schema)

    def files_with_rejects(self) -> set[str]:
        """The names, as they are shown, of files of which some records are no rows."""
        store, table = self._rejects
        found = store.arrow(store.read(table, Scope.days(self.day, self.day), ["source_file"]))
        return set(found["source_file"].unique().to_pylist())


def _found(spec: SourceSpec, committed: _Committed, archived: archive.Archived, code_version: str) -> Carried | None:
    records = committed.records()
    if records is None or not _may_be_gone_by(records, code_version):
        return None
    recorded = records[0].input_hash

    def hash_of(fingerprint: str) -> str:
        return input_hash([(committed.files_asset, committed.key, fingerprint)])

    if hash_of(archived.fingerprint) == recorded:
        return None
    rows = committed.rows(judge.rows_schema(spec))
    if rows is None:
        return None
    states = _earlier_states(spec, archived.versions, set(rows["source_file"].unique().to_pylist()))
    before = next((state for state in states if hash_of(archive.fingerprint(state)) == recorded), None)
    if before is None or not committed.are_what(records):
        return None
    return _of_the_same_files(rows, before, archived.accepted, committed.files_with_rejects())


def _may_be_gone_by(records: tuple[Commit, Commit], code_version: str) -> bool:
    """Whether both were built together, by this code, and are reproducible as far as anybody knows."""
    raw, rejects = records
    return raw.input_hash == rejects.input_hash and all(
        one.code_version == code_version and one.deviation is None and one.restored is None and is_comparable(one)
        for one in records
    )


def _earlier_states(
    spec: SourceSpec, versions: Sequence[Accepted], names: Collection[str]
) -> Iterator[tuple[Accepted, ...]]:
    """States that the archive was in, the likeliest first: nothing is removed from it, and sequences only grow.

    Every one of these `names` gave rows, so its first version was there; and often little has come since.
    """
    in_order = sorted(versions, key=lambda version: version.sequence)
    first: dict[str, int] = {}
    for count, version in enumerate(in_order, 1):
        first.setdefault(shown(version.name), count)
    least = max((first[name] for name in names if name in first), default=1)
    counts = [*range(least, least + _TRIED_STATES), *range(len(in_order) - 1, len(in_order) - 1 - _TRIED_STATES, -1)]
    for count in dict.fromkeys(count for count in counts if 0 < count < len(in_order)):
        yield archive.counting(in_order[:count], spec)


def _of_the_same_files(
    rows: pa.Table, before: Sequence[Accepted], accepted: Sequence[Accepted], with_rejects: Collection[str]
) -> Carried | None:
    """The rows of the files that are in both states, and of which every record is a row."""
    was = {version.name: version.sha256 for version in before}
    times = Counter(shown(name) for name in {*was, *(version.name for version in accepted)})
    ranks: list[int] = []
    names: list[str] = []
    for rank, version in enumerate(accepted):
        name = shown(version.name)
        if was.get(version.name) == version.sha256 and times[name] == 1 and name not in with_rejects:
            ranks.append(rank)
            names.append(name)
    found = pc.index_in(rows["source_file"], value_set=pa.array(names, pa.string())).combine_chunks()
    of_rows = np.array(ranks, np.int64)[found.drop_null().to_numpy()]
    if 2 * len(names) < len(accepted) or (of_rows[1:] < of_rows[:-1]).any():
        return None
    files = frozenset(accepted[rank] for rank in ranks)
    return Carried(files, rows.filter(pc.is_valid(found)), of_rows)


def _same_types(there: pa.Schema, wanted: pa.Schema) -> bool:
    """Whether the columns are the same; an instant is one in every zone that it is shown in."""
    return len(there) == len(wanted) and all(
        field.name in there.names and _is_as(there.field(field.name).type, field.type) for field in wanted
    )


def _is_as(there: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_timestamp(there) and pa.types.is_timestamp(wanted):
        return there.unit == wanted.unit and (there.tz is None) == (wanted.tz is None)
    return bool(there.equals(wanted))
