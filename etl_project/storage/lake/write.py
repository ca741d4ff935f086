"""One write to a lake of Parquet files: partition by partition, each changed in one step.

Belongs here: the order of the steps of a write. Everything is found out about all rows first; then each partition is
looked at, judged, written and put in its place, alone there or judged again where somebody else was faster. A long
stream for one partition is counted while it is written to a draft, in one pass; the draft is judged by the same rules,
and put in its place or thrown away.

One class, and so a long module: each step needs what those before it have found out about the columns and the rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import accumulate, count
from pathlib import Path
from time import monotonic, sleep
from typing import NoReturn

import duckdb
import pyarrow as pa

from etl_project import faults
from etl_project.storage import meanings
from etl_project.storage.contract import (
    Commit,
    PartlyCommitted,
    Request,
    Scope,
    Store,
    StoreBusy,
    StoreUnavailable,
    Table,
    WriteRefused,
)
from etl_project.storage.fetch import arrow_reader
from etl_project.storage.judging import deviation, drift, fingerprint, judgement, row_tally
from etl_project.storage.judging.drift import Column, Pair
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.judging.judgement import Sides
from etl_project.storage.judging.messages import ChecksFailed, DataFault, partly, refused, what
from etl_project.storage.judging.payload import Payload
from etl_project.storage.judging.placement import column_type_of
from etl_project.storage.judging.publishing import not_even_kept
from etl_project.storage.judging.receipts import refuse_changed
from etl_project.storage.judging.row_tally import EMPTY, Rows, Tally
from etl_project.storage.lake import draft, footer
from etl_project.storage.lake.draft import Fill
from etl_project.storage.lake.files import Files, Overtaken, Seat
from etl_project.storage.lake.former import last_alike, refuse_another, says_the_same
from etl_project.storage.lake.parquet import as_stored, escaped, file_columns, in_memory
from etl_project.storage.sql import Binds, quote, text
from etl_project.storage.tables.table import SqlTable
from etl_project.utc import now

_CUT_ROWS = 500_000
_CUT_BYTES = 256 * 1024**2
"""Up to so much is held in memory at once; more rows, or wider ones, are asked for partition by partition."""

_PAUSE_SECONDS = 0.02
"""Between two looks at a partition that others write as well; a little longer after each."""

_BATCH_ROWS = 12_288
"""Rows that DuckDB hands out at a time: a tenth of a row group, so that wide rows can be cut before they are many."""


class ParquetWrite:
    """One write: everything is found out about all rows first, then the partitions are replaced one by one."""

    def __init__(  # noqa: PLR0913, PLR0917  # What one write is made of.
        self,
        files: Files,
        wait_seconds: float,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        scope: Scope,
        request: Request,
        rows: Payload,
        showing: Callable[[Table, str | None, Path], Store],
    ) -> None:
        """`showing`: the lake as it would be with this file in the place of a partition's."""
        self._lake = files
        self._showing = showing
        self._wait_seconds = wait_seconds
        self._connection = connection
        self._table = table
        self._scope = scope
        self._request = request
        self._payload = rows
        self._partition_columns = () if scope.partitions[0].key is None else table.partition_columns
        self._schema_changes: tuple[str, ...] = ()
        self._deviating = 0
        self._meanings = meanings.of(request.frame)

    def run(self) -> list[Commit]:
        """Replace every partition whose data is sound; PartlyCommitted names the others."""
        self._refuse_other_meaning()
        targets, pairs = self._matched()
        limited = self._table.max_changed_ratio is not None or bool(self._table.max_sum_change)
        if self._payload.stream is not None and not limited and not any(pair.checked for pair in pairs):
            return [self._streamed(self._payload.stream, targets, pairs)]
        self._payload.stage(self._connection)  # Values that may not fit have to be looked at before they are written.
        refuse_changed(self._request.reads)
        pairs, found = self._fitted(pairs)
        incoming = self._incoming(pairs)
        if None in found:
            self._refuse_outside(incoming)
        cut = self._cut(found, targets, pairs, incoming)
        done: list[Commit] = []
        failures: dict[str | None, str] = {}
        for n, partition in enumerate(self._scope.partitions):
            try:
                self._refuse_lost(n, found, pairs, incoming)
                select = partial(self._select, targets, pairs, incoming._replace(only=(n,)))
                rows = select if cut is None else cut.get(n, cut[None]).to_reader
                done.append(self._replace_one(n, found.get(n, EMPTY), incoming, rows))
            except DataFault as fault:
                if len(self._scope.partitions) == 1:
                    raise
                failures[partition.key] = str(fault)
        if failures:
            raise PartlyCommitted(partly(self._table, self._scope, len(done), failures), done, failures)
        return done

    def _refuse_other_meaning(self) -> None:
        """A frame's types may not mean something else than those with which files of other partitions were written."""
        if not self._meanings:
            return
        own = {partition.key for partition in self._scope.partitions}
        others = (path for key, path in self._lake.footers(self._table.asset) if key not in own)
        other = next((frame for frame in map(footer.intact_frame, others) if frame is not None), None)
        meanings.refuse_another(self._table, self._scope, self._request.frame, other)

    def _matched(self) -> tuple[list[Column], list[Pair]]:
        """All columns of the new files, and which of them come in; every refused difference at once."""
        reference = self._reference()
        known = reference if reference is not None else self._from_data()
        plan = drift.plan(known, self._payload.columns, self._table.drift, self._partition_columns)
        if plan.problems:
            raise WriteRefused(refused(self._table, self._scope, plan.problems, "Deliver what the files hold."))
        if reference is None:
            self._schema_changes = ("files created",)
        targets = [*known, *as_stored(plan.added, self._lake.beside)]
        self._schema_changes += tuple(f"column {c.name!r} added as {c.type}" for c in targets[len(known) :])
        return targets, list(drift.plan(targets, self._payload.columns, "evolve", self._partition_columns).pairs)

    def _reference(self) -> list[Column] | None:
        """The columns that all files have so far, that the data says itself, or that the contract wants."""
        newest = self._lake.newest(self._table)
        if newest is not None:
            there = file_columns(self._connection, newest)
            return self._by_the_data(there) if self._table.columns_of_data else there
        if self._table.contract_sql is None:
            return None
        with in_memory(self._lake.beside) as scratch:
            made = SqlTable(scratch, self._table)
            made.prepare(self._scope, self._payload.columns)
            return as_stored(made.columns(), self._lake.beside)

    def _by_the_data(self, newest: list[Column]) -> list[Column]:
        """The columns that come in, where they are not those of the newest file already; and what that changes."""
        there = {column.name: str(column.type) for column in newest}
        if there == {column.name: str(column.type) for column in self._payload.columns}:
            return newest
        columns = self._from_data()
        others = [f"column {c.name!r} is {c.type}" for c in columns if there.get(c.name) != str(c.type)]
        gone = there.keys() - {column.name for column in columns}
        self._schema_changes = (*others, *(f"column {name!r} left out" for name in sorted(gone)))
        return columns

    def _from_data(self) -> list[Column]:
        columns = []
        for column in self._payload.columns:
            if not column.hollow:
                columns.append(column)
            elif column.name.lower() in map(str.lower, self._partition_columns):
                columns.append(
                    Column(column.name, duckdb.sqltype(column_type_of(self._table, self._scope, column.name)))
                )
        if not columns:
            problem = "the data has no column with a type"
            raise WriteRefused(refused(self._table, self._scope, [problem], "Give the columns their types."))
        return as_stored(columns, self._lake.beside)

    def _incoming(self, pairs: Sequence[Pair]) -> Rows:
        columns = [row_tally.stored_as(pair) for pair in pairs]
        return judgement.placed(quote(self._payload.name), columns, self._table, self._scope)

    def _fitted(self, pairs: list[Pair]) -> tuple[list[Pair], dict[int | None, Tally]]:
        """Widen the columns whose values do not fit, where the policy allows it, and count again."""
        checked = [pair for pair in pairs if pair.checked]
        found = row_tally.tally(self._connection, self._incoming(pairs), checked)
        lost = [p for n, p in enumerate(checked) if any(t.lost[n] for where, t in found.items() if where is not None)]
        if self._table.drift == "freeze" or not any(pair.wider for pair in lost):
            return pairs, found
        wider = {p.source: self._widened(p) for p in lost if p.wider}
        self._schema_changes += tuple(f"column {c.name!r} widened to {c.type}" for c in wider.values())
        return self._fitted([p.into(wider[p.source]) if p.source in wider else p for p in pairs])

    def _widened(self, pair: Pair) -> Column:
        return as_stored([pair.target._replace(type=duckdb.sqltype(str(pair.wider)))], self._lake.beside)[0]

    def _refuse_lost(self, n: int, found: dict[int | None, Tally], pairs: Sequence[Pair], incoming: Rows) -> None:
        checked = [pair for pair in pairs if pair.checked]
        counts = found[n].lost if n in found else ()
        here = incoming._replace(only=(n,))
        problems = [
            row_tally.lost_values(self._connection, here, pair)
            for pair, count in zip(checked, counts, strict=False)
            if count
        ]
        if problems:
            advice = "Deliver values that the column can hold."
            raise DataFault(refused(self._table, Scope((self._scope.partitions[n],)), problems, advice))

    def _refuse_outside(self, rows: Rows) -> NoReturn:
        problems = row_tally.outside(self._connection, rows, str(self._table.partition_column))
        raise WriteRefused(refused(self._table, self._scope, problems, "Deliver only rows of these partitions."))

    def _replace_one(self, n: int, new: Tally, incoming: Rows, rows: Callable[[], pa.RecordBatchReader]) -> Commit:
        """One partition whose rows can be scanned, alone in its folder."""

        def fill(temporary: Path, record: Commit, earlier: Sequence[Commit]) -> None:
            draft.write(temporary, rows(), record, earlier, self._request.frame)

        with self._turn(n) as seat:
            return self._judged(n, seat, new, incoming, fill)

    def _streamed(self, stream: pa.RecordBatchReader, targets: Sequence[Column], pairs: Sequence[Pair]) -> Commit:
        """The one partition of the scope from a long stream: one pass, in the memory of one row group."""
        incoming = self._incoming(pairs)
        new, outside = EMPTY, False
        schema = self._select(targets, pairs, incoming).schema
        with self._turn(0) as seat, draft.discarded(seat.file, schema, self._request.frame) as made:
            for rows in draft.groups(stream):
                self._connection.register(self._payload.name, rows)
                found = row_tally.tally(self._connection, incoming)
                outside |= None in found
                new = _sum(new, found.get(0, EMPTY))
                made.add(rows if rows.schema == made.schema else self._select(targets, pairs, incoming).read_all())
            if outside:
                made.close()
                self._refuse_outside(self._there(made.path, self._scope))
            refuse_changed(self._request.reads)

            def again() -> Rows:
                made.close()
                return self._there(made.path, self._scope)

            return self._judged(0, seat, new, again, made.finish_as)

    @contextmanager
    def _turn(self, n: int) -> Iterator[Seat]:
        """The partition's place, for writing."""
        one = Scope((self._scope.partitions[n],))
        key = one.partitions[0].key
        with self._lake.turn(self._table, key, self._wait_seconds, what(self._table, one)) as seat:
            yield seat

    def _judged(self, n: int, seat: Seat, new: Tally, rows: Rows | Callable[[], Rows], fill: Fill) -> Commit:
        """Look at what is there and judge against it; again where somebody else has committed meanwhile.

        Raises StoreBusy (retrying helps) when others go on committing it for longer than the wait setting.
        """
        deadline = monotonic() + self._wait_seconds
        for times in count(1):
            seat.look()
            try:
                return self._judged_against(n, seat, new, rows, fill)
            except Overtaken:
                if monotonic() > deadline:
                    raise StoreBusy(
                        f"{what(self._table, Scope((self._scope.partitions[n],)))}: other writers have committed it "
                        f"{times} times since this one began, within {self._wait_seconds:g} s. Nothing was changed by "
                        "this one; retrying helps."
                    ) from None
                sleep(random.uniform(0, min(times, 10) * _PAUSE_SECONDS))
        raise AssertionError("not reached: the loop has no end of its own")

    def _judged_against(self, n: int, seat: Seat, new: Tally, rows: Rows | Callable[[], Rows], fill: Fill) -> Commit:
        """Judge what comes in against what is there; replace it in one step, or leave all as it is.

        Rows that are found again only at some cost are compared where they are not reproducible, and only then.
        """
        path = seat.file
        incoming, again = (None, rows) if callable(rows) else (rows, None)
        one = Scope((self._scope.partitions[n],))
        earlier = footer.intact_history(path)
        is_there = bool(earlier)
        if not is_there and self._table.keep_versions:
            earlier = self._lake.versions.newest_history(self._table.asset, one.partitions[0].key)
        previous = earlier[-1] if earlier else None
        refuse_another(self._table, one, seat.shown, previous)
        there, old = self._found_there(path, one) if is_there else (None, EMPTY)
        if there is not None and incoming is not None:
            there = there._replace(placement=incoming.placement)
        sides = Sides(
            self._connection,
            self._table,
            self._scope,
            self._request,
            {n: new},
            {n: old.rows},
            {n: previous} if previous is not None else {},
            incoming,
            there,
            tallies=lambda _: {n: old},
            former=lambda records: last_alike(earlier, records),
            key=lambda: contract_key(self._table, self._lake.beside),
            schema_changes=self._schema_changes,
            room=max(deviation.LOOKED_INTO - self._deviating, 0),
            again=again,
        )
        judged = judgement.judge(sides, now())
        record, changed = judged.records[n], bool(judged.changed)
        self._deviating += record.deviation is not None and record.deviation.repeats == 0
        changed_meaning = is_there and self._meanings and self._meanings != meanings.of(footer.intact_frame(path))
        unchanged = is_there and not (changed or changed_meaning)
        if previous is not None and unchanged and says_the_same(record, previous):
            self._request.still_owner()
            self._forget_candidate(one, record)
            return replace(previous, changed=False)
        if self._table.keep_versions and changed and previous is not None and there is not None:
            self._lake.versions.keep(self._table.asset, previous, path)
        written = self._written(one, seat, record, earlier, fill, audited=changed)
        self._let_go(one, written)
        return written

    def _found_there(self, path: Path, one: Scope) -> tuple[Rows | None, Tally]:
        """The rows of the file, counted; none of a damaged one, which could never be replaced otherwise."""
        try:
            there = self._there(path, one)
            return there, row_tally.tally(self._connection, there).get(0, EMPTY)
        except duckdb.Error:
            if not footer.is_damaged(path):
                raise
            return None, EMPTY

    def _there(self, path: Path, one: Scope) -> Rows:
        relation = f"read_parquet([{text(escaped(path))}], hive_partitioning=false)"
        columns = [Typed(c.name, quote(c.name), c.type) for c in file_columns(self._connection, path)]
        return judgement.placed(relation, columns, self._table, one)

    def _cut(
        self, found: Mapping[int | None, Tally], targets: Sequence[Column], pairs: Sequence[Pair], incoming: Rows
    ) -> dict[int | None, pa.Table] | None:
        """Few rows for many partitions are fetched once and cut up: a query for each costs more than its rows.

        Within a partition the rows keep the order in which they came, as they do when they are asked for one by one.
        None stands for a partition without rows.
        """
        counts = {n: tally.rows for n, tally in found.items() if n is not None}
        if len(self._scope.partitions) == 1 or sum(counts.values()) > _CUT_ROWS:
            return None
        rows = _held(self._select(targets, pairs, incoming, numbered=True))
        if rows is None:
            return None
        numbers = rows.column(len(targets)).to_numpy()
        if len(numbers) and (numbers[1:] < numbers[:-1]).any():
            rows = rows.take(pa.array(numbers.argsort(kind="stable")))
        rows = rows.select(range(len(targets)))
        starts = accumulate((counts[n] for n in sorted(counts)), initial=0)
        return {None: rows.slice(0, 0)} | {
            n: rows.slice(start, counts[n]) for n, start in zip(sorted(counts), starts, strict=False)
        }

    def _select(
        self, targets: Sequence[Column], pairs: Sequence[Pair], incoming: Rows, numbered: bool = False
    ) -> pa.RecordBatchReader:
        """The rows with all columns of the file, those that do not come as NULL; `numbered`: and their partition."""
        binds = Binds()
        values = {pair.target.name: row_tally.stored_as(pair) for pair in pairs}
        missing = {c.name: Typed(c.name, f"NULL::{c.type}", c.type) for c in targets if c.name not in values}
        columns = [(values | missing)[c.name] for c in targets]
        select = ", ".join(f"{c.value} AS {quote(c.name)}" for c in columns)
        number = f", {incoming.placement.position(incoming.place, binds)}" if numbered else ""
        statement = f"SELECT {select}{number} FROM {incoming.relation} {incoming.where(binds)}"
        return arrow_reader(self._connection.execute(statement, binds.values or None), _BATCH_ROWS)

    def _written(
        self, one: Scope, seat: Seat, record: Commit, earlier: Sequence[Commit], fill: Fill, *, audited: bool
    ) -> Commit:
        """One atomic step."""
        with seat.replacing(record) as temporary:
            fill(temporary, record, earlier)
            if audited and self._request.audit is not None:
                self._audit(self._request.audit, one, temporary, record)
            self._request.still_owner()
        return record

    def _audit(self, audit: Callable[[Scope, Store], None], one: Scope, file: Path, record: Commit) -> None:
        """Show the file to whoever has to let it pass; one that does not becomes a candidate. Raises ChecksFailed."""
        try:
            audit(one, self._showing(self._table, record.partition, file))
        except ChecksFailed as failed:
            self._request.still_owner()
            try:
                self._lake.candidates.keep(record, file, failed.reason)
            except (OSError, StoreUnavailable) as error:
                raise not_even_kept(failed, error) from error
            raise
        faults.reach("parquet.audited")

    def _let_go(self, one: Scope, written: Commit) -> None:
        """Remove what the commit has made old. An error here says that it happened."""
        try:
            self._forget_candidate(one, written)
            if self._table.keep_versions:
                self._lake.versions.forget(self._table, written)
        except StoreUnavailable as error:
            said = str(error).replace(" Nothing was changed.", "")
            raise StoreUnavailable(
                f"{what(self._table, one)}: its new rows are committed; what they made old cannot be removed: {said}"
            ) from None

    def _forget_candidate(self, one: Scope, judged: Commit) -> None:
        """The partition has its newest rows: what was to replace it before is none any more.

        In a bucket nobody waits: what somebody else has kept since this write was judged is to replace its rows.
        """
        if self._table.publish_after_checks:
            self._lake.candidates.drop(self._table.asset, one.partitions[0].key, judged)


def contract_key(table: Table, beside: Path) -> list[str]:
    """The key that the table's contract gives a row; none where nothing says so."""
    if table.contract_sql is None:
        return []
    with in_memory(beside) as scratch:
        made = SqlTable(scratch, table)
        made.prepare(Scope.whole(), ())
        return made.key()


def _sum(one: Tally, other: Tally) -> Tally:
    """Two lots of rows of one partition as one."""
    return Tally(one.rows + other.rows, fingerprint.together(one.fingerprint, other.fingerprint))


def _held(batches: pa.RecordBatchReader) -> pa.Table | None:
    """The rows in memory; None where they are too wide to be held at once."""
    held, size_bytes = [], 0
    for batch in batches:
        held.append(batch)
        size_bytes += batch.get_total_buffer_size()
        if size_bytes > _CUT_BYTES:
            return None
    return pa.Table.from_batches(held, batches.schema)
