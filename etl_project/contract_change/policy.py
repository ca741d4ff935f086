"""Policy: what the next write into a table would make of a contract that was edited and not applied.

Belongs here: one line for each difference, in the words of the drift policy. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from etl_project.contract_change.plan import Wanted, tables_by_store
from etl_project.due import Project
from etl_project.proofs import Stored
from etl_project.storage import Table, shape

_BY_WRITES = {
    "type": "a value that the old type does not hold is refused",
    "required": "the table still takes NULL",
    "nullable": "a NULL is refused",
    "default": "the table keeps its default",
    "check added": "the table does not check it",
    "check removed": "rows that break it are refused",
    "key added": "the table takes rows that share it",
    "key removed": "rows that share it are refused",
    "comment": "the table keeps its comment",
    "index added": "it is not made",
    "kept": "it gets NULL",
}


class Unapplied(NamedTuple):
    """A difference between a table and its contract, what a write does about it, and whether it may refuse rows."""

    asset: str
    said: str
    consequence: str
    refused: bool

    def __str__(self) -> str:
        return f"{self.asset}: {self.said}: {self.consequence}, until `etl contract apply {self.asset}`"


def unapplied(project: Project, targets: Sequence[Stored], wanted: Wanted) -> list[Unapplied]:
    """Every difference of the tables that are asked for. Raises StoreBusy (retrying helps) while a run holds one."""
    found: list[Unapplied] = []
    for store, tables in tables_by_store(targets, wanted):
        with store.look() as connection:
            # Where tables cannot be compared with it, what is judged is the contract as it is now.
            if connection is None or not store.engine.comparable:
                continue
            for stored in tables:
                target = store.engine.table(connection, stored.table)
                if stored.table.contract_sql is not None and target.exists():
                    have = shape.read(connection, target.schema, stored.table.name)
                    want = shape.wanted(stored.table)
                    found += _of_one(stored.asset, stored.table, have, want)
    return found


def _of_one(asset: str, table: Table, have: shape.Shape, want: shape.Shape) -> Iterator[Unapplied]:
    frozen = table.drift == "freeze"
    for one in shape.differences(have, want, shape.Wishes()):
        refused = one.kind in ("type", "nullable", "check removed", "key removed")
        consequence = _BY_WRITES.get(one.kind, "")
        if one.kind == "added":
            column = want.by_name[str(one.column).lower()]
            refused = frozen
            taken = "the next write adds it"
            bare = " without its DEFAULT and NOT NULL" if column.required or column.default else ""
            consequence = "`drift: freeze` refuses every write" if frozen else f"{taken}{bare}"
        if one.kind == "kept":
            must = have.by_name[str(one.column).lower()].required
            refused = must or frozen
            consequence = "every write is refused" if refused else consequence
        yield Unapplied(asset, one.said, consequence, refused)
