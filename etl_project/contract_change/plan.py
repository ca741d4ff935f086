"""Plan: what has to happen so that tables and raw files are what the contracts say, day by day.

Belongs here: which tables differ, which rows have no place, which partitions only need their values carried over and
which have to be built again, and what cannot live on. Nothing is changed. Carrying it out is `apply`'s.

A partition is built again where its rows may be others under the new contract: the archive of a source, or what an
asset reads, may hold what the old columns could not. It keeps its rows, carried over, until then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, get_args

import duckdb

from etl_project import utc
from etl_project.contract_change.raw_files import other_columns
from etl_project.due import Project
from etl_project.failures import Permanent
from etl_project.proofs import Asked, DaySpan, Stored, chosen
from etl_project.sources import Names, SourceSpec, archive, fit
from etl_project.storage import TableStore, conversion, is_asked_again, quote, reshape, shape

Acceptable = Literal["rows", "views", "files"]
ACCEPTABLE: tuple[str, ...] = get_args(Acceptable)
"""What may be accepted: rows that are set aside, views and indexes that break, archived files that no longer fit."""

_SILENT = {"comment", "index added", "kept", "default"}
"""Differences after which the same files and upstream rows give the same rows."""


class Unchangeable(Permanent):
    """The tables are in a database whose contracts are not applied by commands. Retrying does not help."""


class UnusableWish(Permanent):
    """What is asked for names no asset or no column. Retrying does not help."""


@dataclass(frozen=True)
class Wanted:
    """Which assets (all, if none is named), and by asset which columns are renamed and dropped."""

    assets: tuple[str, ...] = ()
    wishes: Mapping[str, shape.Wishes] = field(default_factory=dict)

    @classmethod
    def of(cls, assets: Sequence[str], renames: Sequence[str] = (), drops: Sequence[str] = ()) -> Wanted:
        """From words: `orders.amount=price` and `orders.note`. Raises UnusableWish."""
        renamed: dict[str, dict[str, str]] = {}
        dropped: dict[str, list[str]] = {}
        for wish in renames:
            where, _, new = wish.partition("=")
            asset, _, old = where.rpartition(".")
            if not (asset and old and new):
                raise UnusableWish(
                    f"--rename {wish!r}: write the asset, its column and the new name: orders.amount=price"
                )
            renamed.setdefault(asset, {})[new] = old
        for wish in drops:
            asset, _, old = wish.rpartition(".")
            if not (asset and old):
                raise UnusableWish(f"--drop {wish!r}: write the asset and its column: orders.note")
            dropped.setdefault(asset, []).append(old)
        named = {*renamed, *dropped}
        return cls(
            tuple(assets), {asset: shape.Wishes(renamed.get(asset, {}), dropped.get(asset, ())) for asset in named}
        )


@dataclass(frozen=True)
class Change:
    """What becomes of one asset. `again`: partitions to build again, each with the reason; `kept`: all others.

    `gone`: partitions that would be built again, but have no file in the archive any more: they are carried over.
    """

    stored: Stored
    differences: tuple[shape.Difference, ...] = ()
    again: Mapping[str | None, str] = field(default_factory=dict)
    kept: tuple[str | None, ...] = ()
    gone: tuple[str | None, ...] = ()
    unfit: tuple[conversion.Unfit, ...] = ()
    breaks: tuple[tuple[str, str], ...] = ()
    by_hand: str = ""

    @property
    def asset(self) -> str:
        """Whose table it is."""
        return self.stored.asset


@dataclass(frozen=True)
class Plan:
    """Everything that would happen. `rebuilt_files`: by source, the days whose raw rows and rejects are built again."""

    changes: tuple[Change, ...] = ()
    rebuilt_files: Mapping[str, Mapping[date, str]] = field(default_factory=dict)
    unfit_files: tuple[fit.Unfit, ...] = ()
    done_with: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether everything is as the contracts say."""
        return not (self.changes or self.rebuilt_files or self.done_with)

    def and_also(self, other: Plan) -> Plan:
        """Both plans as one."""
        return Plan(
            self.changes + other.changes,
            {**self.rebuilt_files, **other.rebuilt_files},
            self.unfit_files + other.unfit_files,
            self.done_with + other.done_with,
        )

    def refusals(self, accepted: Collection[str]) -> list[str]:
        """Why it may not be carried out, in words; each ends with what would accept it."""
        said = []
        if "rows" not in accepted:
            said += [f"{c.asset}: {one}. `--accept rows` sets them aside" for c in self.changes for one in c.unfit]
        if "views" not in accepted:
            said += [
                f"{c.asset}: {name} would not work any more ({why}). `--accept views` goes on without it"
                for c in self.changes
                for name, why in c.breaks
            ]
        if "files" not in accepted:
            said += [
                f"{one}. `--accept files` goes on: that day keeps its rows, and cannot be built"
                for one in self.unfit_files
            ]
        return said


def tables_by_store(targets: Sequence[Stored], wanted: Wanted) -> list[tuple[TableStore, list[Stored]]]:
    """The tables that are asked for, by the database that they lie in.

    Raises UnusableWish and Unverifiable (retrying does not help) for names that nothing has.
    """
    tables = [one for one in chosen(targets, wanted.assets) if isinstance(one.store, TableStore)]
    if unknown := sorted(wanted.wishes.keys() - {one.asset for one in tables}):
        raise UnusableWish(f"There is no table of {', '.join(unknown)} to rename or drop columns of.")
    stores: dict[str, tuple[TableStore, list[Stored]]] = {}
    for one in tables:
        assert isinstance(one.store, TableStore)
        stores.setdefault(one.store.identity, (one.store, []))[1].append(one)
    return list(stores.values())


def changeable(found: list[tuple[TableStore, list[Stored]]]) -> list[tuple[TableStore, list[Stored]]]:
    """The same. Raises Unchangeable (retrying does not help) for a database that is not DuckDB's own."""
    for store, _ in found:
        if not store.engine.comparable:
            raise Unchangeable(
                f"`etl contract` changes no tables of {store.identity}: it keeps keys, checks and defaults in other "
                "words than an edited contract, or not at all. Edited ones count from the next write on. For a column "
                "of another type or name: drop the table there (DROP TABLE name), then `etl drain`; it makes it by its "
                "contract, and builds its days from the archive and from what it reads. Nothing was changed; retrying "
                "does not help."
            )
    return found


def plan(project: Project, targets: Sequence[Stored], wanted: Wanted) -> Plan:
    """What would happen, for every database. Raises StoreBusy (retrying helps) while a run holds one."""
    whole = Plan()
    for store, tables in changeable(tables_by_store(targets, wanted)):
        with store.look() as connection:
            if connection is not None:
                whole = whole.and_also(look(connection, project, tables, wanted))
    return whole


def look(connection: duckdb.DuckDBPyConnection, project: Project, tables: Sequence[Stored], wanted: Wanted) -> Plan:
    """The plan for tables of one database as this connection sees it, with the raw files and the archive.

    Raises UnusableWish and WriteRefused (retrying does not help) for wishes about no column.
    """
    sources = {Names.of(spec.name).typed: spec for spec in project.sources}
    nodes = {node.asset: node for node in project.nodes}
    changes, rebuilt, unfit = [], {}, []
    for stored in tables:
        spec = sources.get(stored.asset)
        change, files = _of_one(connection, project, stored, spec, wanted.wishes.get(stored.asset, shape.Wishes()))
        if spec is not None and files:
            rebuilt[spec.name] = files
        if change is None:
            continue
        node = nodes.get(stored.asset)
        follows = node is not None and node.follows_inputs
        changes.append(change if follows or not change.again else _by_hand(change))
        if spec is not None and not all(one.kind in _SILENT for one in change.differences):
            unfit += list(fit.unfit(spec, project.settings.archive))
    return Plan(tuple(changes), rebuilt, tuple(unfit), tuple(_done_with(connection, tables)))


def _by_hand(change: Change) -> Change:
    return Change(
        **{**vars(change), "by_hand": f"`etl rebuild {change.asset}` builds them: it is not followed by itself"}
    )


def _of_one(
    connection: duckdb.DuckDBPyConnection,
    project: Project,
    stored: Stored,
    spec: SourceSpec | None,
    wishes: shape.Wishes,
) -> tuple[Change | None, dict[date, str]]:
    """The change of one table, None where there is none; and the days of its source to read again."""
    assert isinstance(stored.store, TableStore)
    table = stored.table
    target = stored.store.engine.table(connection, table)
    if table.contract_sql is None or not target.exists():
        return None, {}
    have = shape.read(connection, target.schema, table.name)
    want = shape.wanted(table)
    _refuse_without_place(stored, want)
    found = shape.differences(have, want, wishes)
    files = other_columns(project.lake, spec) if spec is not None else {}
    if not [one for one in found if one.kind != "kept"] and not files:
        return None, {}
    how = conversion.Conversion(connection, table, have, want, wishes)
    unfit = how.unfit(target.name)
    commits = {
        key: commit
        for (_, key), commit in stored.store.engine.records(connection).last([stored.asset]).items()
        if stored.owns(key)
    }
    again = dict(_again(connection, stored, spec, found, how, unfit, commits))
    if spec is not None and files:
        again |= {
            key: "its raw rows are built again" for key in commits if _reads(spec, key, files) and key not in again
        }
    read = _days_to_read(project, spec, again, files) if spec is not None else {}
    gone = _without_files(project, spec, again) if spec is not None else ()
    again = {key: why for key, why in again.items() if key not in gone}
    if all(one.kind == "kept" for one in found):  # What an earlier apply has asked for is pending, and no work here.
        again = {key: why for key, why in again.items() if not is_asked_again(commits[key].input_hash)}
        asked = _asked(connection, stored, Names.of(spec.name).rejects) if spec is not None else set()
        read = {day: why for day, why in read.items() if str(day) not in asked}
        if not again and not read:
            return None, {}
    change = Change(
        stored,
        tuple(found),
        again,
        tuple(sorted((key for key in commits if key not in again), key=str)),
        gone,
        tuple(unfit),
        (
            *reshape.broken_indexes(target, have, want, how.kept),
            *reshape.broken_views(connection, target, want, how.kept),
        ),
    )
    return change, read


def _refuse_without_place(stored: Stored, want: shape.Shape) -> None:
    missing = [name for name in stored.table.partition_columns if name.lower() not in want.by_name]
    if missing and stored.partitions is not None:
        raise UnusableWish(
            f"{stored.asset}: its contract has no column {', '.join(missing)}, which says whose rows are whose. "
            "Nothing was changed; retrying does not help. Put it back into the contract."
        )


def _again(
    connection: duckdb.DuckDBPyConnection,
    stored: Stored,
    spec: SourceSpec | None,
    found: Sequence[shape.Difference],
    how: conversion.Conversion,
    unfit: Sequence[conversion.Unfit],
    commits: Collection[str | None],
) -> Iterator[tuple[str | None, str]]:
    """The committed partitions whose rows may be others under the new contract, each with the reason."""
    telling = [one for one in found if one.kind not in _SILENT]
    whole = [
        one for one in telling if one.kind in ("added", "renamed") or (one.kind == "type" and how.rereads(one.column))
    ]
    if whole:
        why = "; ".join(one.said for one in whole)
        yield from ((key, why) for key in commits)
        return
    edited = {finding.partition for finding in stored.store.examine(stored.table, Asked(stored, DaySpan())).findings}
    yield from ((key, "its rows are not those of its commit") for key in commits if key in edited)
    moved = {key for one in unfit for key, _ in one.partitions}
    yield from ((key, "some of its rows have no place") for key in commits if str(key or "all") in moved)
    if spec is None or not telling:
        return
    rejected = _with_rejects(connection, stored, spec)
    yield from ((key, "rows of its files were rejects") for key in commits if _reads(spec, key, rejected))


def _with_rejects(connection: duckdb.DuckDBPyConnection, stored: Stored, spec: SourceSpec) -> set[date]:
    assert isinstance(stored.store, TableStore)
    rejects = Names.of(spec.name).rejects
    home = stored.store.engine.schema
    there = connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = ? AND table_name = ?",
        [home, rejects],
    ).fetchall()
    if not there:
        return set()
    return {
        d for (d,) in connection.execute(f"SELECT DISTINCT batch_date FROM {quote(home)}.{quote(rejects)}").fetchall()
    }


def _reads(spec: SourceSpec, key: str | None, days: Collection[date]) -> bool:
    """Whether a day of the typed table is made of one of these days of files."""
    if key is None:
        return False
    day = utc.day_of(key)
    return any(day + after * utc.ONE_DAY in days for after in range(spec.lateness_days + 1))


def _days_to_read(
    project: Project, spec: SourceSpec, again: Mapping[str | None, str], files: Mapping[date, str]
) -> dict[date, str]:
    """The days of files that the partitions to build again are made of, as far as the archive has them."""
    accepted = archive.accepted_days(project.settings.archive, spec)
    days = {
        utc.day_of(key) + after * utc.ONE_DAY: why
        for key, why in again.items()
        if key is not None
        for after in range(spec.lateness_days + 1)
    }
    return {day: why for day, why in sorted({**days, **files}.items()) if day in accepted}


def _asked(connection: duckdb.DuckDBPyConnection, stored: Stored, asset: str) -> set[str | None]:
    """The partitions of an asset beside this one that are to be built again already."""
    assert isinstance(stored.store, TableStore)
    last = stored.store.engine.records(connection).last([asset])
    return {key for (_, key), commit in last.items() if is_asked_again(commit.input_hash)}


def _without_files(project: Project, spec: SourceSpec, again: Mapping[str | None, str]) -> tuple[str | None, ...]:
    """The days to build again of which the archive has no file; closed days without one are built of nothing."""
    if spec.empty_days == "allowed":
        return ()
    accepted = archive.accepted_days(project.settings.archive, spec)
    return tuple(key for key in again if not _reads(spec, key, accepted))


def _done_with(connection: duckdb.DuckDBPyConnection, targets: Sequence[Stored]) -> Iterator[str]:
    """Tables of rows that were set aside, and whose partitions have all been built again."""
    for stored in targets:
        assert isinstance(stored.store, TableStore)
        target = stored.store.engine.table(connection, stored.table)
        comment = reshape.ASIDE.format(table=stored.table.name)
        mine = [name for name, said in reshape.tables_aside(connection, target.schema) if said == comment]
        if mine and not _asked(connection, stored, stored.asset):
            yield from (f"{quote(target.schema)}.{quote(name)}" for name in mine)
