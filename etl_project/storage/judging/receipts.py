"""Read receipts: which partitions, with which fingerprints, a step has read.

Belongs here: the book in which everything that a step reads is noted, whoever reads it (any IO manager, the asset's
body), and what follows from it at commit: the input hash of each partition written, and whether something that was
read has been rewritten since. A book lives exactly as long as the step's execution context.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from etl_project.storage.contract import (
    UNKNOWN,
    Commit,
    InputChanged,
    InputMissing,
    Receipt,
    Scope,
    Store,
    Table,
    input_hash,
)

Lookup = Callable[[Iterable[str], Collection[str | None]], Mapping[tuple[str, str | None], Commit]]

CONFIG = "run config"
"""Stands in receipts for a step's run config: no asset can have a name with a space."""

_SHOWN = 10


class ReceiptBook:
    """What one step has read so far."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str | None], str | None] = {}
        self._partly: set[str] = set()

    def add(self, asset: str, partition: str | None, fingerprint: str | None) -> None:
        """Note that this partition was read with this fingerprint; None: nobody knows which.

        The same partition read twice with different content leaves no fingerprint: no hash can stand for both.
        """
        key = (asset, partition)
        if key in self._entries and self._entries[key] != fingerprint:
            fingerprint = None
        self._entries[key] = fingerprint

    def may_be_absent(self, asset: str) -> None:
        """Note that the partitions of this asset which are not added were missing, and may be.

        That covers those that did not even exist when it was read: a day may begin between reading and writing.
        """
        self._partly.add(asset)

    def knows(self, asset: str, partition: str | None) -> bool:
        """Whether this partition was read or looked for, be it without a fingerprint."""
        return (asset, partition) in self._entries or asset in self._partly

    def input_hashes(self, parents: Mapping[str | None, Sequence[tuple[str, str | None]]]) -> dict[str | None, str]:
        """The input hash of each output partition, whose parents are given.

        Taken over exactly what was `read_for` it; UNKNOWN where a parent has no fingerprint.
        """
        return {key: input_hash(read) for key, read in self.read_for(parents).items()}

    def read_for(
        self, parents: Mapping[str | None, Sequence[tuple[str, str | None]]]
    ) -> dict[str | None, list[tuple[str, str | None, str | None]]]:
        """What was read for each output partition: asset, partition and fingerprint.

        The receipts of its parents, and what else was noted for that partition or as a whole (an asset's body notes
        its files).
        """
        mapped = {asset for group in parents.values() for asset, _ in group}
        others: dict[str | None, list[tuple[str, str | None]]] = {}
        for asset, partition in self._entries:
            if asset not in mapped:
                others.setdefault(partition, []).append((asset, partition))
        return {
            key: self._noted([*group, *others.get(key, []), *(others.get(None, []) if key is not None else [])])
            for key, group in parents.items()
        }

    def _noted(self, wanted: Iterable[tuple[str, str | None]]) -> list[tuple[str, str | None, str | None]]:
        return [
            (asset, key, self._entries.get((asset, key)))
            for asset, key in wanted
            if (asset, key) in self._entries or asset not in self._partly
        ]


# One book a running step, gone with it: nothing is kept between steps.
_BOOKS: WeakKeyDictionary[Any, ReceiptBook] = WeakKeyDictionary()


def receipts_of(step_context: Any) -> ReceiptBook:
    """The book of the step; the same one for every IO manager and for the asset's body.

    `step_context` is `context.step_context` in an IO manager, `context.get_step_execution_context()` in an asset.
    """
    return _BOOKS.setdefault(step_context, ReceiptBook())


def note_config(step_context: Any) -> None:
    """Note the step's run config as something that was read, unless it is the default: that is part of the code.

    So a partition built with a config of its own has another input hash, and is due again under the default one.
    """
    config, field = step_context.op_config, step_context.op_def.config_schema.as_field()
    if not config or (field.default_provided and config == field.default_value):
        return
    text = json.dumps(config, sort_keys=True, default=str)
    receipts_of(step_context).add(CONFIG, None, hashlib.sha256(text.encode()).hexdigest())


def refuse_changed(reads: Sequence[Receipt], own: Callable[[Receipt], Lookup | None] = lambda _: None) -> None:
    """Refuse to go on when something that was read has been rewritten since.

    `own` gives the look-up for what lies in the caller's own transaction; everything else is asked of its store.
    Raises InputChanged (retrying helps: it reads anew).
    """
    lookups: dict[int, tuple[Lookup, list[Receipt]]] = {}
    for read in reads:
        if read.store is not None:
            lookup = own(read) or read.store.last_commits
            lookups.setdefault(id(read.store), (lookup, []))[1].append(read)
    changed = [read for lookup, group in lookups.values() for read in stale(group, lookup)]
    if changed:
        names = ", ".join(f"{read.asset}[{read.partition}]" for read in changed[:10])
        raise InputChanged(
            f"{names} was rewritten after it had been read. Nothing was changed; retrying helps: it reads it anew."
        )


def refuse_missing(reads: Sequence[Receipt], store: Store) -> None:
    """Refuse partitions that were never committed, of assets with other commits in the store.

    Raises InputMissing (retrying does not help before they are built).
    """
    for asset in sorted({read.asset for read in reads if read.fingerprint is None}):
        missing = [str(read.partition) for read in reads if read.asset == asset and read.fingerprint is None]
        if store.last_commits([asset]):
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            raise InputMissing(
                f"Input {asset!r} was never committed for {', '.join(missing[:_SHOWN])}{more}. Missing is not empty, "
                f"so nothing was changed. Retrying does not help. Materialize {asset!r} for these partitions first, "
                "or leave them out."
            )


def refuse_damaged(reads: Sequence[Receipt], store: Store, table: Table, scope: Scope) -> None:
    """Refuse to take partitions whose rows are there and cannot be read for partitions that are absent.

    Raises InputMissing (retrying does not help before they are built again), naming where they lie.
    """
    read = {one.partition for one in reads if one.fingerprint is not None}
    unread = [partition.key for partition in scope.partitions if partition.key not in read]
    damaged = store.damaged(table, unread) if unread else {}
    if damaged:
        shown = [f"{'all of it' if key is None else key} ({place})" for key, place in damaged.items()]
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        raise InputMissing(
            f"Input {table.asset!r} cannot be read for {', '.join(shown[:_SHOWN])}{more}: there is a file, and it is "
            "damaged or was not written by this project, so its rows are not left out in silence. Nothing was changed. "
            f"Retrying does not help. Materialize {table.asset!r} for these partitions again."
        )


def stale(reads: Sequence[Receipt], lookup: Lookup) -> list[Receipt]:
    """The receipts that no longer hold, by what the lookup says now. One without a fingerprint cannot be told."""
    reads = [read for read in reads if read.fingerprint is not None]
    if not reads:
        return []
    found = lookup({read.asset for read in reads}, {read.partition for read in reads})
    now_there = {key: commit.fingerprint for key, commit in found.items()}
    return [read for read in reads if now_there.get((read.asset, read.partition), UNKNOWN) != read.fingerprint]


def fingerprint_at(history: Sequence[Commit], moment: datetime) -> str | None:
    """What a partition's fingerprint was at that moment, by its records; None when it had none."""
    before = [commit.fingerprint for commit in history if commit.committed_at <= moment]
    return before[-1] if before else None
