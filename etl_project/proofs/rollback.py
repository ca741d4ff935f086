"""Rollback: days get the rows back that an earlier commit had left, and are pinned to them.

Belongs here: which kept rows each day goes back to, and the one write that brings them back. Does not belong here:
Dagster (`rollback_job`), locks, keeping versions (`storage`).

The write is a commit like every other one: one transaction for tables, one rename a day for files; it is recorded, what
it replaces is kept, and whatever reads the days is due afterwards. The commit has the input hash of the one whose rows
it replaced, so the days are not due before their inputs are others; a rebuild with the same inputs and code is refused
(`storage.judging.pins`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from itertools import chain, combinations, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from etl_project import utc
from etl_project.failures import Permanent
from etl_project.proofs.verify.targets import Stored
from etl_project.proofs.versions import partition_of
from etl_project.storage import (
    Commit,
    ReadRefused,
    Request,
    Restored,
    Scope,
    Slice,
    Sql,
    Typed,
    asked_again,
    at_commit,
    at_moment,
    in_memory,
    judgement,
    quote,
    row_tally,
    scannable,
)

_READINGS = 64


class CannotRollBack(Permanent):
    """What is asked for is not there, or was done before. Nothing was changed; retrying does not help."""


class Back(NamedTuple):
    """One day that goes back: to which rows, and from which commit."""

    key: str | None
    head: Commit
    sequence: int
    fingerprint: str | None


class Planned(NamedTuple):
    """The days that go back, and in words those that have nothing to go back to or are there already."""

    back: Sequence[Back]
    left: Sequence[str]


def days_of(target: Stored, day: str | None, until: str | None) -> list[str | None]:
    """The partition, or every committed day of the range. Raises CannotRollBack, NoSuchPartition."""
    first = partition_of(target, day)
    if until is None:
        return [first]
    if first is None or not (utc.is_day(first) and utc.is_day(until)) or until < first:
        raise CannotRollBack(
            f"{target.asset}: a range needs two days like 2025-03-20, the later one last, not {day!r} and {until!r}."
        )
    committed = (key for _, key in target.store.last_commits([target.asset]))
    return sorted((key for key in committed if key is not None and first <= key <= until), key=str)


def plan(target: Stored, keys: Sequence[str | None], to: int | None = None, as_of: datetime | None = None) -> Planned:
    """Where each day goes back to: the commit `to`, what was there at `as_of`, else the rows that were replaced last.

    All or none: raises CannotRollBack where the rows of a day are not kept, or nothing is left to do.
    """
    heads = target.store.last_commits([target.asset], keys)
    back, left, problems = [], [], []
    for key in keys:
        head = heads.get((target.asset, key))
        if head is None:
            problems.append(f"{key or 'all of it'} was never committed")
            continue
        try:
            found = _one(target, key, head, to, as_of)
        except ReadRefused as error:
            problems.append(str(error))
            continue
        if isinstance(found, str):
            left.append(f"{key or 'all of it'}: {found}")
        else:
            back.append(found)
    if problems:
        raise CannotRollBack(f"{target.asset} was not rolled back, nothing was changed: " + "; ".join(problems))
    if not back:
        raise CannotRollBack(f"{target.asset}: there is nothing to roll back: " + ("; ".join(left) or "no such days"))
    return Planned(back, left)


def _one(target: Stored, key: str | None, head: Commit, to: int | None, as_of: datetime | None) -> Back | str:
    """Where a day goes back to, or why it stays."""
    kept = target.store.versions(target.table, key)
    if to is None and as_of is None:
        if head.restored is not None:  # The version that is newest now holds the rows that were rolled back.
            return f"it was rolled back to commit {head.restored.sequence} already; another one has to be named"
        if not kept:
            raise ReadRefused(
                f"{target.asset} of {key or 'all'}: no version is kept (keep_versions: {target.table.keep_versions})"
            )
        version = kept[-1]
    else:
        history = target.store.history(target.asset, key)
        there = (
            at_commit(target.table, key, to, history, kept)
            if to is not None
            else at_moment(target.table, key, as_of or utc.now(), history, kept)
        )
        if there.version is None:
            return "those rows are there now"
        version = there.version
    fingerprint = version.commit.fingerprint if version.commit is not None else None
    if fingerprint == head.fingerprint:
        return "those rows are there now"
    return Back(key, head, version.sequence, fingerprint)


def roll_back(
    target: Stored, planned: Planned, run_id: str, reason: str, still_owner: Callable[[], None]
) -> list[Commit]:
    """Bring the rows back and pin the days. Raises what `Store.replace` raises; a kill leaves what that leaves."""
    pieces = [target.store.read_version(target.table, one.key, one.sequence) for one in planned.back]
    data = _together(target, planned, pieces)
    request = Request(
        run_id,
        input_hashes={one.key: one.head.input_hash for one in planned.back},
        allow_shrink=True,
        allow_change=True,
        still_owner=still_owner,
        restores={
            one.key: Restored(one.sequence, one.fingerprint, _code_version(one.head), reason) for one in planned.back
        },
    )
    return target.store.replace(target.table, _scope(target, planned.back), data, request)


def unpin(target: Stored, keys: Iterable[str | None], run_id: str, still_owner: Callable[[], None]) -> list[Commit]:
    """Let go of the rows that days are pinned to: they stay, and the days are due. Raises CannotRollBack for no pin.

    What the rows that were rolled back had been built from stays on record: it tells whether it is still there.
    """
    pinned = pinned_of(target, keys)
    back = [Back(commit.partition, commit, commit.sequence, commit.fingerprint) for commit in pinned]
    pieces = [target.store.read(target.table, _scope(target, [one])) for one in back]
    data = _together(target, Planned(back, ()), pieces)
    hashes = {one.key: asked_again(one.head.input_hash) for one in back}
    request = Request(
        run_id, input_hashes=hashes, allow_shrink=True, allow_change=True, still_owner=still_owner, unpins=True
    )
    return target.store.replace(target.table, _scope(target, back), data, request)


def pinned_of(target: Stored, keys: Iterable[str | None]) -> list[Commit]:
    """The commits that these days are pinned to. Raises CannotRollBack where there is none."""
    wanted = set(keys)
    pinned = [commit for commit in target.store.pinned([target.asset]) if commit.partition in wanted]
    if not pinned:
        raise CannotRollBack(f"{target.asset}: of these days none is pinned; `etl status` shows those that are.")
    return sorted(pinned, key=lambda commit: str(commit.partition))


def pins(targets: Sequence[Stored]) -> list[Commit]:
    """What the days of these assets are pinned to. One look at each store. Raises StoreBusy (retrying helps)."""
    stores = {str(target.store): target.store for target in targets}
    found = []
    for name, store in stores.items():
        found += store.pinned([target.asset for target in targets if str(target.store) == name])
    return sorted(found, key=lambda commit: (commit.asset, str(commit.partition)))


def pin_in_words(commit: Commit) -> str:
    """One line for a person."""
    back = commit.restored
    why = f" ({back.reason})" if back is not None and back.reason else ""
    at = back.sequence if back is not None else "?"
    return (
        f"{commit.asset} {commit.partition or 'all'} is pinned to the rows of commit {at}{why} "
        f"since {commit.committed_at:%Y-%m-%d %H:%M} (UTC)"
    )


def _code_version(head: Commit) -> str | None:
    """The code that gave the rows that go; behind one rollback stands another one."""
    return head.restored.code_version if head.restored is not None else head.code_version


def _scope(target: Stored, back: Sequence[Back]) -> Scope:
    return target.scope([] if back[0].key is None else [one.key for one in back])


def _together(target: Stored, planned: Planned, pieces: Sequence[Slice]) -> Sql:
    """The rows of all days as one query. Columns that fill themselves come only where they were part of the commit."""
    columns = [_content(target, one, piece) for one, piece in zip(planned.back, pieces, strict=True)]
    filled = {name.lower() for name in target.store.filled(target.table)}
    if len({frozenset(name.lower() for name in names if name.lower() in filled) for names in columns}) > 1:
        raise CannotRollBack(f"{target.asset}: some of these days brought columns that others filled; go day by day.")
    selects = [f"SELECT {', '.join(map(quote, names))} FROM day_{n}" for n, names in enumerate(columns)]
    return Sql(" UNION ALL BY NAME ".join(selects), **{f"day_{n}": piece for n, piece in enumerate(pieces)})


def _content(target: Stored, one: Back, piece: Slice) -> list[str]:
    """The columns whose values were the commit's: not those that the table had filled by their default.

    No record says which those are, but its fingerprint tells. Where none fits, all: the write will say what is wrong.
    """
    names: list[str] = target.store.arrow(replace(piece, sql=f"SELECT * FROM ({piece.sql}) LIMIT 0")).column_names
    own = {name.lower() for name in target.table.partition_columns}
    filled = {name.lower() for name in target.store.filled(target.table)} - own
    if one.fingerprint is None or not filled & {name.lower() for name in names}:
        return names
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="etl-rollback-"))
        connection = stack.enter_context(in_memory(Path(folder)))
        stream = stack.enter_context(target.store.batches(piece))
        payload = stack.enter_context(scannable(connection, stream, stage=True))
        doubtful = [name for name in names if name.lower() in filled]
        every = chain.from_iterable(combinations(doubtful, n) for n in range(len(doubtful) + 1))
        for left_out in islice(every, _READINGS):
            columns = [Typed(c.name, quote(c.name), c.type) for c in payload.columns if c.name not in left_out]
            rows = judgement.placed(quote(payload.name), columns, target.table, _scope(target, [one]))
            found = row_tally.tally(connection, rows)
            if found.get(0, row_tally.EMPTY).fingerprint == one.fingerprint:
                return [column.name for column in columns]
    return names
