"""Delivered: rows as the type that an asset's parameter is annotated with.

Belongs here: the conversions from a store's slice to pandas, pyarrow, polars or the slice itself. Values leave as they
are stored: pandas frames are Arrow-backed, because numpy has no place for a missing integer, an exact decimal or a
date before 1677.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pandas as pd
import pyarrow as pa

from etl_project.storage.contract import ReadRefused, Slice, Store


def as_annotated(store: Store, piece: Slice, annotation: Any) -> Any:
    """The slice as `annotation` asks for; pandas where it asks for nothing.

    Raises ReadRefused for a type that rows cannot take (retrying does not help).
    """
    if annotation is Slice:
        return piece
    if annotation is pa.Table:
        return store.arrow(piece)
    if annotation is pa.RecordBatchReader:
        return _stream(store, piece)
    if annotation is pd.DataFrame or annotation in (Any, None, type(None)):
        return store.arrow(piece).to_pandas(types_mapper=pd.ArrowDtype)
    polars = sys.modules.get("polars")
    if polars is not None and annotation is polars.DataFrame:
        return polars.from_arrow(store.arrow(piece))
    if polars is not None and annotation is polars.LazyFrame:
        return polars.from_arrow(store.arrow(piece)).lazy()
    raise ReadRefused(
        f"An input annotated {annotation!r} cannot be loaded: annotate it pandas.DataFrame, pyarrow.Table, "
        "pyarrow.RecordBatchReader, polars.DataFrame or Slice. Retrying does not help."
    )


def _stream(store: Store, piece: Slice) -> pa.RecordBatchReader:
    """A reader that holds its store open until it is read to its end or dropped."""
    stack = ExitStack()
    reader = stack.enter_context(store.batches(piece))

    def batches() -> Iterator[pa.RecordBatch]:
        with stack:
            yield from reader

    return pa.RecordBatchReader.from_batches(reader.schema, batches())
