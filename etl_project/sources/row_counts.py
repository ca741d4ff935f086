"""Accounts: where every row of every accepted file is. Rows in the files = raw rows + rejects + records that
are no rows by the settings of the source; raw rows = rows in the table + rows that came more than once.

Belongs here: counting both sides, each where it lies, and saying where they differ. What is counted is what is there:
the archived files are read again, and no commit record is believed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import duckdb

from etl_project.declare import lake
from etl_project.settings import Settings
from etl_project.sources import lateness
from etl_project.sources.asset_names import Names
from etl_project.sources.day_reader import as_sent
from etl_project.sources.intake import archive
from etl_project.sources.reading import judge
from etl_project.sources.spec import SourceSpec
from etl_project.sources.typed import row_key
from etl_project.storage import Scope, Slice, Store, Table, has_table, quote
from etl_project.utc import ONE_DAY, day_of, days_between

NOTHING = judge.Counted(0, 0)
Days = tuple[date, date] | None
"""The days to look at, both included; None: all of them."""


class Files(NamedTuple):
    """One day of files: the rows that they hold, and where those went. `skipped`: records that are no rows."""

    in_files: int
    raw: int
    rejected: int
    skipped: int = 0


class RowCounts(NamedTuple):
    """One day of the table: the raw rows that belong to it, those that repeat another one, and what is there."""

    raw: int
    repeated: int
    stored: int


def raw_rows(spec: SourceSpec, configured: Settings, days: Days) -> Slice | None:
    """The raw rows of all files that can hold rows of these days; None where there are none."""
    raw = Names.of(spec.name).raw
    store = lake(configured)
    reach = None if days is None else days_between(days[0], days[1] + spec.lateness_days * ONE_DAY)
    commits = store.last_commits([raw], None if reach is None else {day.isoformat() for day in reach})
    if not commits:
        return None
    there = [day_of(str(key)) for _, key in commits]
    return store.read(Table(raw, raw), Scope.days(min(there), max(there)))


def of_files(
    spec: SourceSpec, configured: Settings, connection: duckdb.DuckDBPyConnection, raw: Slice | None, days: Days
) -> dict[date, Files]:
    """The rows of each day's files. `connection` is one to the warehouse."""
    read = {day: _together(counted) for day, counted in _counted(spec, configured, days)}
    counted = {} if raw is None else _by_day(connection, raw.sql, raw.params)
    rejected = _of_table(connection, Names.of(spec.name).rejects, days)
    return {
        day: Files(
            read.get(day, NOTHING).records, counted.get(day, 0), rejected.get(day, 0), read.get(day, NOTHING).skipped
        )
        for day in sorted({*read, *counted, *rejected})
        if _within(day, days)
    }


def _counted(spec: SourceSpec, configured: Settings, days: Days) -> Iterator[tuple[date, Sequence[judge.Counted]]]:
    """The records of the files of each day. A file that holds many days is read once."""
    known: dict[str, dict[date | None, judge.Counted]] = {}
    for day, accepted in archive.accepted_days(configured.archive, spec, days).items():
        if spec.day_from is None:
            yield day, [judge.count_rows(spec, file) for file in accepted]
            continue
        found = []
        for version in accepted:
            sent, home = as_sent(version, day)
            where = os.path.realpath(version.file)
            if where not in known:
                known[where] = judge.count_by_day(spec, sent)
            found.append(known[where].get(day, NOTHING))
            found += [known[where].get(None, NOTHING)] if day == home else []
        yield day, found


def of_rows(
    spec: SourceSpec, connection: duckdb.DuckDBPyConnection, raw: Slice | None, days: Days
) -> dict[date, RowCounts]:
    """The rows of each day of the table. `connection` is one to the warehouse."""
    belonging: dict[date, int] = {}
    distinct: dict[date, int] = {}
    if raw is not None:
        placed = f"SELECT * REPLACE ({lateness.event_day(spec)} AS batch_date) FROM ({raw.sql})"
        belonging = _by_day(connection, placed, raw.params)
        distinct = belonging
        if spec.deduplicate_on:
            distinct = _by_day(connection, f"SELECT DISTINCT {row_key(spec)} FROM ({placed})", raw.params)
    stored = _of_table(connection, Names.of(spec.name).typed, days)
    return {
        day: RowCounts(belonging.get(day, 0), belonging.get(day, 0) - distinct.get(day, 0), stored.get(day, 0))
        for day in sorted({*belonging, *stored})
        if _within(day, days)
    }


def behind(spec: SourceSpec, configured: Settings, warehouse: Store) -> set[date]:
    """The days of the table for which raw rows were committed after it was: due to be built, and so without account."""
    own, files = Names.of(spec.name), lake(configured)
    built = {key: commit.committed_at for (_, key), commit in warehouse.last_commits([own.typed]).items()}
    return {
        day
        for (_, key), commit in files.last_commits([own.raw]).items()
        for day in days_between(day_of(str(key)) - spec.lateness_days * ONE_DAY, day_of(str(key)))
        if str(day) not in built or built[str(day)] < commit.committed_at
    }


def pinned(spec: SourceSpec, configured: Settings, warehouse: Store) -> set[date]:
    """The days that somebody rolled back, in the raw rows or in the table: on purpose not what the files say."""
    own = Names.of(spec.name)
    commits = [*lake(configured).pinned([own.raw]), *warehouse.pinned([own.typed])]
    return {day_of(str(commit.partition)) for commit in commits}


def differences_of_files(counted: Mapping[date, Files]) -> Iterator[tuple[date, str]]:
    """The days on which files hold other rows than were read from them, and how, in words."""
    for day, rows in counted.items():
        if rows.in_files != rows.raw + rows.rejected + rows.skipped:
            skipped = f", {rows.skipped} skipped" if rows.skipped else ""
            yield day, f"{rows.in_files} rows in the files, {rows.raw} raw, {rows.rejected} rejected{skipped}"


def differences_of_rows(counted: Mapping[date, RowCounts]) -> Iterator[tuple[date, str]]:
    """The days on which the table holds other rows than belong there, and how, in words."""
    for day, rows in counted.items():
        if rows.raw != rows.stored + rows.repeated:
            yield day, f"{rows.raw} raw rows, {rows.stored} stored, {rows.repeated} repeated"


def _together(files: Sequence[judge.Counted]) -> judge.Counted:
    return judge.Counted(sum(one.records for one in files), sum(one.skipped for one in files))


def _within(day: date, days: Days) -> bool:
    return days is None or days[0] <= day <= days[1]


def _of_table(connection: duckdb.DuckDBPyConnection, table: str, days: Days) -> dict[date, int]:
    """How many rows each day of a table has; a table that was never built has none."""
    if not has_table(connection, table):
        return {}
    rows = f"SELECT batch_date FROM {quote(table)}"
    if days is None:
        return _by_day(connection, rows, {})
    return _by_day(connection, f"{rows} WHERE batch_date BETWEEN $first AND $last", {"first": days[0], "last": days[1]})


def _by_day(connection: duckdb.DuckDBPyConnection, rows: str, values: Mapping[str, Any]) -> dict[date, int]:
    """How many of the rows each day has."""
    query = f"SELECT batch_date, count(*) FROM ({rows}) GROUP BY batch_date"
    return dict(connection.execute(query, dict(values) or None).fetchall())
