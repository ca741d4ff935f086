"""Compare: the rows of rebuilds with each other and with what is committed.

Belongs here: when two builds can be expected to agree, and finding the two sets of rows in their files. What differs
between two sets of rows is told by `storage.deviation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import duckdb

from etl_project.proofs.prove.subject import Subject
from etl_project.settings import Settings
from etl_project.storage import ParquetStore
from etl_project.storage.contract import UNKNOWN, Commit, Deviation
from etl_project.storage.judging import deviation, judgement
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.judging.row_tally import Rows
from etl_project.storage.lake.layout import Lake
from etl_project.storage.lake.parquet import escaped
from etl_project.storage.sql import quote, text
from etl_project.storage.tables import owners
from etl_project.storage.tables.table import DuckDBTable

Built = tuple[Settings, Commit]
"""Where a rebuild lies, and the record of what it committed there."""


def among_themselves(subject: Subject, built: Sequence[Built]) -> Deviation | None:
    """What differs between the first rebuild and the first one that is different."""
    for place, commit in built[1:]:
        first_place, first = built[0]
        if commit.fingerprint != first.fingerprint:
            files = [(one.lake, one.warehouse) for one in (first_place, place)]
            return _explained(subject, first, *files)
    return None


def with_the_commit(
    subject: Subject, last: Commit | None, kept: Path, built: Sequence[Built]
) -> tuple[str, Deviation | None]:
    """How the first rebuild compares with the commit, in words; and what differs, if anything does."""
    why_not = _incomparable(last, built)
    if last is None or why_not is not None:
        return str(why_not), None
    place, commit = built[0]
    if last.fingerprint == commit.fingerprint:
        return "the same", None
    files = (kept / "lake", kept / "warehouse.duckdb"), (place.lake, place.warehouse)
    return "different, from the same inputs and code", _explained(subject, last, *files)


def _incomparable(last: Commit | None, built: Sequence[Built]) -> str | None:
    """Why the commit says nothing about the rebuilds: only the same inputs and code can be expected to agree."""
    if last is None:
        return "nothing is committed for this day"
    if not built:
        return "not compared: no rebuild went well"
    _, commit = built[0]
    if UNKNOWN in (last.input_hash, commit.input_hash):
        return "not compared: an input has no fingerprint"
    if last.input_hash != commit.input_hash:
        return "not compared: the inputs have changed since, or the config was another one"
    return "not compared: the code has changed since" if last.code_version != commit.code_version else None


def _explained(
    subject: Subject, former: Commit, old_files: tuple[Path, Path], new_files: tuple[Path, Path]
) -> Deviation:
    """The deviation of the subject's rows in one place from those in another."""
    with closing(duckdb.connect()) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, (_, warehouse) in (("etl_old", old_files), ("etl_new", new_files)):
            if warehouse.is_file():
                connection.execute(f"ATTACH {text(str(warehouse))} AS {name} (READ_ONLY)")
        old = _rows(connection, subject, "etl_old", old_files[0])
        new = _rows(connection, subject, "etl_new", new_files[0])
        return deviation.explain(connection, former, old, new, _key(connection, subject))


def _rows(connection: duckdb.DuckDBPyConnection, subject: Subject, database: str, lake: Path) -> Rows:
    table = subject.target.table
    if isinstance(subject.target.store, ParquetStore):
        file = Lake(lake).path(table, subject.key)
        relation = f"read_parquet([{text(escaped(file))}], hive_partitioning=false)"
    else:
        relation = f"{database}.{quote(owners.schema_of(connection, table, database))}.{quote(table.name)}"
    found = connection.sql(f"SELECT * FROM {relation}")
    columns = [Typed(c, quote(c), t) for c, t in zip(found.columns, found.types, strict=True)]
    return judgement.placed(relation, columns, table, subject.target.scope([subject.key]))._replace(only=(0,))


def _key(connection: duckdb.DuckDBPyConnection, subject: Subject) -> list[str]:
    if isinstance(subject.target.store, ParquetStore):
        return []
    connection.execute("USE etl_new")
    found = DuckDBTable(connection, subject.target.table).key()
    connection.execute("USE memory")
    return found
