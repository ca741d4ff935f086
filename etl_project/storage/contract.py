"""The storage contract: what every backend promises, in types.

Belongs here: the words shared by all backends (partition, scope, table, commit record, lazy SQL) and the `Store`
protocol. Does not belong here: anything that touches a file, a database or Dagster.

The contract, kept by every backend and proven by one suite (`etl_project_tests/contracts`):

1. Atomic.   After a kill at any instruction a partition holds all old rows or all new rows.
2. Exact.    Every incoming row lies inside the scope, else nothing changes. A NULL partition value is outside.
3. Empty is data. No rows means the partitions become empty; the first empty write creates the table.
4. By name.  Columns land where their names say, never by position.
5. The table is the user's. Constraints, indexes, comments, grants and views survive. Nothing is dropped.
6. Drift     follows the policy of the table; lossy or ambiguous change is always refused, all differences at once.
7. Recorded. One commit record per (asset, partition), inside the same atomic step.
8. Unchanged is cheap. The same content as what is there: nothing is rewritten.
9. Isolated. A reader sees the old or the new partition; two writers of one partition never both win.
10. Ranges.  Many partitions are one transaction; when some partition's data is at fault, the good ones still commit.
11. Safe names. Identifiers are quoted, values are bound.

Longer than other modules: whoever writes a backend reads all of it, in one place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from etl_project.failures import Busy, Permanent, Transient
from etl_project.utc import UTC

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from etl_project.storage.judging.findings import Finding, Looked

UNKNOWN = "unknown"
"""The input hash of a write one of whose inputs has no fingerprint: never equal to anything, shown as not checked."""

Drift = Literal["evolve", "freeze"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, order=True)
class Partition:
    """One partition: its Dagster key and the half-open interval [lower, upper) of partition values it owns.

    A day of a DATE column has dates as bounds, an instant column aware datetimes (UTC). A static key owns exactly
    the value `lower` (upper is None). The whole of an unpartitioned table has key None and no bounds.
    """

    key: str | None
    lower: date | datetime | str | None = None
    upper: date | datetime | None = None


@dataclass(frozen=True)
class Scope:
    """The partitions that one write replaces, ascending."""

    partitions: tuple[Partition, ...]

    @classmethod
    def days(cls, first: date, last: date) -> Scope:
        """The UTC days from `first` to `last`, both included."""
        count = (last - first).days + 1
        one = timedelta(days=1)
        days = (first + one * n for n in range(count))
        return cls(tuple(Partition(day.isoformat(), day, day + one) for day in days))

    @classmethod
    def keys(cls, keys: Iterable[str]) -> Scope:
        """Static partitions: each key is the value in the partition column."""
        return cls(tuple(Partition(key, key) for key in keys))

    @classmethod
    def whole(cls) -> Scope:
        """An unpartitioned table, all of it."""
        return cls((Partition(None),))


@dataclass(frozen=True)
class Dimension:
    """One dimension of a partition, and the column that holds its part of the key: a UTC day, or a static value."""

    column: str
    is_day: bool


@dataclass(frozen=True)
class Table:
    """Where an asset's rows live and what its contract says. Names are data here: backends quote them.

    `schema_from_prefix`: nobody named the schema, it is the key's prefix. `renamed_from`: the asset that this one was
    called before; its table goes over to this one. `dimensions`, in the order of the parts of a key, take the place of
    the partition column where partitions have several. `keep_versions`: how many replaced versions of a partition stay;
    `keep_versions_days`: and only what was replaced within so many days.
    `columns_of_data`: of files, what comes in says which columns they have, and with which types, whatever the files
    of other partitions have. `publish_after_checks`: new rows reach no reader before `Request.audit` has let them pass.
    """

    asset: str
    name: str
    schema: str | None = None
    partition_column: str | None = "batch_date"
    contract_sql: str | None = None
    drift: Drift = "evolve"
    partition_expression: str | None = None
    max_removed_ratio: float | None = None
    schema_from_prefix: bool = False
    renamed_from: str | None = None
    dimensions: tuple[Dimension, ...] = ()
    keep_versions: int = 0
    keep_versions_days: int | None = None
    columns_of_data: bool = False
    max_changed_ratio: float | None = None
    max_sum_change: tuple[tuple[str, float], ...] = ()
    publish_after_checks: bool = False

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """The columns that say which partition a row belongs to."""
        if self.dimensions:
            return tuple(dimension.column for dimension in self.dimensions)
        return () if self.partition_column is None else (self.partition_column,)


@dataclass(frozen=True)
class Receipt:
    """What was read: one partition of one asset, with the fingerprint it had then (None: it has no record).

    `store` is the store that can say what is there now; None where nobody can.
    """

    asset: str
    partition: str | None
    fingerprint: str | None
    store: Store | None = field(default=None, compare=False, repr=False)


def _nobody_asks() -> None:
    """The writer holds no lock that it could have lost."""


@dataclass(frozen=True)
class Request:
    """What the writer knows when it asks for a commit; `input_hashes` is per partition key.

    `reads` are inputs that must still have their fingerprints when the write commits, else it is refused as
    retryable. `frame` is what `recorded` has to say about the types of a frame, to be kept with the rows.
    `restores`: what each partition's rows bring back; `unpins` lets go of what was brought back before.
    `audit` looks at what is about to be committed, before it is, in a store that shows it: it raises `ChecksFailed` for
    rows that must not reach readers, and they are kept as a candidate. Rows that change nothing are not looked at.
    `still_owner` is called right before each commit and raises when the writer has lost its lock.
    """

    run_id: str
    code_version: str | None = None
    input_hashes: Mapping[str | None, str] = field(default_factory=dict)
    allow_shrink: bool = False
    allow_change: bool = False
    reads: Sequence[Receipt] = ()
    still_owner: Callable[[], None] = _nobody_asks
    frame: bytes | None = None
    restores: Mapping[str | None, Restored] = field(default_factory=dict)
    unpins: bool = False
    audit: Callable[[Scope, Store], None] | None = None


@dataclass(frozen=True)
class Example:
    """A row that two builds disagree on, as text by column; None on the side that has no such row."""

    old: Mapping[str, str | None] | None
    new: Mapping[str, str | None] | None


@dataclass(frozen=True)
class Deviation:
    """What a build gave that differs from the build before it, although inputs, config and code were the same.

    `fingerprint` is the one of the build before. `note` says what could not be told. `repeats`: how many builds in a
    row have given the same rows since.
    """

    fingerprint: str
    columns: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    note: str | None = None
    repeats: int = 0


@dataclass(frozen=True)
class Restored:
    """That a commit brought rows back which an earlier one had left, and why: its partition is pinned.

    `fingerprint` is that of the rows, None where no record says it. `code_version` is the one that the asset had then:
    while its code and its inputs stay the same, other rows are refused.
    """

    sequence: int
    fingerprint: str | None
    code_version: str | None
    reason: str = ""


@dataclass(frozen=True)
class Commit:
    """The record of one committed partition: it travels inside the commit, never beside it. Times are UTC.

    `changed`: the rows that are there are others than before, be it than those of the record before or than those that
    somebody had edited by hand since.

    `restored`: its rows were not built but brought back. The input hash is then that of the commit whose place they
    took, and there is no code version.

    With a `deviation` the partition is not reproducible. Commits from the same inputs and code keep it until the same
    rows came often enough in a row (`verdict.STEADY`); one from other inputs or code has none.
    """

    asset: str
    partition: str | None
    sequence: int
    run_id: str
    code_version: str | None
    input_hash: str
    fingerprint: str
    rows_before: int
    rows: int
    rows_added: int | None
    rows_removed: int | None
    rows_kept: int | None
    changed: bool
    committed_at: datetime
    schema_changes: tuple[str, ...] = ()
    deviation: Deviation | None = None
    restored: Restored | None = None


@dataclass(frozen=True)
class Version:
    """Rows of a partition that another commit has replaced, and that are kept.

    `sequence` is that of the last commit that they were there under, 0 for rows from before the first one; `commit` is
    its record, where there is one.
    """

    sequence: int
    rows: int
    commit: Commit | None


@dataclass(frozen=True)
class Candidate:
    """Rows that were to replace a partition and did not pass their checks: kept beside it, for no reader.

    `record` is what the commit would have said; `reason` what the checks said.
    """

    record: Commit
    reason: str


class Head(NamedTuple):
    """What the newest commit of a partition says. `committed_us`: microseconds since 1970 (UTC)."""

    input_hash: str
    fingerprint: str
    rows: int
    committed_us: int

    @property
    def committed_at(self) -> datetime:
        """When it was committed (UTC)."""
        return EPOCH + timedelta(microseconds=self.committed_us)


class MadeAs(NamedTuple):
    """Whose rows a slice gives, with which columns, and by which SQL: who changes a slice's SQL puts it around this."""

    asset: str
    columns: tuple[str, ...]
    sql: str
    files: tuple[Path, ...] = ()
    schema: pa.Schema | None = None
    """`files` hold all of it, in columns of this schema, where Arrow alone reads them as DuckDB does."""


@dataclass(frozen=True)
class Slice:
    """A lazy read: the rows of some partitions of one table, as SQL over named parameters.

    It runs in the store it comes from; one without `database` (files) runs in any DuckDB connection. `reads` says
    which partitions it stands for and which fingerprints they had when it was made, `frame` with which types the rows
    were written, where somebody said so (`recorded`), `made_as` what it was before anybody changed it, for who follows
    columns.
    """

    sql: str
    params: Mapping[str, Any] = field(default_factory=dict)
    database: str | None = None
    reads: tuple[Receipt, ...] = ()
    frame: bytes | None = None
    made_as: MadeAs | None = None


class Sql:
    """A query over slices, run inside the writing transaction: no row passes through Python.

    Each keyword names a slice; the query reads it as a table of that name:
    `Sql("select batch_date, sum(units) as units from orders group by all", orders=orders)`.
    """

    def __init__(self, query: str, **inputs: Slice) -> None:
        self.query = query
        self.inputs = inputs


class Partial:
    """Data for only some of the partitions of a run; the others are missing, each for the reason given.

    They keep what they have, and the step fails naming them; the ones with data are committed.
    """

    def __init__(self, data: Any, missing: Mapping[str | None, str]) -> None:
        self.data = data
        self.missing = dict(missing)


class WriteRefused(Permanent):
    """The data breaks the contract. Nothing was changed; the old rows are intact. Retrying does not help."""


class ReadRefused(Permanent):
    """There is nothing to read there, or not in that form. Retrying does not help."""


class InputMissing(Permanent):
    """An input was never committed: missing is not empty. Nothing was changed; build the input first."""


class PartlyCommitted(Permanent):
    """Some partitions of a range are at fault: the others are committed, these keep their old rows."""

    def __init__(self, message: str, commits: Sequence[Commit], failures: Mapping[str | None, str]) -> None:
        super().__init__(message)
        self.commits = tuple(commits)
        self.failures = dict(failures)


class StoreBusy(Busy):
    """Somebody else holds the store or the partition. Nothing was changed; retrying helps."""


class StoreUnavailable(Transient):
    """The store could not do its work (disk full, I/O error). Nothing was changed; retrying helps once it can."""


class InputChanged(Transient):
    """An input was rewritten between being read and the commit. Nothing was changed; retrying helps."""


class Partitions(Protocol):
    """Which partitions an asset has, and which of them are asked for."""

    @property
    def partitioned(self) -> bool:
        """Whether the asset has partitions at all."""
        ...

    def scope(self, keys: Iterable[str | None]) -> Scope:
        """The partitions with these keys."""
        ...

    def holds(self, key: str | None) -> bool:
        """Whether the partition is asked for. None also stands for rows that no partition can have."""
        ...

    def owns(self, key: str | None) -> bool:
        """Whether the asset, as it is defined now, has partitions of this kind: it may once have had others."""
        ...


class Store(Protocol):
    """A backend. `replace` and `read` are the whole of it for an asset; the rest looks, and serves proofs."""

    def replace(self, table: Table, scope: Scope, data: Any, request: Request) -> list[Commit]:
        """Make the scope hold exactly `data`, or change nothing.

        `data`: anything that speaks Arrow (`__arrow_c_stream__`), streams included, or `Sql`.
        Raises WriteRefused or PartlyCommitted (retrying does not help) and StoreBusy (it does).
        """
        ...

    def read(self, table: Table, scope: Scope, columns: Sequence[str] | None = None) -> Slice:
        """A lazy slice of exactly these partitions and columns."""
        ...

    def arrow(self, piece: Slice) -> pa.Table:
        """The rows of a slice, in memory."""
        ...

    def batches(self, piece: Slice) -> AbstractContextManager[pa.RecordBatchReader]:
        """The rows of a slice as a stream, for as long as the block lasts."""
        ...

    def last_commits(
        self, assets: Iterable[str] | None = None, partitions: Collection[str | None] | None = None
    ) -> dict[tuple[str, str | None], Commit]:
        """The newest commit record of every (asset, partition), or of the given ones.

        Raises StoreBusy at once when the store cannot be looked into right now.
        """
        ...

    def history(self, asset: str, partition: str | None) -> list[Commit]:
        """All commit records of one partition, oldest first."""
        ...

    def versions(self, table: Table, key: str | None) -> list[Version]:
        """The replaced versions of a partition that are kept, oldest first. Raises StoreBusy as `last_commits` does."""
        ...

    def read_version(self, table: Table, key: str | None, sequence: int) -> Slice:
        """A lazy slice of a kept version, with the columns that it had. One that goes before it is read is an error.

        Raises ReadRefused when it is not kept (retrying does not help).
        """
        ...

    def candidates(self, assets: Iterable[str]) -> list[Candidate]:
        """The rows of these assets that did not pass their checks, by asset and partition.

        The next commit of a partition takes its candidate away. Raises StoreBusy as `heads` does.
        """
        ...

    def read_candidate(self, table: Table, key: str | None) -> Slice:
        """A lazy slice of a candidate. Raises ReadRefused where there is none (retrying does not help)."""
        ...

    def drop_left_candidates(self, assets: Mapping[str, bool], *, dry_run: bool = False) -> list[Commit]:
        """Afterwards these assets have no candidate that waits for nothing; gives the records of those that went.

        That is one whose partition has been committed since, or of an asset that is published as it comes (`False`).
        Raises StoreBusy (retrying helps). A kill leaves some of them.
        """
        ...

    def damaged(self, table: Table, keys: Collection[str | None] | None = None) -> dict[str | None, str]:
        """The partitions, of these or of all, that are there and cannot be read, each with the place where it lies.

        Only where partitions are there one by one; a table has none.
        """
        ...

    def filled(self, table: Table) -> list[str]:
        """The columns that fill themselves when data does not bring them: no content of rows that were written so."""
        ...

    def pinned(self, assets: Iterable[str]) -> list[Commit]:
        """The newest commits that brought rows back: their partitions are pinned. Raises StoreBusy as `heads` does."""
        ...

    def heads(self, assets: Iterable[str]) -> Iterator[tuple[str, str | None, Head]]:
        """Asset, partition and head of every committed partition: cheap enough for every tick.

        Raises StoreBusy as `last_commits` does.
        """
        ...

    def examine(self, table: Table, partitions: Partitions) -> Looked:
        """Rows against commit records: every partition that is edited, missing or corrupt, and rows without a record.

        Reads everything that is asked for, writes nothing. Raises StoreBusy (retrying helps).
        """
        ...

    def unrecorded(self, table: Table, key: str | None) -> Finding:
        """What is to be said of a partition that somebody knows to have been made, and that has no commit record."""
        ...

    def key(self, table: Table) -> list[str]:
        """The columns by which a row of the table is known; none where rows have no key."""
        ...

    def adopt(self, other: Store, table: Table, scope: Scope | None, *, records: bool = True) -> None:
        """Take partitions of another store of this kind over, with their commit records or without.

        For a store on the side that is thrown away: `scope` None takes the table's columns and no row.
        """
        ...

    def shuffle(self, turn: int) -> None:
        """Bring all rows into another order: reversed in turn 1, shuffled in later ones; for a store on the side."""
        ...


_AGAIN = "again:"


def asked_again(recorded: str) -> str:
    """The input hash of a record that asks for its partition to be built again: no inputs ever have it.

    It keeps what the rows were built from.
    """
    return recorded if is_asked_again(recorded) else _AGAIN + recorded


def is_asked_again(recorded: str) -> bool:
    """Whether a record with this input hash asks for its partition to be built again."""
    return recorded.startswith(_AGAIN)


def built_from(recorded: str) -> str:
    """The input hash that the rows were built from, whether or not their record asks for them again."""
    return recorded.removeprefix(_AGAIN)


CARRIED = "+contract"


def carried_over(version: str | None) -> str | None:
    """The code version of a record whose rows were carried over to other columns: none that builds.

    What was built before it reads differently since, and says nothing about whether later builds are reproducible.
    """
    return None if version is None else f"{version.removesuffix(CARRIED)}{CARRIED}"


# Tens of thousands of hashes are made in every tick of the sensor: json.dumps would take longer than all the rest.
_json = json.encoder.encode_basestring_ascii


def input_hash(receipts: Iterable[tuple[str, str | None, str | None]]) -> str:
    """The hash of what was read: (asset, partition, fingerprint) of each input, in any order.

    UNKNOWN as soon as one fingerprint is None: such a hash must never look like a checked one.
    """
    seen = {(asset, partition or "", fingerprint) for asset, partition, fingerprint in receipts}
    entries = []
    for asset, partition, fingerprint in sorted(seen, key=repr) if len(seen) > 1 else seen:
        if fingerprint is None:
            return UNKNOWN
        entries.append(f"[{_json(asset)},{_json(partition)},{_json(fingerprint)}]")
    return hashlib.sha256(f"[{','.join(entries)}]".encode()).hexdigest()
