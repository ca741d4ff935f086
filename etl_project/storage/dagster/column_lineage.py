"""Column lineage: what Dagster's UI shows of the columns that an asset's columns are computed from.

Belongs here: the slices of a query as columns of assets, and Dagster's words for what `sql_lineage` reads off the text.

It is read off the query that was run, after its commit, and said with the event of the commit. Where a query cannot be
followed nothing is shown, and the debug log of the run says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from etl_project.storage.contract import Commit, Partial, Slice, Sql
from etl_project.storage.dagster.preview import plain
from etl_project.storage.sql import quote
from etl_project.storage.sql_lineage import NotFollowed, columns_behind

COLUMN_LINEAGE = "dagster/column_lineage"
"""The event metadata for it in Dagster: the API gives it, Dagster+ draws it, the open-source UI shows it as JSON."""
IN_WORDS = "computed from"
"""The event metadata that says the same for people, as a table."""
_EVENTS = 100
_COLUMN_SCHEMA = "dagster/column_schema"


def said_of(context: dg.OutputContext, data: Any) -> dict[str, Any]:
    """The metadata to say with the events of a write; none where the data is no query, or somebody says it already."""
    query = data.data if isinstance(data, Partial) else data
    if not isinstance(query, Sql) or COLUMN_LINEAGE in {**(context.output_metadata or {})}:
        return {}
    schema = context.definition_metadata.get(_COLUMN_SCHEMA)
    schema = getattr(schema, "schema", schema)
    declared = [column.name for column in schema.columns] if isinstance(schema, dg.TableSchema) else []
    try:
        found = lineage_of(query, context.asset_key, declared)
        return {COLUMN_LINEAGE: found, IN_WORDS: dg.MetadataValue.md(in_words(found))}
    except NotFollowed as why:
        context.log.debug(f"No column lineage of {context.asset_key.to_user_string()} is shown: {why}.")
        return {}


def as_said_before(instance: dg.DagsterInstance, asset: dg.AssetKey, commit: Commit) -> dict[str, Any]:
    """The metadata that the newest event of the same rows of a partition has; none where no such event has any.

    For rows that come back without a query: what they were computed from is what it was.
    """
    partitions = None if commit.partition is None else [commit.partition]
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=partitions)
    for record in instance.fetch_materializations(wanted, limit=_EVENTS).records:
        said = record.asset_materialization.metadata if record.asset_materialization is not None else {}
        if COLUMN_LINEAGE in said and said["fingerprint"].value == commit.fingerprint:
            return {name: said[name] for name in (COLUMN_LINEAGE, IN_WORDS) if name in said}
    return {}


def lineage_of(query: Sql, asset: dg.AssetKey, declared: list[str]) -> dg.TableColumnLineage:
    """For each column of the query the columns of assets that it is computed from, spelt as they are `declared`.

    Columns of the asset's own earlier partitions are left out. Raises NotFollowed (retrying does not help).
    """
    over = _Over()
    text = over.text_of(query)
    spelt = {name.lower(): name for name in declared}
    deps = {
        spelt.get(column.lower(), column): [
            dg.TableColumnDep(dg.AssetKey.from_user_string(over.assets[each.table]), each.column)
            for each in behind
            if over.assets[each.table] != asset.to_user_string()
        ]
        for column, behind in columns_behind(text, over.columns).items()
    }
    return dg.TableColumnLineage(deps_by_column=deps)


def in_words(lineage: dg.TableColumnLineage) -> str:
    """A Markdown table: each column, and the columns of which assets it is computed from."""
    lines = ["| column | computed from |", "| --- | --- |"]
    for column, deps in lineage.deps_by_column.items():
        behind = ", ".join(plain(f"{dep.asset_key.to_user_string()}.{dep.column_name}") for dep in deps)
        lines.append(f"| {plain(column)} | {behind or 'no column'} |")
    return "\n".join(lines)


@dataclass
class _Over:
    """The tables that a query is over, as it is taken apart: their columns, and the assets whose rows they are."""

    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    assets: dict[str, str] = field(default_factory=dict)

    def text_of(self, query: Sql) -> str:
        """The query over tables: a slice as it was read is one, one that was changed is a query over one."""
        inner = []
        params: dict[str, Any] = {}
        for name, piece in query.inputs.items():
            params.update(piece.params)
            made_as = piece.made_as
            if made_as is not None and made_as.sql == piece.sql:
                self._add(name, piece)
            else:
                inner.append(f"{quote(name)} AS ({self._around(name, piece)})")
        text = query.query.strip().rstrip(";")
        return _without_params(f"WITH {', '.join(inner)} SELECT * FROM (\n{text}\n)" if inner else text, params)

    def _around(self, name: str, piece: Slice) -> str:
        """The SQL of a slice that somebody changed, over a table of the rows that were read."""
        if piece.made_as is None:
            return piece.sql
        read = piece.made_as.sql
        if read not in piece.sql:
            raise NotFollowed(f"the SQL of its input {name!r} is not put around what was read")
        table = f"etl_read_as_{name}"
        self._add(table, piece)
        return piece.sql.replace(read, f"SELECT * FROM {quote(table)}")

    def _add(self, table: str, piece: Slice) -> None:
        if piece.made_as is not None:
            self.columns[table], self.assets[table] = piece.made_as.columns, piece.made_as.asset


def _without_params(text: str, params: Mapping[str, Any]) -> str:
    """Values for parameters: to sqlglot `$a, $` begins a text between dollars."""
    if not params:
        return text
    return re.sub(rf"\$(?:{'|'.join(map(re.escape, params))})\b", "NULL", text)
