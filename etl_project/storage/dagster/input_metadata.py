"""Input metadata: what the definition of an input asks for, beside its partitions.

Belongs here: reading it, and saying what is wrong with it. Raises ReadRefused (retrying does not help).
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from etl_project.storage import recorded
from etl_project.storage.contract import ReadRefused
from etl_project.storage.recorded import DtypeBackend


def columns(context: dg.InputContext) -> Sequence[str] | None:
    """The columns that the input's metadata names; None for all of them."""
    columns = context.definition_metadata.get("columns")
    if columns is None:
        return None
    if isinstance(columns, str) or not columns or not all(isinstance(name, str) for name in columns):
        raise ReadRefused(
            f"The metadata 'columns' of input {context.asset_key.to_user_string()!r} is {columns!r}, not a list of "
            "names of columns, like ['n', 'price']. Retrying does not help. Leave it out to read all columns."
        )
    return list(columns)


def dtype_backend(context: dg.InputContext) -> DtypeBackend | None:
    """What the input's metadata says of the types of its pandas frame; None where it says nothing."""
    try:
        return recorded.dtype_backend(context.definition_metadata.get("dtype_backend"))
    except ValueError as error:
        raise ReadRefused(
            f"The metadata of input {context.asset_key.to_user_string()!r}: {error}. Retrying does not help. Leave it "
            "out to read what the IO manager gives."
        ) from error
