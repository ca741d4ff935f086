"""Unlike: in what a table that is there in the target already is not the one that a copy would make.

Belongs here: naming it. Nothing is changed in such a table but its rows: what somebody has made there is theirs, and
what the source has got since comes with the table when it is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

from etl_project.storage.contract import WriteRefused
from etl_project.storage.copying.drawn import WIDE, Drawn
from etl_project.storage.judging.drift import Column, impossible
from etl_project.storage.tables import shape
from etl_project.storage.tables.engine import Engine
from etl_project.storage.tables.shape import Attribute, Shape
from etl_project.storage.tables.table import SqlTable


def refuse_other_kinds(drawn: Drawn, here: SqlTable, what: str) -> None:
    """Raise WriteRefused (retrying does not help) for columns whose values can never be those of the source.

    Their bits may be the same, as those of moments with and without a zone are: no fingerprint tells them apart.
    """
    there = {column.name.lower(): column for column in here.columns()}
    problems = [
        problem
        for column in drawn.columns
        if column.name.lower() in there and (problem := impossible(column, there[column.name.lower()]))
    ]
    if problems:
        raise WriteRefused(
            f"{what}: {'; '.join(problems)}. Nothing was changed; retrying does not help. Give the columns of the "
            "table that is there these types, or drop it: a copy makes it."
        )


def lacking(
    drawn: Drawn, engine: Engine, connection: duckdb.DuckDBPyConnection, here: SqlTable, alike: bool
) -> list[str]:
    """What the table of the source has and this one does not, although its database could have it.

    `alike`: both databases are DuckDB's own files, whose words for defaults and checks are the same.
    """
    have = engine.known(connection, here, shape.read(connection, here.schema, here.table.name))
    filled = {name.lower() for name in have.defaults_unsaid}
    return [
        *_of_types(drawn.columns, here),
        *_of_columns(drawn.shape, have.shape, filled, alike),
        *_of_table(drawn.shape, have.shape, engine.keyed, alike),
    ]


def _of_types(columns: tuple[Column, ...], here: SqlTable) -> Iterator[str]:
    there = {column.name.lower(): str(column.type) for column in here.columns()}
    for column in columns:
        name = column.name.lower()
        if name not in there or there[name] in (str(column.type), here.home_of(column)):
            continue
        if str(column.type.id) in WIDE and there[name] == "BIGINT":
            continue  # So a copy makes it where all values fit.
        yield f"the type {column.type} of column {column.name} (it is {there[name]} there)"


def _of_columns(want: Shape, have: Shape, filled: set[str], alike: bool) -> Iterator[str]:
    for column in want.columns:
        there = have.by_name.get(column.name.lower())
        if there is None:
            continue
        if column.required and not there.required:
            yield f"NOT NULL of column {column.name}"
        if _has_other_default(column, there, alike) and column.name.lower() not in filled:
            yield f"the default {column.default} of column {column.name}"
        if column.comment is not None and column.comment != there.comment:
            yield f"the comment of column {column.name}"


def _has_other_default(want: Attribute, have: Attribute, alike: bool) -> bool:
    wanted, there = ((None if one.default == "NULL" else one.default) for one in (want, have))
    return wanted is not None and (there is None or (alike and wanted != there))


def _of_table(want: Shape, have: Shape, keyed: bool, alike: bool) -> Iterator[str]:
    if want.comment is not None and want.comment != have.comment:
        yield "the comment of the table"
    if alike:
        yield from (f"CHECK {one}" for one in want.checks if one not in have.checks)
    if keyed:
        there = {(kind, tuple(map(str.lower, columns))) for kind, columns in have.keys}
        for kind, columns in want.keys:
            if (kind, tuple(map(str.lower, columns))) not in there:
                yield f"{kind} ({', '.join(columns)})"
        indexes = {index.name.lower() for index in have.indexes}
        yield from (f"index {index.name}" for index in want.indexes if index.name.lower() not in indexes)
