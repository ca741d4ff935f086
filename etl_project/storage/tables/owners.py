"""Owners: which asset a table belongs to, and where the table of an asset lies.

Belongs here: the table `etl_tables` in the database itself, which is written in the transaction that writes the rows,
and what follows from it: an asset never replaces rows that another asset has committed, and a table that was committed
before its asset's key prefix named a schema is found where it is. Names of tables count without their case, as DuckDB
counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from etl_project.storage.contract import ReadRefused, Table, WriteRefused
from etl_project.storage.sql import has_table, quote
from etl_project.storage.tables.records import NAME as COMMITS

TABLE = "etl_tables"

_COLUMNS = """(
    schema_name VARCHAR NOT NULL,
    table_name VARCHAR NOT NULL,
    asset VARCHAR NOT NULL,
    frame BLOB{key}
)
"""
_KEY = ", PRIMARY KEY (schema_name, table_name)"


def schema_of(connection: duckdb.DuckDBPyConnection, table: Table, home: str = "main") -> str:
    """The schema that holds the table of an asset. `home` is that of all whose asset names none.

    It is the one that was named. Where the key's prefix gave it, a table that the asset has committed elsewhere counts
    first: before version 0.2 every table of an asset without a schema of its own lay in `main`.
    """
    if not table.schema_from_prefix or table.schema is None:
        return table.schema or home
    catalog = _Catalog(connection, home)
    owned = catalog.schema_owned(table)
    if owned is not None:
        return owned
    committed_at_home = has_table(connection, table.name, home) and catalog.has_commits(table.asset)
    return home if committed_at_home else table.schema


@dataclass(frozen=True)
class Held:
    """A partition as it is before the write: its key, its rows and their fingerprint."""

    key: str | None
    rows: int
    fingerprint: str


def claim(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    schema: str,
    made: bool,
    held: Callable[[], Sequence[Held]],
    home: str = "main",
    keyed: bool = True,
) -> None:
    """Note in the open transaction that the table is this asset's. `keyed`: whether the catalog keeps primary keys.

    `made`: the table comes into being in this very transaction. `held` looks what the partitions of the write hold; it
    is asked only about tables that were written before owners were noted.
    Raises WriteRefused (retrying does not help) when the table belongs to another asset.
    """
    if not has_table(connection, TABLE, home):
        columns = _COLUMNS.format(key=_KEY if keyed else "")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {quote(home)}.{TABLE} {columns}")
    catalog = _Catalog(connection, home)
    owner = catalog.owner(schema, table.name)
    if owner == table.asset:
        return
    if owner is not None and not made and owner != table.renamed_from:
        raise WriteRefused(_refusal(table, schema, f"the asset {owner!r} has committed its rows", owner))
    if owner is None and not made:
        _refuse_rivals(catalog, table, schema, held)
    catalog.note(schema, table.name, table.asset, known=owner is not None)


def noted(connection: duckdb.DuckDBPyConnection, home: str = "main") -> list[tuple[str, str, str]]:
    """Every table that an asset has noted as its own: schema and name as the catalog spells them, and the asset."""
    if not has_table(connection, TABLE, home):
        return []
    return connection.execute(
        f"SELECT there.schema_name, there.table_name, asset FROM {quote(home)}.{TABLE} AS noted "
        "JOIN duckdb_tables() AS there ON lower(there.schema_name) = noted.schema_name "
        "AND lower(there.table_name) = noted.table_name WHERE database_name = current_database() ORDER BY ALL"
    ).fetchall()


def note_frame(
    connection: duckdb.DuckDBPyConnection, schema: str, name: str, frame: bytes | None, home: str = "main"
) -> None:
    """Keep the types of a frame with the table that it was written to; without any, those from before stay."""
    if frame is None:
        return
    connection.execute(
        f"UPDATE {quote(home)}.{TABLE} SET frame = $frame "
        "WHERE schema_name = lower($schema) AND table_name = lower($name) AND frame IS DISTINCT FROM $frame",
        {"frame": frame, "schema": schema, "name": name},
    )


def forget_frame(connection: duckdb.DuckDBPyConnection, schema: str, name: str, home: str = "main") -> None:
    """Forget the types of a frame whose columns have become others."""
    if has_table(connection, TABLE, home):
        connection.execute(
            f"UPDATE {quote(home)}.{TABLE} SET frame = NULL WHERE schema_name = lower(?) AND table_name = lower(?)",
            [schema, name],
        )


def frame_of(connection: duckdb.DuckDBPyConnection, schema: str, name: str, home: str = "main") -> bytes | None:
    """The types with which the table was written last, where somebody said so."""
    return _Catalog(connection, home).frame(schema, name) if has_table(connection, TABLE, home) else None


def refuse_another(connection: duckdb.DuckDBPyConnection, table: Table, schema: str, home: str = "main") -> None:
    """Refuse to read a table that belongs to another asset. Raises ReadRefused (retrying does not help)."""
    owner = _Catalog(connection, home).owner(schema, table.name) if has_table(connection, TABLE, home) else None
    if owner not in (None, table.asset, table.renamed_from):
        raise ReadRefused(
            f"Asset {table.asset!r}: the table {schema}.{table.name} belongs to the asset {owner!r}, so its rows are "
            "none of this asset's. Retrying does not help. Give one of the two a table of its own by the metadata "
            "'schema' or 'table'."
        )


def without_table(
    connection: duckdb.DuckDBPyConnection, tables: Mapping[str, str], home: str = "main"
) -> frozenset[str]:
    """Those of these assets, each with the name of its table, whose table is not there any more; a view counts as one.

    It is looked for where the asset has noted it: a table of the same name in another schema is another table. Of an
    asset that has noted none, written before owners were, any table of that name is taken for it.
    """
    found = connection.execute(
        "SELECT lower(schema_name), lower(table_name) FROM duckdb_tables() WHERE database_name = current_database() "
        "UNION SELECT lower(schema_name), lower(view_name) FROM duckdb_views() WHERE database_name = current_database()"
    )
    there = set(found.fetchall())
    names = {name for _, name in there}
    noted: dict[tuple[str, str], set[tuple[str, str]]] = {}
    if has_table(connection, TABLE, home):
        rows = connection.execute(f"SELECT asset, schema_name, table_name FROM {quote(home)}.{TABLE}").fetchall()
        for asset, schema, name in rows:
            noted.setdefault((asset, name), set()).add((schema, name))
    gone = set()
    for asset, table in tables.items():
        places = noted.get((asset, table.lower()))
        if not (places & there if places is not None else table.lower() in names):
            gone.add(asset)
    return frozenset(gone)


def _refuse_rivals(catalog: _Catalog, table: Table, schema: str, held: Callable[[], Sequence[Held]]) -> None:
    """Nobody noted whose table it is: the commit records of assets of that name tell, and what is in the table."""
    rivals = [asset for asset in catalog.unplaced_namesakes(table) if asset != table.renamed_from]
    if not rivals:
        return
    if not catalog.has_commits(table.asset):
        raise WriteRefused(
            _refusal(table, schema, f"{', '.join(map(repr, rivals))} may have committed its rows", rivals[0])
        )
    for there in held():
        prints = catalog.last_fingerprints(there.key, [table.asset, *rivals])
        for rival in rivals:
            if there.rows and prints.get(rival) == there.fingerprint != prints.get(table.asset):
                found = f"it holds the rows that the asset {rival!r} has committed for partition {there.key!r}"
                raise WriteRefused(_refusal(table, schema, found, rival))


def _refusal(table: Table, schema: str, found: str, other: str) -> str:
    return (
        f"Asset {table.asset!r}: the write into the table {schema}.{table.name} was refused and nothing was changed: "
        f"{found}, and an asset never replaces those of another one (names of tables do not differ by case). "
        "Retrying does not help. Give one of the two a table of its own by the metadata 'schema' or 'table'; if the "
        f"asset {other!r} has become this one, say so by the metadata 'renamed_from': {other!r}."
    )


class _Catalog:
    """What a database says about owners and commits; it need not have either."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, home: str) -> None:
        self._connection = connection
        self._home = home
        self._owners = f"{quote(home)}.{TABLE}"
        self._commits = f"{quote(home)}.{COMMITS}"

    def owner(self, schema: str, name: str) -> str | None:
        """The asset that has noted the table as its own."""
        found = self._all(
            f"SELECT asset FROM {self._owners} WHERE schema_name = lower($schema) AND table_name = lower($name)",
            schema=schema,
            name=name,
        )
        return str(found[0][0]) if found else None

    def frame(self, schema: str, name: str) -> bytes | None:
        """What was kept about the types of a frame."""
        found = self._all(
            f"SELECT frame FROM {self._owners} WHERE schema_name = lower($schema) AND table_name = lower($name)",
            schema=schema,
            name=name,
        )
        return found[0][0] if found else None

    def schema_owned(self, table: Table) -> str | None:
        """The schema in which the asset, or the one it was renamed from, has noted the table as its own."""
        if not has_table(self._connection, TABLE, self._home):
            return None
        found = self._all(
            f"SELECT schema_name FROM {self._owners} WHERE table_name = lower($name) "
            "AND asset IN ($asset, $former) ORDER BY asset <> $asset, schema_name",
            name=table.name,
            asset=table.asset,
            former=table.renamed_from or table.asset,
        )
        return str(found[0][0]) if found else None

    def note(self, schema: str, name: str, asset: str, known: bool) -> None:
        """Make the asset the owner. Somebody who did so since the transaction began is a conflict: try again."""
        change = (
            f"UPDATE {self._owners} SET asset = $asset WHERE schema_name = lower($schema) AND table_name = lower($name)"
            if known
            else f"INSERT INTO {self._owners} VALUES (lower($schema), lower($name), $asset, NULL)"
        )
        try:
            self._all(change, schema=schema, name=name, asset=asset)
        except duckdb.ConstraintException as error:
            raise duckdb.TransactionException(str(error)) from error

    def has_commits(self, asset: str) -> bool:
        """Whether there is a commit record of the asset."""
        if not has_table(self._connection, COMMITS, self._home):
            return False
        return bool(self._all(f"SELECT 1 FROM {self._commits} WHERE asset = $asset LIMIT 1", asset=asset))

    def unplaced_namesakes(self, table: Table) -> list[str]:
        """Other assets of that name that have commits here, and none of whose tables is known."""
        query = (
            f"SELECT DISTINCT asset FROM {self._commits} WHERE asset <> $asset "
            "AND lower(string_split(asset, '/')[-1]) = lower($name) "
            f"AND asset NOT IN (SELECT asset FROM {self._owners}) ORDER BY asset"
        )
        return [row[0] for row in self._all(query, asset=table.asset, name=table.name)]

    def last_fingerprints(self, key: str | None, assets: Sequence[str]) -> Mapping[str, str]:
        """What these assets committed last for a partition."""
        query = (
            f"SELECT asset, arg_max(fingerprint, sequence) FROM {self._commits} "
            "WHERE partition_key = $key AND asset IN (SELECT unnest($assets::VARCHAR[])) GROUP BY asset"
        )
        return dict(self._all(query, key=key or "", assets=list(assets)))

    def _all(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()
