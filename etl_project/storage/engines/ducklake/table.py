"""The table of an asset in a DuckLake: what its contract says, in the words that DuckLake has, and the rest by SQL.

Belongs here: making the table of a contract without keys and checks, judging incoming rows by them, and types that
Parquet would not hold exactly. The contract is compiled by DuckDB itself, in a database in memory, so that it means
here what it means in a DuckDB file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from etl_project.storage.contract import WriteRefused
from etl_project.storage.judging.drift import Column, Pair
from etl_project.storage.judging.fingerprint import Typed
from etl_project.storage.sql import quote, text
from etl_project.storage.tables import rules
from etl_project.storage.tables.judged import JudgedTable
from etl_project.storage.tables.rules import Rules
from etl_project.storage.tables.table import kind_of

_EXACT_INSTEAD = {"HUGEINT": "DECIMAL(38,0)", "UHUGEINT": "DECIMAL(38,0)"}
"""Parquet has no integers of 128 bits: DuckDB writes them as floats."""
_INEXACT = re.compile(r"\b(?:U?HUGEINT|INTERVAL|TIME WITH TIME ZONE|TIME_NS|BIT|BIGNUM|UNION|ENUM)\b(?=\W|\Z)")
_NESTED = re.compile(r"(?:STRUCT|MAP)\(|.*\[\]\Z", re.DOTALL)
_ZERO = r"(^|[^0-9.])-0\.0($|[^0-9])"
_FLOATS = re.compile(r"\b(?:FLOAT|DOUBLE)\b")
_FIXED_LIST = re.compile(r"\[\d+\]")
_QUOTED = re.compile(r"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'")


class LakeTable(JudgedTable):
    """One asset's table in a lake, seen from inside a transaction."""

    def key(self) -> list[str]:
        """The columns of the contract's primary key, else of its first unique constraint."""
        keys = self.contract_rules().keys
        return list(keys[0].columns) if keys else []

    def stored_as(self, pair: Pair) -> Typed:
        """The value that an incoming column has once it is stored; a negative zero becomes zero.

        DuckDB's Parquet writer takes the two for one value where both are in a file (up to 1.5), and files are merged.
        """
        stored = super().stored_as(pair)
        if stored.type.id not in ("float", "double"):
            return stored
        return stored._replace(value=f"CASE WHEN ({stored.value}) = 0 THEN 0 ELSE ({stored.value}) END::{stored.type}")

    def home_of(self, column: Column) -> str:
        """As for data that comes in."""
        return self._stored_type(column)

    def not_held(self) -> list[str]:
        """Negative zeros: a merge of files would make zeros of them."""
        floats = [c.name for c in self.columns() if str(c.type.id) in ("float", "double")]
        if not floats:
            return self._negative_zeros(f"FROM {self.name}", {})
        found = ", ".join(f"count_if({quote(n)} = 0 AND signbit({quote(n)}))" for n in floats)
        [counts] = self._connection.execute(f"SELECT {found} FROM {self.name}").fetchall()
        told = "column {!r} has -0.0 in {} rows, which Parquet would not keep apart from 0.0"
        plain = [told.format(name, count) for name, count in zip(floats, counts, strict=True) if count]
        return plain + self._negative_zeros(f"FROM {self.name}", {})

    def broken_rules(self, names: Sequence[str], rows: str, values: Mapping[str, Any]) -> list[str]:
        """What the contract says and these rows, or they together with those that are there, do not keep."""
        held, stored = self.contract_rules(), self.completed(names, rows)
        return [
            *self._negative_zeros(stored, values),
            *rules.broken(self._connection, held, self.name, stored, self._apart(held), values),
        ]

    def widen(self, column: Column, kind: str) -> str:
        """Alter the column to a type that holds every old value; says so. Raises WriteRefused where DuckLake cannot."""
        return super().widen(column, _EXACT_INSTEAD.get(kind, kind))

    def _rules_of_columns(self) -> list[tuple[str, bool, bool]]:
        return self._rules_in_catalog()

    def _default_is_given(self) -> str:
        return "column_default IS NOT NULL AND column_default <> 'NULL'"

    def _stored_type(self, column: Column) -> str:
        kind = super()._stored_type(column)
        kind = _FIXED_LIST.sub("[]", _EXACT_INSTEAD.get(kind, kind))
        self._refuse_inexact(column.name, kind)
        return kind

    def _run_of_contract(self, statement: str) -> None:
        """A table without what DuckLake has no words for; an index is no promise about rows, and is passed over."""
        kind = kind_of(statement)
        if kind == "INDEX":
            return
        if kind in ("UNIQUE INDEX", "SEQUENCE", "TYPE"):
            raise WriteRefused(
                f"Asset {self.table.asset!r}: its contract has a {kind}, and DuckLake has none. Nothing was changed; "
                "retrying does not help. Write UNIQUE (...) into the table, or VARCHAR with a CHECK instead of a type."
            )
        self._connection.execute(self._without_rules(statement) if kind == "TABLE" else statement)

    def _without_rules(self, statement: str) -> str:
        made = rules.compiled(statement, self.schema, self.table.asset)
        for column in made.columns:
            self._refuse_inexact(column.name, str(column.type))
        columns = ", ".join(column.definition for column in made.columns)
        return f"CREATE TABLE IF NOT EXISTS {quote(made.schema)}.{quote(made.name)} ({columns})"

    def _refuse_inexact(self, name: str, kind: str) -> None:
        bare = _QUOTED.sub("", kind)
        if _INEXACT.search(bare) or _FIXED_LIST.search(bare):
            raise WriteRefused(
                f"Asset {self.table.asset!r}: column {name!r} is {kind}, which the Parquet files of a DuckLake do not "
                "hold exactly. Nothing was changed; retrying does not help. Give it another type: DECIMAL(38,0) for "
                "large integers, BIGINT of a stated unit for spans of time, VARCHAR for enumerations."
            )

    def _negative_zeros(self, rows: str, values: Mapping[str, Any]) -> list[str]:
        """Those inside of lists and records, which could come back as zeros: they are not looked for one by one."""
        nested = [c.name for c in self.columns() if _NESTED.match(str(c.type)) and _FLOATS.search(str(c.type))]
        if not nested:
            return []
        found = ", ".join(f"count_if(regexp_matches({quote(n)}::VARCHAR, {text(_ZERO)}))" for n in nested)
        [counts] = self._connection.execute(f"SELECT {found} FROM ({rows})", dict(values)).fetchall()
        told = "column {!r} has -0.0 inside of its values in {} rows, which Parquet would not keep apart from 0.0"
        return [told.format(name, count) for name, count in zip(nested, counts, strict=True) if count]

    def _apart(self, held: Rules) -> frozenset[tuple[str, ...]]:
        """Keys that two partitions cannot share, because they say which partition a row belongs to."""
        wanted = {name.lower() for name in self.table.partition_columns}
        keys = (key.columns for key in held.keys)
        return frozenset(key for key in keys if wanted and wanted <= {name.lower() for name in key})
