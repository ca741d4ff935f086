"""Apply: tables become what the contracts say, in one transaction, and what has to be built again is pending after it.

Belongs here: the order of the steps around that transaction, its commit records, and the events that tell Dagster.
What has to happen is `plan`'s; the statements are `storage`'s.

A kill before COMMIT leaves everything as it was; after it, everything is as it should be but for Dagster's events,
which the next `apply` writes (`etl verify --repair` too). Old rows can be read until COMMIT, and carried over after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import dagster as dg
import duckdb

from etl_project import faults, utc
from etl_project.contract_change.plan import Change, Plan, Wanted, changeable, look, tables_by_store
from etl_project.due import Project
from etl_project.failures import Permanent
from etl_project.proofs import Stored, events
from etl_project.sources import Names
from etl_project.storage import (
    Commit,
    Scope,
    TableStore,
    Typed,
    asked_again,
    carried_over,
    judgement,
    quote,
    reshape,
    row_tally,
    shape,
)

RUN = "contract-apply"
"""The run of the commit records: it is no run of Dagster's."""


class Refused(Permanent):
    """A contract cannot be applied as it is. Nothing was changed; retrying does not help."""


class Applied(NamedTuple):
    """What was done: the plan that was carried out, and the tables that hold rows which were set aside."""

    plan: Plan
    aside: tuple[str, ...] = ()


def apply(
    project: Project,
    targets: Sequence[Stored],
    wanted: Wanted,
    accepted: Collection[str] = (),
    instance: dg.DagsterInstance | None = None,
) -> Applied:
    """Make the tables what their contracts say and ask for what has to be built again, or change nothing.

    Raises Refused (retrying does not help) naming every row, view and file that is in the way, StoreBusy (it does).
    """
    done = Applied(Plan())
    stores = changeable(tables_by_store(targets, wanted))
    for store, tables in stores:
        with store.connect() as connection:
            one = _transaction(connection, store, project, tables, wanted, accepted)
        done = Applied(done.plan.and_also(one.plan), done.aside + one.aside)
    if instance is not None:
        for _, tables in stores:
            _tell(instance, tables)
    return done


def _transaction(
    connection: duckdb.DuckDBPyConnection,
    store: TableStore,
    project: Project,
    tables: Sequence[Stored],
    wanted: Wanted,
    accepted: Collection[str],
) -> Applied:
    try:
        connection.begin()
        plan = look(connection, project, tables, wanted)
        if said := plan.refusals(accepted):
            raise Refused("\n  ".join(["Nothing was changed; retrying does not help.", *said]))
        faults.reach("contract.begun")
        aside = tuple(_carry_out(connection, store, project, plan, wanted))
        faults.reach("contract.before_commit")
        store.engine.commit(connection)
        faults.reach("contract.after_commit")
    except duckdb.Error as error:
        raise store.engine.meaning(error) from error
    return Applied(plan, aside)


def _carry_out(
    connection: duckdb.DuckDBPyConnection,
    store: TableStore,
    project: Project,
    plan: Plan,
    wanted: Wanted,
) -> Iterator[str]:
    at = utc.now()
    for name in plan.done_with:
        connection.execute(f"DROP TABLE {name}")
    records: list[Commit] = []
    for change in plan.changes:
        table, target = change.stored.table, store.engine.table(connection, change.stored.table)
        have = shape.read(connection, target.schema, table.name)
        want = shape.wanted(table)
        wishes = wanted.wishes.get(change.asset, shape.Wishes())
        how = reshape.Reshape(connection, table, target, have, want, wishes)
        if [one for one in change.differences if one.kind != "kept"]:
            aside = how.run(change.differences, store.engine.schema)
            if aside is not None:
                yield f"{change.asset}: {aside}"
        records += _records(connection, store, change, at)
    for source, days in plan.rebuilt_files.items():
        last = store.engine.records(connection).last([Names.of(source).rejects], [str(day) for day in days])
        records += [_next(commit, at, ("to be read from the archive again",), again=True) for commit in last.values()]
    if records:
        store.engine.records(connection).prepare()
        store.engine.records(connection).claim(records)


def _records(
    connection: duckdb.DuckDBPyConnection, store: TableStore, change: Change, at: datetime
) -> Iterator[Commit]:
    """The records of the partitions whose rows read differently now, or are to be built again."""
    stored = change.stored
    last = store.engine.records(connection).last([stored.asset])
    commits = {key: commit for (_, key), commit in last.items() if stored.owns(key)}
    if not commits:
        return
    scope = Scope.whole() if stored.partitions is None else stored.scope(commits)
    target = store.engine.table(connection, stored.table)
    columns = [Typed(c.name, quote(c.name), c.type) for c in target.columns()]
    rows = judgement.placed(target.name, columns, stored.table, scope)
    there = row_tally.tally(connection, rows._replace(only=range(len(scope.partitions))))
    said = tuple(one.said for one in change.differences if one.kind != "kept")
    for n, partition in enumerate(scope.partitions):
        commit, tally = commits[partition.key], there.get(n, row_tally.EMPTY)
        again = partition.key in change.again
        if again or _reads_differently(commit, tally.fingerprint, change):
            one = _next(commit, at, said, again=again)
            yield replace(
                one, fingerprint=tally.fingerprint, rows=tally.rows, changed=tally.fingerprint != commit.fingerprint
            )


def _reads_differently(commit: Commit, found: str, change: Change) -> bool:
    """Whether the rows have another fingerprint since.

    Columns that fill themselves may not have counted before: as long as no value and no name has become another one,
    the record says all that there is to say.
    """
    told = {"type", "renamed", "dropped", "added"}
    return found != commit.fingerprint and any(one.kind in told for one in change.differences)


def _next(commit: Commit, at: datetime, said: Sequence[str], *, again: bool) -> Commit:
    """The record after this one. Its code version is none that builds: these rows were carried over."""
    return replace(
        commit,
        sequence=commit.sequence + 1,
        run_id=RUN,
        code_version=carried_over(commit.code_version),
        input_hash=asked_again(commit.input_hash) if again else commit.input_hash,
        rows_before=commit.rows,
        rows_added=None,
        rows_removed=None,
        rows_kept=None,
        changed=False,
        committed_at=at,
        schema_changes=tuple(said),
        deviation=None,
    )


def _tell(instance: dg.DagsterInstance, tables: Sequence[Stored]) -> None:
    """Write the events of the commits that no run of Dagster's has told of; a kill leaves some for the next time."""
    for stored in tables:
        known = events.known(instance, stored)
        last = stored.store.last_commits([stored.asset])
        mine = [
            commit
            for (_, key), commit in last.items()
            if commit.run_id == RUN and stored.owns(key) and known.get(key) != commit.fingerprint
        ]
        events.repair(instance, stored, mine, by="`etl contract apply`")
