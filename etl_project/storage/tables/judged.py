"""Tables whose rows are judged by SQL before they go in: what the catalog has no words for, or other ones.

Belongs here: what such a table has to know for it, the rules of its contract and the rows as they will be stored. What
is judged is said by each engine, the judging itself is `rules`'.
"""

from __future__ import annotations

from collections.abc import Sequence

from etl_project.storage.sql import quote
from etl_project.storage.tables import rules
from etl_project.storage.tables.rules import Rules
from etl_project.storage.tables.table import SqlTable


class JudgedTable(SqlTable):
    """One asset's table, seen from inside a transaction."""

    _rules: Rules | None = None

    def contract_rules(self) -> Rules:
        """What the contract says about rows; nothing without one."""
        if self._rules is None:
            script = self.table.contract_sql
            nothing = Rules()
            self._rules = (
                nothing
                if script is None
                else rules.of_contract(script, self.schema, self.table.name, self.table.asset) or nothing
            )
        return self._rules

    def completed(self, names: Sequence[str], rows: str) -> str:
        """The rows as they will be stored, with what the table itself puts into columns that do not come."""
        given = {name.lower() for name in names}
        query = (
            "SELECT column_name, data_type, coalesce(column_default, 'NULL') FROM duckdb_columns() "
            "WHERE database_name = current_database() "
            "AND lower(schema_name) = lower(?) AND lower(table_name) = lower(?)"
        )
        found = self._connection.execute(query, [self.schema, self.table.name]).fetchall()
        stored = (
            f"CAST({quote(name) if name.lower() in given else default} AS {kind}) AS {quote(name)}"
            for name, kind, default in found
        )
        return f"SELECT {', '.join(stored)} FROM ({rows}) AS etl_rows({', '.join(map(quote, names))})"
