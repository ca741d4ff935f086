"""Table: one table with its commit records and kept versions, from one database into another, in one transaction there.

Belongs here: what the target has to be for it, the order of the steps between BEGIN and COMMIT, and what came of it.
Which tables there are is `whole`'s.

The source is read in one transaction, so rows, records and versions belong together, whoever writes there meanwhile (a
DuckDB file lets nobody write for so long). What is committed there later is seen by the next copy, which brings the
table again. Writers of the target's table wait. A kill before COMMIT leaves the target as it was, one after it a table
that is done.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import duckdb

from etl_project import faults
from etl_project.storage.contract import Commit, Scope, StoreBusy, Table, WriteRefused
from etl_project.storage.copying import kept, notes, streams, unlike
from etl_project.storage.copying.drawn import Drawn, draw, not_there, script
from etl_project.storage.copying.kept import Behind
from etl_project.storage.copying.streams import Side
from etl_project.storage.judging.row_tally import EMPTY, Tally
from etl_project.storage.tables import owners
from etl_project.storage.tables.engine import Conflict
from etl_project.storage.tables.store import TableStore
from etl_project.storage.tables.table import SqlTable
from etl_project.storage.tables.transactions import pauses, roll_back
from etl_project.utc import now


class Copied(NamedTuple):
    """What came of one table. `copied`: something was written; `left`: what of the table the target does not have."""

    asset: str
    table: str
    rows: int
    commits: int
    versions: int
    copied: bool
    left: tuple[str, ...] = ()


class One(NamedTuple):
    """An asset and its table in the source, as its catalog spells it; `name` is None where only records are left."""

    asset: str
    schema: str | None
    name: str | None
    contract: str | None


def copy_table(source: TableStore, target: TableStore, one: One) -> Copied:
    """Make the target hold the table as the source has it, or change nothing there.

    Raises WriteRefused (retrying does not help) for rows of the target that no copy has written and for what it cannot
    hold, StoreBusy and StoreUnavailable (it does).
    """
    deadline = time.monotonic() + target.wait_seconds
    named = Table(one.asset, one.name or one.asset, one.schema, partition_column=None)
    with (
        source.look() as there,
        target.engine.turn(named, target.wait_seconds),
        target.connect() as here,
    ):
        assert there is not None  # It has told which tables there are.
        streams.lossless(there)
        streams.lossless(here)
        for pause in pauses():
            try:
                return _Transaction(source, there, target, here, one, named).run()
            except Conflict as conflict:
                if time.monotonic() + pause > deadline:
                    raise StoreBusy(
                        f"Table {one.asset!r}: other writers of {target.identity} were in the way for "
                        f"{target.wait_seconds:g} s ({conflict}). Nothing was changed; retrying helps."
                    ) from conflict
                time.sleep(pause)
                target.engine.renew(here)
    raise AssertionError("the pauses never end")


class _Transaction:
    def __init__(
        self,
        source: TableStore,
        there: duckdb.DuckDBPyConnection,
        target: TableStore,
        here: duckdb.DuckDBPyConnection,
        one: One,
        named: Table,
    ) -> None:
        self._source, self._there = source, there
        self._target, self._here = target, here
        self._one, self._named = one, named
        self._what = f"Table {one.name or one.asset!r} of asset {one.asset!r}"

    def run(self) -> Copied:
        try:
            self._here.begin()
            done = self._copied()
            if not done.copied:
                self._here.rollback()
                return done
            faults.reach("copy.before_commit")
            self._target.engine.commit(self._here)
            faults.reach("copy.after_commit")
        except duckdb.Error as error:
            roll_back(self._here)
            raise self._target.engine.meaning(error) from error
        except BaseException:
            roll_back(self._here)
            raise
        return done

    def _copied(self) -> Copied:
        """Everything but COMMIT."""
        records = self._records_to_add()
        lacking = kept.behind(self._source.engine, self._there, self._target.engine, self._here, self._one.asset)
        if self._one.name is None:
            return self._without_table(records, lacking)
        return self._with_table(records, lacking)

    def _without_table(self, records: Sequence[Commit], lacking: Behind) -> Copied:
        """Of an asset whose table is gone, or is another one's by now, what was kept of its rows is all there is."""
        target = self._target.engine
        done = Copied(self._one.asset, "(no table)", 0, len(records), len(lacking.missing), bool(records or lacking))
        if done.copied:
            target.fence(self._here, self._named, Scope.whole())
            self._claim(records)
            here = target.table(self._here, self._named)
            kept.bring(self._source.engine, self._there, target, self._here, here, lacking)
        return done

    def _with_table(self, records: Sequence[Commit], lacking: Behind) -> Copied:
        target = self._target.engine
        source_table = self._source.engine.table(self._there, self._named)
        drawn = draw(self._source.engine, self._there, source_table, self._one.contract)
        given = Side(self._there, source_table.name)
        every = [column.name for column in drawn.columns]
        expected = given.tally(every)
        here = target.table(self._here, self._named)
        said = tuple(not_there(drawn, target)) if target.name != self._source.engine.name else drawn.unsaid
        done = Copied(self._one.asset, here.name, expected.rows, len(records), len(lacking.missing), True, said)
        is_there = here.exists()
        if is_there:
            unlike.refuse_other_kinds(drawn, here, self._what)
            alike = target.comparable and self._source.engine.comparable
            done = done._replace(left=(*said, *unlike.lacking(drawn, target, self._here, here, alike)))
        same = is_there and self._holds(here, every) == expected
        if same and not records and not lacking and self._is_noted(here):
            return done._replace(copied=False)
        target.fence(self._here, self._named, Scope.whole())
        made = self._make(here, drawn, source_table) if not is_there else []
        here = target.table(self._here, self._named)
        if not same:
            if is_there:
                self._refuse_rows_of_others(here, every)
                self._grow(here, drawn)
                here.delete("true", {})
            self._fill(given, here, drawn, expected)
        self._claim(records)
        self._note(here, made=bool(made))
        kept.bring(self._source.engine, self._there, target, self._here, here, lacking)
        return done

    def _records_to_add(self) -> list[Commit]:
        """The records that the target lacks. Raises WriteRefused where it has some that the source has not."""
        asset = self._one.asset
        given = self._source.engine.records(self._there).every(asset)
        theirs = {(one.partition, one.sequence): one for one in given}
        own = self._target.engine.records(self._here).every(asset)
        others = [one for one in own if theirs.get((one.partition, one.sequence)) != one]
        if others:
            first = others[0]
            raise WriteRefused(
                f"{self._what}: {self._target.identity} has commits of it that {self._source.identity} has not "
                f"({len(others)}, as of {first.partition or 'all'} at {first.committed_at:%Y-%m-%d %H:%M} UTC). "
                "Nothing was changed; retrying does not help. Copy into a warehouse that nobody has written to."
            )
        have = {(one.partition, one.sequence) for one in own}
        return [one for at, one in theirs.items() if at not in have]

    def _claim(self, records: Sequence[Commit]) -> None:
        there = self._target.engine.records(self._here)
        there.prepare()
        if records:
            there.claim(records)

    def _holds(self, here: SqlTable, names: Sequence[str]) -> Tally | None:
        """What the table has, in columns of its own, too; None where one of these is not there."""
        own = [column.name for column in here.columns()]
        missing = {name.lower() for name in names} - {name.lower() for name in own}
        return None if missing else Side(self._here, here.name).tally(own)

    def _is_noted(self, here: SqlTable) -> bool:
        """Whether a copy has written the table: rows that happen to be the same are nobody's without their owner."""
        engine = self._target.engine
        return (here.schema, here.table.name, self._one.asset) in owners.noted(self._here, engine.schema)

    def _refuse_rows_of_others(self, here: SqlTable, names: Sequence[str]) -> None:
        """Raise WriteRefused for rows that were not written by a copy, or were changed since."""
        own = [column.name for column in here.columns()]
        found = Side(self._here, here.name).tally(own)
        note = notes.last(self._here, self._target.engine.schema, self._one.asset, here.name)
        if found != EMPTY and found.fingerprint != note:
            since = "have been changed since a copy has written them" if note else "were not written by a copy"
            raise WriteRefused(
                f"{self._what}: the table {here.name} of {self._target.identity} has {found.rows} rows that {since}. "
                "Nothing was changed; retrying does not help. Copy into a warehouse that nobody has written to, or "
                "empty that table first, if its rows are not wanted."
            )

    def _make(self, here: SqlTable, drawn: Drawn, source: SqlTable) -> list[str]:
        alike = self._target.engine.comparable and self._source.engine.comparable
        statements = script(drawn, here, self._there, source.name, alike)
        table = replace(self._named, contract_sql=statements)
        return self._target.engine.table(self._here, table).prepare(Scope.whole(), ())

    def _grow(self, here: SqlTable, drawn: Drawn) -> None:
        """Add the columns that the source has since."""
        own = {column.name.lower() for column in here.columns()}
        here.add([column for column in drawn.columns if column.name.lower() not in own])

    def _fill(self, given: Side, here: SqlTable, drawn: Drawn, expected: Tally) -> None:
        faults.reach("copy.before_rows")
        stored = Side(self._here, here.name)
        streams.pour(given, stored, [column.name for column in drawn.plain])
        faults.reach("copy.rows_written")
        streams.refuse_other(given, stored, [column.name for column in drawn.columns], self._what, expected)
        self._refuse_more(here, stored, drawn)
        if problems := here.not_held():
            raise WriteRefused(f"{self._what}: {'; '.join(problems)}. Nothing was changed; retrying does not help.")

    def _refuse_more(self, here: SqlTable, stored: Side, drawn: Drawn) -> None:
        """Raise WriteRefused for columns that fill themselves: with them, no fingerprint is that of its record."""
        given = {column.name.lower() for column in drawn.columns}
        more = [column.name for column in here.columns() if column.name.lower() not in given]
        filled = [name for name, total in stored.column_hashes(more).items() if total] if more else []
        if filled:
            raise WriteRefused(
                f"{self._what}: the table {here.name} of {self._target.identity} fills columns that are not copied "
                f"({', '.join(map(repr, filled))}), so its rows would not be those of their commit records. Nothing "
                "was changed; retrying does not help. Drop these columns there, or what fills them."
            )

    def _note(self, here: SqlTable, *, made: bool) -> None:
        engine = self._target.engine
        owners.claim(self._here, here.table, here.schema, made, list, engine.schema, engine.keyed)
        frame = owners.frame_of(
            self._there,
            self._source.engine.table(self._there, self._named).schema,
            self._named.name,
            self._source.engine.schema,
        )
        owners.note_frame(self._here, here.schema, here.table.name, frame, engine.schema)
        written = Side(self._here, here.name).tally([column.name for column in here.columns()]).fingerprint
        notes.add(self._here, engine.schema, self._one.asset, here.name, written, self._source.identity, now())
