"""Compare: the rows of rebuilds with each other and with what is committed.

Belongs here: when two builds can be expected to agree, and finding the two sets of rows in their files. What differs
between two sets of rows is told by `storage.judging.deviation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from etl_project.proofs.prove.subject import Subject
from etl_project.storage import (
    UNKNOWN,
    Commit,
    Deviation,
    Rows,
    Store,
    Typed,
    deviation,
    in_memory,
    judgement,
    quote,
    scannable,
)

Built = tuple[Store, Commit]
"""Where a rebuild lies, and the record of what it committed there."""


def among_themselves(subject: Subject, built: Sequence[Built]) -> Deviation | None:
    """What differs between the first rebuild and the first one that is different."""
    for store, commit in built[1:]:
        first_store, first = built[0]
        if commit.fingerprint != first.fingerprint:
            return _explained(subject, first, first_store, store)
    return None


def with_the_commit(
    subject: Subject, last: Commit | None, kept: Store, built: Sequence[Built]
) -> tuple[str, Deviation | None]:
    """How the first rebuild compares with the commit, in words; and what differs, if anything does."""
    why_not = _incomparable(last, built)
    if last is None or why_not is not None:
        return str(why_not), None
    store, commit = built[0]
    if last.fingerprint == commit.fingerprint:
        return "the same", None
    return "different, from the same inputs and code", _explained(subject, last, kept, store)


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


def _explained(subject: Subject, former: Commit, old: Store, new: Store) -> Deviation:
    """The deviation of the subject's rows in one store from those in another."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="etl-prove-"))
        connection = stack.enter_context(in_memory(Path(folder)))
        before, after = (_rows(connection, stack, subject, store) for store in (old, new))
        return deviation.explain(connection, former, before, after, new.key(subject.target.table))


def _rows(connection: duckdb.DuckDBPyConnection, stack: ExitStack, subject: Subject, store: Store) -> Rows:
    """The subject's rows, copied into the connection, which spills to disk where they are many."""
    table, scope = subject.target.table, subject.target.scope([subject.key])
    stream = stack.enter_context(store.batches(store.read(table, scope)))
    payload = stack.enter_context(scannable(connection, stream, stage=True))
    columns = [Typed(column.name, quote(column.name), column.type) for column in payload.columns]
    return judgement.placed(quote(payload.name), columns, table, scope)._replace(only=(0,))
