"""One attempt to replace partitions of a table, inside one transaction.

Belongs here: the order of the steps between BEGIN and COMMIT. What is decided about the rows is `judgement`'s, what
only looks at them `row_tally`'s, the table itself `table`'s. The caller owns the transaction: whatever is raised here,
it rolls back.

The order: the table exists and has its columns; one scan says what comes in; what is there is looked up; refusals;
the commit records are claimed; DELETE; INSERT. DuckDB does not take ALTER after DELETE (up to 1.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import duckdb

from etl_project import faults
from etl_project.storage import meanings
from etl_project.storage.contract import Commit, Request, Scope, Table, WriteRefused
from etl_project.storage.judging import drift, judgement, row_tally
from etl_project.storage.judging.drift import Pair
from etl_project.storage.judging.findings import differs
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.judging.judgement import Sides
from etl_project.storage.judging.messages import DataFault, correct_the_data, refused
from etl_project.storage.judging.payload import Payload
from etl_project.storage.judging.row_tally import EMPTY, Rows, Tally
from etl_project.storage.sql import Binds, quote
from etl_project.storage.tables import owners, shape
from etl_project.storage.tables.engine import Conflict, Engine
from etl_project.storage.tables.versions import Replaced


class Selected(NamedTuple):
    """Rows as a query, with the values that it binds and the names of its columns in the table."""

    query: str
    binds: Mapping[str, Any]
    columns: Sequence[str]


class TableWrite:
    """Replaces the scope by the payload in the transaction that is open on the connection."""

    def __init__(
        self,
        engine: Engine,
        connection: duckdb.DuckDBPyConnection,
        table: Table,
        scope: Scope,
        request: Request,
        payload: Payload,
        restricted: bool = False,
    ) -> None:
        """`restricted`: rows of other partitions belong to somebody else's scope and are passed over."""
        self._engine = engine
        self._connection = connection
        self.table = table
        self.scope = scope
        self._request = request
        self._payload = payload
        self._restricted = restricted
        self._target = engine.table(connection, table)
        self._records_there = engine.records(connection)
        self._everything = tuple(range(len(scope.partitions)))
        self._schema_changes: list[str] = []
        self._seen: dict[int, Commit] | None = None
        self._inserted: Selected | None = None
        self._written: tuple[Rows, Mapping[int, Commit]] | None = None
        self.records: Sequence[Commit] = ()
        self.changed = Scope(())
        """The partitions that have other rows now, once it has run."""

    def run(self, at: datetime) -> list[Commit]:
        """Do everything but COMMIT; gives the records as they are claimed. `at` is the instant they carry."""
        self._schema_changes += self._target.prepare(self.scope, self._payload.columns)
        pairs, incoming = self._fitted(self._matched())
        new = self._guarded(incoming)
        here = self._here()
        self._claim_table(here)
        previous = self._seen = self._previous()
        before = row_tally.count(self._connection, here._replace(only=self._everything))
        sides = Sides(
            self._connection,
            self.table,
            self.scope,
            self._request,
            new,
            before,
            previous,
            incoming,
            here,
            tallies=lambda which: row_tally.tally(self._connection, here._replace(only=tuple(which))),
            former=lambda records: self._former(records, previous),
            key=self._target.key,
            schema_changes=self._schema_changes,
        )
        judged = judgement.judge(sides, at)
        records, changed = list(judged.records.values()), judged.changed
        self.changed = Scope(tuple(self.scope.partitions[n] for n in changed))
        self._written = here._replace(only=tuple(changed)), {n: judged.records[n] for n in changed}
        self._records_there.claim(records)
        self.records = records
        faults.reach(f"{self._engine.name}.after_claim")
        if changed:
            kept = self._keep_versions(here, changed, before, previous, at)
            self._delete(here, changed)
            faults.reach(f"{self._engine.name}.between_delete_and_insert")
            self._insert(pairs, incoming, changed)
            self._look_back(incoming, here, changed)
            if kept:
                self._engine.versions(self._connection).forget(self.table, kept, at)
        if self.table.publish_after_checks:
            self._engine.candidates(self._connection).drop(self.table.asset, [p.key for p in self.scope.partitions])
        return records

    def inserted(self) -> Selected:
        """What it has inserted, as a query over the payload: it can be asked again once the transaction is over."""
        if self._inserted is None:
            raise AssertionError("nothing was inserted yet")
        return self._inserted

    def refuse_altered(self) -> None:
        """Raise WriteRefused (retrying does not help) where the new rows are not those that were written any more."""
        other = [self.scope.partitions[n] for n in self._altered()]
        if other:
            problem = "the new rows were altered by one of the checks that looked at them"
            raise WriteRefused(
                refused(self.table, Scope(tuple(other)), [problem], "A check may only read: correct it.")
            )

    def _altered(self) -> list[int]:
        """The partitions whose new rows are not those that were written."""
        if self._written is None:
            raise AssertionError("nothing was written yet")
        rows, records = self._written
        there = row_tally.tally(self._connection, rows)
        return [n for n, record in records.items() if differs(record, there.get(n, EMPTY))]

    def _look_back(self, incoming: Rows, here: Rows, changed: Sequence[int]) -> None:
        """Where the database may not keep what it is given as it is: read it. Raises DataFault."""
        if not self._target.alters_values:
            return
        self._refuse_other_values(incoming, here)
        binds = Binds()
        where = here._replace(only=tuple(changed)).where(binds)
        if problems := self._target.broken_when_stored(where, binds.values):
            raise DataFault(refused(self.table, self.scope, problems, correct_the_data(problems[-1])))

    def _refuse_other_values(self, incoming: Rows, here: Rows) -> None:
        """Read back what was inserted: raise DataFault, naming the columns, where it is not what came in."""
        wrong = self._altered()
        if not wrong:
            return
        scope = Scope(tuple(self.scope.partitions[n] for n in wrong))
        given = row_tally.column_hashes(self._connection, incoming._replace(only=tuple(wrong)))
        kept = row_tally.column_hashes(self._connection, here._replace(only=tuple(wrong)))
        names = [name for name, total in given.items() if total != kept.get(name)]
        problem = (
            f"the database does not hold the values of {', '.join(map(repr, names)) or 'these rows'} as they were "
            "given to it (its type, a trigger or a rule makes others of them)"
        )
        raise DataFault(refused(self.table, scope, [problem], "Deliver values that it holds, or change the table."))

    def anew(self) -> TableWrite:
        """The same write, for another transaction."""
        return TableWrite(
            self._engine, self._connection, self.table, self.scope, self._request, self._payload, self._restricted
        )

    def refuse_other_than(self, looked_at: TableWrite) -> None:
        """Raise Conflict, so that it is tried again, where this write is another one than what somebody has looked at.

        Another writer came between the two; rows and what they replace have to be the same.
        """
        same = self._seen == looked_at._seen and self.changed == looked_at.changed
        pairs = zip(self.records, looked_at.records, strict=True)
        if not same or any(one.fingerprint != other.fingerprint for one, other in pairs):
            raise Conflict("a commit came while its checks looked at it")

    def was_overtaken(self) -> bool:
        """Whether another writer has committed one of the partitions since this one looked.

        Then its rows may be what broke a key: that is nobody's data at fault. Asked after the transaction is over.
        """
        return self._seen is not None and self._records_there.exist() and self._previous() != self._seen

    def _matched(self) -> tuple[Pair, ...]:
        """Pair the columns, adding those that the policy allows; every refused difference at once."""
        plan = drift.plan(self._target.columns(), self._payload.columns, self.table.drift, self._partition_columns())
        if plan.problems:
            raise WriteRefused(
                refused(self.table, self.scope, plan.problems, self._advice("Deliver what the table wants."))
            )
        if not plan.added:
            return plan.pairs
        self._schema_changes += self._target.add(plan.added)
        again = drift.plan(self._target.columns(), self._payload.columns, "evolve", self._partition_columns())
        return again.pairs

    def _fitted(self, pairs: tuple[Pair, ...]) -> tuple[tuple[Pair, ...], Rows]:
        """The incoming rows as they will be stored. A column is widened only when its values do not fit."""
        incoming = self._incoming(pairs)
        checked = [pair for pair in pairs if pair.checked]
        self._found = row_tally.tally(self._connection, incoming, checked)
        lost = [
            pair
            for n, pair in enumerate(checked)
            if any(tally.lost[n] for position, tally in self._found.items() if position is not None)
        ]
        if not lost:
            return pairs, incoming
        too_wide = [pair for pair in lost if pair.wider is None or self.table.drift == "freeze"]
        if too_wide:
            problems = [row_tally.lost_values(self._connection, incoming, pair) for pair in too_wide]
            raise DataFault(
                refused(self.table, self.scope, problems, self._advice("Deliver values that the column can hold."))
            )
        self._schema_changes += [self._target.widen(pair.target, str(pair.wider)) for pair in lost]
        return self._fitted(self._matched())

    def _incoming(self, pairs: Sequence[Pair]) -> Rows:
        columns = [self._target.stored_as(pair) for pair in pairs]
        relation = quote(self._payload.name)
        rows = judgement.placed(relation, columns, self.table, self.scope)
        return rows._replace(only=self._everything) if self._restricted else rows

    def _here(self) -> Rows:
        """What the table holds; columns that fill themselves when data lacks them are no content."""
        given = {column.name.lower() for column in self._payload.columns}
        columns = [
            Typed(c.name, quote(c.name), c.type)
            for c in self._target.columns()
            if not c.filled or c.name.lower() in given
        ]
        return judgement.placed(self._target.name, columns, self.table, self.scope)

    def _guarded(self, incoming: Rows) -> dict[int, Tally]:
        """What comes in, per partition; refused when any row belongs to none."""
        if None in self._found:
            problems = row_tally.outside(self._connection, incoming, str(self.table.partition_column))
            raise WriteRefused(refused(self.table, self.scope, problems, "Deliver only rows of these partitions."))
        return {n: self._found.get(n, EMPTY) for n in self._everything}

    def _claim_table(self, here: Rows) -> None:
        """The table is this asset's, or the write is refused."""

        def held() -> list[owners.Held]:
            there = row_tally.tally(self._connection, here._replace(only=self._everything))
            return [
                owners.Held(partition.key, there.get(n, EMPTY).rows, there.get(n, EMPTY).fingerprint)
                for n, partition in enumerate(self.scope.partitions)
            ]

        made = "table created" in self._schema_changes
        home, schema = self._engine.schema, self._target.schema
        owners.claim(self._connection, self.table, schema, made, held, home, self._engine.keyed)
        self._refuse_other_meaning(here, schema)
        owners.note_frame(self._connection, schema, self.table.name, self._request.frame, home)

    def _refuse_other_meaning(self, here: Rows, schema: str) -> None:
        """A frame's types may not mean something else than those with which rows of other partitions were written."""
        new = self._request.frame
        if new is None:
            return
        known = owners.frame_of(self._connection, schema, self.table.name, self._engine.schema)
        if known in (None, new):
            return
        binds = Binds()
        within = here.placement.within(here.place, binds, self._everything)
        others = f"SELECT 1 FROM {self._target.name} WHERE ({within}) IS NOT TRUE LIMIT 1"
        if meanings.of(new) and self._connection.execute(others, binds.values or None).fetchone():
            meanings.refuse_another(self.table, self.scope, new, known)

    def _previous(self) -> dict[int, Commit]:
        keys = [partition.key for partition in self.scope.partitions]
        found = self._records_there.last([self.table.asset], keys)
        return {n: found[self.table.asset, key] for n, key in enumerate(keys) if (self.table.asset, key) in found}

    def _former(self, records: Mapping[int, Commit], previous: Mapping[int, Commit]) -> dict[int, Commit]:
        """The last build of each partition from the same inputs and code, be it the one before or an earlier one."""
        former = {n: last for n, last in previous.items() if judgement.made_alike(last, records[n])}
        others = {n: records[n] for n in previous if n not in former and judgement.is_known(records[n])}
        if others:
            alike = self._records_there.last_alike(others.values())
            keys = {n: (record.asset, record.partition) for n, record in others.items()}
            former |= {n: alike[key] for n, key in keys.items() if key in alike}
        return former

    def _keep_versions(
        self,
        here: Rows,
        changed: Sequence[int],
        before: Mapping[int, int],
        previous: Mapping[int, Commit],
        at: datetime,
    ) -> list[str | None]:
        """Copy the rows that are about to go, where the table keeps some; gives the partitions that there were."""
        if not self.table.keep_versions:
            return []
        replaced = [
            Replaced(self.scope.partitions[n].key, n, previous[n].sequence if n in previous else 0, before.get(n, 0))
            for n in changed
            if n in previous or before.get(n)
        ]
        if replaced:
            self._engine.versions(self._connection).keep(self.table, self._target, here, replaced, at)
            faults.reach(f"{self._engine.name}.version_kept")
        return [one.key for one in replaced]

    def _delete(self, here: Rows, changed: Sequence[int]) -> None:
        binds = Binds()
        condition = here.placement.within(here.place, binds, changed)
        self._target.delete(condition, binds.values)

    def _insert(self, pairs: Sequence[Pair], incoming: Rows, changed: Sequence[int]) -> None:
        """By name: every value goes where its column says. Columns that do not come get NULL or their default."""
        binds = Binds()
        only = incoming.only if len(changed) == len(self._everything) else tuple(changed)
        columns = [pair.target.name for pair in pairs]
        names = ", ".join(map(quote, columns))
        values = ", ".join(self._target.stored_as(pair).value for pair in pairs)
        rows = f"SELECT {values} FROM {incoming.relation} {incoming._replace(only=only).where(binds)}"
        self._inserted = Selected(rows, binds.values, columns)
        try:
            if problems := self._target.broken_rules(columns, rows, binds.values):
                raise DataFault(refused(self.table, self.scope, problems, correct_the_data(problems[-1])))
            self._connection.execute(f"INSERT INTO {self._target.name} ({names}) {rows}", binds.values)
            self._target.settle()
        except duckdb.Error as error:
            if told := self._engine.fault_of_data(error):
                raise DataFault(refused(self.table, self.scope, [told], correct_the_data(told))) from error
            if not isinstance(error, duckdb.ProgrammingError):
                raise
            raise WriteRefused(
                refused(self.table, self.scope, [str(error)], "Deliver what the table wants.")
            ) from error

    def _advice(self, usual: str) -> str:
        """What to do; where the contract was edited since the table was made, that too."""
        return usual + shape.advice(self.table, [(c.name, str(c.type)) for c in self._target.columns()])

    def _partition_columns(self) -> tuple[str, ...]:
        return () if self.scope.partitions[0].key is None else self.table.partition_columns
