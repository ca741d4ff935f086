"""Asked: what the writing step knows about itself, in the words of a store.

Belongs here: the request that goes with a write: the run, the code version, the input hash of each partition and what
has to be unchanged when it commits. A write outside of a run knows none of it, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from etl_project.storage.contract import Receipt, Request, Scope, Store
from etl_project.storage.dagster import events
from etl_project.storage.dagster.lineage import parents_of, reads_all
from etl_project.storage.judging.receipts import (
    fingerprint_at,
    note_config,
    receipts_of,
    refuse_changed,
    refuse_missing,
)

ALLOW_SHRINK_TAG = "etl/allow_shrink"
"""Run tag: `true` lets this run shrink partitions by more than their table's `max_removed_ratio`."""

ALLOW_CHANGE_TAG = "etl/allow_change"
"""Run tag: `true` lets this run change more than `max_changed_ratio` and `max_sum_change` of its tables allow."""

OUTSIDE = "outside a run"
"""Stands for the run of a write that none made: a notebook, a test."""

StoreOf = Callable[[Any], Store | None]
"""The store of an IO manager, None for one that is not ours."""


def request_of(
    step: Any | None,
    asset_key: dg.AssetKey,
    scope: Scope,
    own: Store,
    store_of: StoreOf,
    still_owner: Callable[[], None],
) -> Request:
    """What goes with a commit. Raises InputChanged (retrying helps) or InputMissing (it does not)."""
    if step is None:
        return Request(run_id=OUTSIDE, still_owner=still_owner)
    book = receipts_of(step)
    parents = parents_of(step, asset_key, [partition.key for partition in scope.partitions])
    reads = _note_unread(step, own, store_of, parents)
    note_config(step)
    return Request(
        run_id=step.run_id,
        code_version=step.job_def.asset_layer.get(asset_key).code_version,
        input_hashes=book.input_hashes(parents),
        allow_shrink=step.dagster_run.tags.get(ALLOW_SHRINK_TAG, "").lower() == "true",
        allow_change=step.dagster_run.tags.get(ALLOW_CHANGE_TAG, "").lower() == "true",
        reads=reads,
        still_owner=still_owner,
    )


def _note_unread(
    step: Any, own: Store, store_of: StoreOf, parents: Mapping[str | None, Sequence[tuple[str, str | None]]]
) -> list[Receipt]:
    """Parents that no IO manager loaded (`deps=`): their commit records stand for what the body read.

    Raises InputChanged when one was rewritten since the step began (retrying helps).
    """
    book = receipts_of(step)
    unread = sorted({p for group in parents.values() for p in group if not book.knows(*p)}, key=repr)
    receipts = []
    for asset in dict.fromkeys(asset for asset, _ in unread):
        store = _writer_of(step, asset, store_of) or own
        keys = [key for other, key in unread if other == asset]
        if reads_all(step, dg.AssetKey.from_user_string(asset)):
            book.may_be_absent(asset)
            keys = [key for _, key in store.last_commits([asset], keys)]
        receipts += _as_committed(step, store, asset, keys)
    refuse_changed(receipts)
    for receipt in receipts:
        book.add(receipt.asset, receipt.partition, receipt.fingerprint)
    return receipts


def _writer_of(step: Any, asset: str, store_of: StoreOf) -> Store | None:
    """Where an input lies; None where none of our IO managers writes it."""
    layer, key = step.job_def.asset_layer, dg.AssetKey.from_user_string(asset)
    return store_of(getattr(step.resources, layer.get(key).io_manager_key, None)) if layer.has(key) else None


def _as_committed(step: Any, store: Store, asset: str, keys: Sequence[str | None]) -> list[Receipt]:
    """These partitions as they were committed when the step began."""
    commits = store.last_commits([asset], keys)
    began = events.began(step)
    receipts = []
    for key in keys:
        commit = commits.get((asset, key))
        fingerprint = commit.fingerprint if commit is not None else None
        if commit is not None and commit.committed_at > began:
            fingerprint = fingerprint_at(store.history(asset, key), began)
        receipts.append(Receipt(asset, key, fingerprint, store))
    refuse_missing([read for read in receipts if (asset, read.partition) not in commits], store)
    return receipts
