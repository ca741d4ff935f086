"""Twins: rows of one day that share a key of the contract, of which the table can hold one.

Belongs here: finding them over all files of a day in bounded memory, and saying which of them are rejects. Does not
belong here: reading the files (`judge`), rows that a sender repeats without harm (`deduplicate_on`, see `typed`).

The keys of all rows are put beside each other in a database that spills to disk; nothing is left of it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from etl_project import settings
from etl_project.sources.reading.rows.row_rules import Fault
from etl_project.sources.spec import SourceSpec
from etl_project.storage import quote, scratch_folder

_MEMORY = "400MB"
_FATES = {
    "reject": ("true", "all of them are rejected"),
    "first": ("place > 1", "the first is kept"),
    "last": ("place < twins", "the last is kept"),
}
LOSERS = pa.schema([("source_line", pa.int64()), ("column_name", pa.string()), ("reason", pa.string())])


def losers(files: Sequence[tuple[str, Iterable[pa.Table]]], spec: SourceSpec) -> list[pa.Table]:
    """For each file (its name, its rows), in the order given, the lines that are rejects because of their key, and why.

    `on_duplicate_key` says which of the twins these are; the order is that of files and lines.
    """
    day = ("batch_date",) if spec.day_from is not None else ()  # The files may hold several.
    keys = [(*own, *day) for key in spec.rows.keys if (own := [name for name in key if name != "batch_date"])]
    wanted = list(dict.fromkeys(name for key in keys for name in key))
    with _database() as connection:
        connection.execute("CREATE TABLE names (file INTEGER, name VARCHAR)")
        made = False
        for number, (name, tables) in enumerate(files):
            connection.execute("INSERT INTO names VALUES (?, ?)", [number, name])
            for rows in tables:
                batch = rows.select(["source_line", *wanted])  # noqa: F841 - read by the statement
                what = "INSERT INTO rows" if made else "CREATE TABLE rows AS"
                connection.execute(f"{what} SELECT {number} AS file, * FROM batch")
                made = True
        found = [_losers_of(connection, key, spec) for key in keys] if made else []
        return [_of_file(found, number) for number in range(len(files))]


def faults(rows: pa.Table, losers: pa.Table) -> Iterator[Fault]:
    """The rows of a file that are among its losers."""
    found = pc.index_in(rows["source_line"], losers["source_line"])
    places = pc.indices_nonzero(found.is_valid())
    why = losers.take(found.drop_null())
    columns = (places.to_pylist(), why["column_name"].to_pylist(), why["reason"].to_pylist())
    yield from (Fault(*one) for one in zip(*columns, strict=True))


def _losers_of(connection: duckdb.DuckDBPyConnection, key: Sequence[str], spec: SourceSpec) -> pa.Table:
    """The rows that lose by this key. NULL equals nothing, as in the table itself."""
    columns = ", ".join(map(quote, key))
    which, fate = _FATES[str(spec.rows.on_duplicate_key)]
    shown = " || ', ' || ".join(f"'{name} = ' || CAST({quote(name)} AS VARCHAR)" for name in key)
    there = " AND ".join(f"{quote(name)} IS NOT NULL" for name in key)
    place = f"OVER (PARTITION BY {columns} ORDER BY file, source_line"
    every = f"{place} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
    # The twin that is named: the one that is kept; where none is, the first other one.
    twin = {
        "first": f"first_value(struct_pack(file, source_line)) {every}",
        "last": f"last_value(struct_pack(file, source_line)) {every}",
        "reject": f"CASE WHEN row_number() {place}) > 1 THEN first_value(struct_pack(file, source_line)) {every} "
        f"ELSE lead(struct_pack(file, source_line)) {place}) END",
    }[str(spec.rows.on_duplicate_key)]
    return connection.execute(
        f"""
        WITH repeated AS (SELECT {columns} FROM rows WHERE {there} GROUP BY ALL HAVING count(*) > 1),
        twins AS (
            SELECT file, source_line, {shown} AS shown, row_number() {place}) AS place, count(*) {every} AS twins,
                {twin} AS twin
            FROM rows SEMI JOIN repeated USING ({columns})
        )
        SELECT twins.file, source_line, $column AS column_name,
            'the key ' || shown || ' is that of line ' || twin.source_line || ' of ' || names.name || ' too; {fate} '
            || '(on_duplicate_key: {spec.rows.on_duplicate_key})' AS reason
        FROM twins JOIN names ON names.file = twin.file WHERE {which} ORDER BY ALL
        """,
        {"column": key[0]},
    ).to_arrow_table()


def _of_file(found: Sequence[pa.Table], number: int) -> pa.Table:
    """The losers of one file by any key, each line once."""
    own = (table.filter(pc.equal(table["file"], number)) for table in found)
    tables = [table.select(LOSERS.names).cast(LOSERS) for table in own]
    lines: dict[int, dict[str, object]] = {}
    for row in pa.concat_tables([LOSERS.empty_table(), *tables]).to_pylist():
        lines.setdefault(row["source_line"], row)
    return pa.Table.from_pylist([lines[line] for line in sorted(lines)], schema=LOSERS)


@contextmanager
def _database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database that spills under the data folder: keys are data, and a kill leaves them until the next start."""
    with scratch_folder(settings.load().data_dir) as folder:
        config: dict[str, Any] = {"threads": 1, "memory_limit": _MEMORY, "temp_directory": str(folder)}
        with duckdb.connect(":memory:", config=config) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
