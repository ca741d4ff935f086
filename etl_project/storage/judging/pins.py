"""Pins: a partition whose rows were brought back keeps them while its inputs and its code stay as they were.

Belongs here: refusing what would undo a rollback at once, and a rollback to rows that are not those of their commit.
"""

from __future__ import annotations

from collections.abc import Mapping

from etl_project.storage.contract import Commit, Request, Scope, Table
from etl_project.storage.judging.messages import DataFault, refused
from etl_project.storage.judging.row_tally import Tally


def refuse_others(
    table: Table, scope: Scope, request: Request, new: Mapping[int, Tally], previous: Mapping[int, Commit]
) -> None:
    """Refuse rows that are not those that are to be brought back, or that a pin holds off.

    Raises DataFault (retrying does not help).
    """
    keys = [partition.key for partition in scope.partitions]
    altered = [
        f"partition {keys[n]!r}: what was kept of commit {wanted.sequence} is not what it had committed "
        f"({tally.fingerprint}, committed {wanted.fingerprint}): the rows were edited before they were replaced"
        for n, tally in new.items()
        if (wanted := request.restores.get(keys[n])) is not None and wanted.fingerprint not in (None, tally.fingerprint)
    ]
    if altered:
        raise DataFault(refused(table, scope, altered, "Go back to another commit; `etl history` lists them."))
    pinned = [
        f"partition {keys[n]!r} is pinned to the rows of commit {last.restored.sequence}"
        + (f" ({last.restored.reason})" if last.restored.reason else "")
        for n, tally in new.items()
        if (last := previous.get(n)) is not None
        and last.restored is not None
        and not (request.unpins or keys[n] in request.restores)
        and tally.fingerprint != last.fingerprint
        and (request.input_hashes.get(keys[n]), request.code_version) == (last.input_hash, last.restored.code_version)
    ]
    if pinned:
        advice = (
            f"The inputs and the code are those that gave the rows which were rolled back. Change one of them, or say "
            f"`etl unpin {table.asset} --day {keys[0] if len(keys) == 1 else '...'}`."
        )
        raise DataFault(refused(table, scope, pinned, advice))
