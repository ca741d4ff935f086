"""Explain: what the rows of a day were made of, down to the lines of files.

Belongs here: following rows of one partition upstream, asset by asset, through the columns that stay what they are.
Does not belong here: which columns those are (`plain_columns`), and printing (`cli.explain`).

Where an asset is SQL, its input rows are those that agree with the rows in question in every plain column: all that
they were made of, seldom more. Where it is not, or its query cannot be followed, they are all rows of the input days,
and that is said. Rows are copied into a database of its own that can reach nothing; nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, get_type_hints

import dagster as dg
import duckdb

from etl_project.failures import Permanent
from etl_project.proofs.plain_columns import plain_columns
from etl_project.proofs.prove.subject import declared_in, reads_of
from etl_project.proofs.verify.targets import Stored
from etl_project.proofs.versions import partition_of
from etl_project.storage import (
    UNKNOWN,
    Commit,
    MadeAs,
    NotFollowed,
    Slice,
    Sql,
    in_memory,
    input_hash,
    quote,
    scannable,
)

_FILE, _LINE = "source_file", "source_line"


class BadCondition(Permanent):
    """The condition cannot be asked of these rows. Nothing was changed; retrying does not help."""


class NeverCommitted(Permanent):
    """The day has no commit, so nothing to explain. Retrying does not help."""


class Lines(NamedTuple):
    """Lines of a file of a day, ascending, as ranges of first and last."""

    partition: str
    file: str
    lines: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Origin:
    """Rows of one asset: `rows` of the `of_rows` in these partitions, with the commits that made them.

    `by` are the columns of this asset that narrowed them, none where all of the partitions count; `why_all` says why.
    `files` are the lines that the rows stand in, where they know them. `inputs` are what they were made of; of the
    partitions of `inputs_changed` they are others now than the commits had read, and shown as they are now. Of earlier
    partitions of the asset itself (`own`) no inputs are given: they would lead back to its first one.
    """

    asset: str
    partitions: tuple[str | None, ...]
    rows: int
    of_rows: int
    commits: Mapping[str | None, Commit]
    by: tuple[str, ...] = ()
    why_all: str | None = None
    files: tuple[Lines, ...] = ()
    inputs_changed: tuple[str | None, ...] = ()
    inputs: tuple[Origin, ...] = field(default=())
    own: bool = False


def explain(
    definitions: dg.Definitions, targets: Iterable[Stored], target: Stored, day: str | None, where: str | None
) -> Origin:
    """What the rows of the partition that meet the condition were made of; all of its rows without one.

    Raises NoSuchPartition, NeverCommitted, BadCondition (retrying does not help), StoreBusy (it does).
    """
    key = partition_of(target, day)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="etl-explain-")))
        connection = stack.enter_context(in_memory(folder))
        search = _Search(definitions, {one.asset: one for one in targets}, connection)
        if not target.store.last_commits([target.asset], [key]):
            raise NeverCommitted(f"{target.asset} was never committed for {key or 'all of it'}: nothing to explain.")
        rows = search.stage(target, [key])
        connection.execute("SET enable_external_access = false")
        search.keep_only(rows, where)
        return search.origin(target, (key,), rows, total=search.counted[rows])


class _Search:
    """One walk upstream. Each set of rows is a table of the connection."""

    def __init__(
        self, definitions: dg.Definitions, targets: Mapping[str, Stored], connection: duckdb.DuckDBPyConnection
    ) -> None:
        self.declared, self.targets, self.connection = declared_in(definitions), targets, connection
        self.counted: dict[str, int] = {}
        self._numbers = count()

    def stage(self, target: Stored, keys: Sequence[str | None]) -> str:
        """All rows of these partitions, as a table."""
        name = f"etl_rows_{next(self._numbers)}"
        rows = target.store.read(target.table, target.scope([] if keys == [None] else keys))
        with target.store.batches(rows) as stream, scannable(self.connection, stream, stage=True) as payload:
            self.connection.execute(f"CREATE TABLE {name} AS SELECT * FROM {quote(payload.name)}")
        self.counted[name] = self._count(name)
        return name

    def keep_only(self, rows: str, where: str | None) -> None:
        """Leave the rows that meet the condition. Raises BadCondition."""
        if where is None:
            return
        query = f"SELECT * FROM {rows} WHERE (\n{where}\n)"
        try:
            if len(duckdb.extract_statements(query)) != 1:
                raise BadCondition(f"--where {where!r} is no condition: it has more than one statement.")
            self.connection.execute(f"CREATE OR REPLACE TABLE {rows} AS {query}")
        except duckdb.Error as error:
            raise BadCondition(f"--where {where!r} cannot be asked: {str(error).splitlines()[0]}") from None

    def origin(
        self,
        target: Stored,
        keys: tuple[str | None, ...],
        rows: str,
        *,
        total: int,
        by: Sequence[str] = (),
        why_all: str | None = None,
        own: bool = False,
    ) -> Origin:
        """The rows of the table, which are of this asset, and what they were made of."""
        commits = {key: commit for (_, key), commit in target.store.last_commits([target.asset], keys).items()}
        return Origin(
            target.asset,
            keys,
            self._count(rows),
            total,
            commits,
            tuple(by),
            why_all,
            tuple(self._lines(rows)),
            tuple(key for key, commit in commits.items() if self._reads_others(target, commit)),
            () if own else tuple(self._inputs(target, keys, rows)),
            own,
        )

    def _reads_others(self, target: Stored, commit: Commit) -> bool:
        """Whether the inputs of a commit are others by now; of inputs without records of their own nobody knows."""
        owner = self.declared[dg.AssetKey.from_user_string(target.asset)]
        specs = [owner.specs_by_key[dg.AssetKey.from_user_string(target.asset)]]
        reads = reads_of(specs, self.declared, commit.partition)
        if commit.input_hash == UNKNOWN or not reads or not reads.keys() <= self.targets.keys():
            return False
        read = [
            (asset, key, there.fingerprint)
            for asset, keys in reads.items()
            for (_, key), there in self.targets[asset].store.last_commits([asset], keys).items()
        ]
        return commit.input_hash != input_hash(read)

    def _inputs(self, target: Stored, keys: Sequence[str | None], rows: str) -> Iterator[Origin]:
        owner = self.declared[dg.AssetKey.from_user_string(target.asset)]
        spec = owner.specs_by_key[dg.AssetKey.from_user_string(target.asset)]
        reads: dict[str, set[str | None]] = {}
        for key in keys:
            for asset, mapped in reads_of([spec], self.declared, key).items():
                reads.setdefault(asset, set()).update(mapped)
        upstream = {asset: self.targets[asset] for asset in reads if asset in self.targets}
        staged: dict[str, tuple[list[str | None], str]] = {}
        for asset, one in upstream.items():
            known = [key for _, key in one.store.last_commits([asset], reads[asset])]
            if known:
                committed = sorted(known, key=str)
                staged[asset] = committed, self.stage(one, committed)
        followed, why = self._followed(owner, spec, {asset: table for asset, (_, table) in staged.items()})
        for asset, (there, table) in staged.items():
            own = upstream[asset].table.partition_columns
            readings = [self._comparable(rows, table, plain, own) for plain in followed.get(asset, ())]
            by = list(dict.fromkeys(here for pairs in readings for _, here in pairs)) if all(readings) else []
            if by:
                self.connection.execute(f"CREATE OR REPLACE TABLE {table} AS {rows_behind(rows, table, readings)}")
            yield self.origin(
                upstream[asset],
                tuple(there),
                table,
                total=self.counted[table],
                by=by,
                why_all=None if by else why or "none of its columns is passed through as it is",
                own=asset == target.asset,
            )

    def _followed(
        self, owner: dg.AssetsDefinition, spec: dg.AssetSpec, staged: Mapping[str, str]
    ) -> tuple[Mapping[str, Sequence[Mapping[str, str]]], str | None]:
        """By upstream asset the plain columns, for each time that it is read; or why there are none."""
        try:
            query, assets = query_of(owner, spec)
            inputs = {name: list(self._columns(staged[asset])) for name, asset in assets.items() if asset in staged}
            plain = plain_columns(query, inputs)
        except NotFollowed as error:
            return {}, str(error)
        followed: dict[str, list[Mapping[str, str]]] = {}
        for name, asset in assets.items():
            followed.setdefault(asset, []).extend(plain.get(name.lower(), ()))
        return followed, None

    def _comparable(
        self, rows: str, table: str, plain: Mapping[str, str], partition_columns: Iterable[str]
    ) -> list[tuple[str, str]]:
        """The pairs of columns, here and upstream, that can be compared: of one type, and no partition column, which
        the asset may have given another meaning."""
        out, here = self._columns(rows), self._columns(table)
        own = {name.lower() for name in partition_columns}
        return [(a, b) for a, b in plain.items() if b not in own and a in out and b in here and out[a] == here[b]]

    def _columns(self, table: str) -> dict[str, str]:
        described = self.connection.execute(f"DESCRIBE {table}").fetchall()
        return {str(name).lower(): str(kind) for name, kind, *_ in described}

    def _lines(self, rows: str) -> Iterator[Lines]:
        columns = self._columns(rows)
        if not {_FILE, _LINE, "batch_date"} <= columns.keys():
            return
        island = f"{_LINE} - dense_rank() OVER (PARTITION BY batch_date, {_FILE} ORDER BY {_LINE}) AS island"
        ranges = (
            f"SELECT batch_date::VARCHAR, {_FILE}, min({_LINE}), max({_LINE}) "
            f"FROM (SELECT DISTINCT batch_date, {_FILE}, {_LINE}, {island} FROM {rows}) "
            f"GROUP BY batch_date, {_FILE}, island ORDER BY ALL"
        )
        by_file: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for day, file, first, last in self.connection.execute(ranges).fetchall():
            by_file.setdefault((day, file), []).append((first, last))
        for (day, file), lines in by_file.items():
            yield Lines(day, file, tuple(lines))

    def _count(self, table: str) -> int:
        [[found]] = self.connection.execute(f"SELECT count(*) FROM {table}").fetchall()
        return int(found)


def rows_behind(rows: str, table: str, readings: Iterable[Iterable[tuple[str, str]]]) -> str:
    """The query for the rows of the table that agree with some of these rows in all pairs of one of its readings.

    A pair is a column of the rows and one of the table. Each reading is looked up by itself: with an OR between them
    DuckDB would compare every row with every other one.
    """

    def agree(pairs: Iterable[tuple[str, str]]) -> str:
        return " AND ".join(f"i.{quote(here)} IS NOT DISTINCT FROM r.{quote(out)}" for out, here in pairs)

    found = " OR ".join(f"EXISTS (SELECT 1 FROM {rows} r WHERE {agree(pairs)})" for pairs in readings)
    return f"SELECT * FROM {table} i WHERE {found}"


def query_of(owner: dg.AssetsDefinition, spec: dg.AssetSpec) -> tuple[str, dict[str, str]]:
    """The query that an asset is, and the asset behind each table that it reads.

    A source says it in its metadata. A function of nothing but slices is asked: it only puts the query together, and
    gets slices of nothing. Raises NotFollowed for every other asset.
    """
    assets = {name: key.to_user_string() for name, key in owner.keys_by_input_name.items()}
    declared = spec.metadata.get("query")
    if isinstance(declared, dg.MarkdownMetadataValue) and "raw_rows" in assets:
        return (declared.md_str or "").removeprefix("```sql\n").removesuffix("\n```"), {"raw_rows": assets["raw_rows"]}
    body: Any = getattr(owner.node_def, "compute_fn", None) if isinstance(owner.node_def, dg.OpDefinition) else None
    function = getattr(body, "decorated_fn", None)
    hints = _hints(function) if function is not None else {}
    returns = hints.pop("return", None)
    if function is None or returns is not Sql:
        raise NotFollowed("it is not written as SQL, so its rows cannot be followed")
    if not hints or set(hints.values()) != {Slice}:
        raise NotFollowed("its query depends on the run")
    nothing = {name: _nothing(name) for name in hints}
    try:
        made = function(**nothing)
    except Exception as error:  # It is anybody's code, and wants more of a slice than its name.
        raise NotFollowed(f"its query cannot be had without a run ({type(error).__name__})") from error
    behind = {id(each): name for name, each in nothing.items()}
    if any(each.made_as is not None and id(each) not in behind for each in made.inputs.values()):
        raise NotFollowed("it changes the SQL of its inputs")
    read = {name: assets[behind[id(each)]] for name, each in made.inputs.items() if id(each) in behind}
    return made.query, read


def _nothing(name: str) -> Slice:
    sql = f"SELECT NULL AS {quote(name)}"
    return Slice(sql, made_as=MadeAs(name, (name,), sql))


def _hints(function: Any) -> dict[str, Any]:
    """The types of a function's arguments and of what it returns. Raises NotFollowed where they cannot be known."""
    try:
        return get_type_hints(function)
    except NameError as error:
        raise NotFollowed(f"its annotations cannot be read ({error})") from None
