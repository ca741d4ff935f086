"""Heads of both kinds of stores, for who looks at all assets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from etl_project.storage.contract import Head, Store

Found = Iterator[tuple[str, str | None, Head]]


def of_tables(store: Store, assets: Iterable[str]) -> Found:
    """The heads of these assets."""
    return store.heads(assets)


of_files = of_tables
