"""Labels: what a pandas frame says beside its columns, its index and the names of its columns.

Belongs here: telling labels that are data from those that only count rows, and refusing what a table has no place for.
Values and types of columns are `payload`'s and `recorded`'s. Why: docs/decisions/pandas-index.md.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import pandas as pd

from etl_project.storage.contract import WriteRefused

_MOST_SHOWN = 3


def refuse_lost(frame: pd.DataFrame) -> None:
    """Refuse a frame whose labels would be lost with its index or changed with its column names.

    Raises WriteRefused (retrying does not help) naming all of them. Row numbers, an index of whole numbers that has no
    name, are no data; neither is the index of a frame without rows, where it has no name.
    """
    problems = [*_of_columns(frame), *_of_index(frame)]
    if problems:
        raise WriteRefused(f"{' '.join(problems)} Nothing was changed; retrying does not help.")


def refuse_names(names: list[Any]) -> None:
    """Refuse the keys of rows that are dictionaries where they are no names of columns. Raises WriteRefused."""
    problems = _of_names(names, "{str(key): value for key, value in row.items()}")
    if problems:
        raise WriteRefused(f"{' '.join(problems)} Nothing was changed; retrying does not help.")


def left_out(data: Any) -> str | None:
    """What is said of whole numbers that are taken for row numbers and yet do not count from 0; None for anything else.

    Rows that were filtered, sorted or put together have such an index, and so have rows under numbers that mean
    something: no value tells the one from the other.
    """
    if not isinstance(data, pd.DataFrame) or isinstance(data.index, pd.RangeIndex) or not len(data):
        return None
    if any(name is not None for name in data.index.names):
        return None  # It is a column as well.
    return (
        "The index of the frame, whole numbers without a name, was taken for row numbers and is not stored. If it is "
        "data, return frame.reset_index(names='...')."
    )


def _of_columns(frame: pd.DataFrame) -> list[str]:
    """What is wrong with the names of the columns."""
    if isinstance(frame.columns, pd.MultiIndex):
        return [
            f"The names of the frame's columns have {frame.columns.nlevels} levels, like {_shown(frame.columns)}, and "
            "a column has one name. Join them: frame.columns = ['_'.join(map(str, name)) for name in frame.columns]."
        ]
    problems = _of_names(list(frame.columns), "frame.columns = ['...', ...], or frame.rename(columns=str)")
    if not len(frame.columns) and len(frame):
        problems.append(f"The frame has {len(frame)} rows and no columns.")
    return problems


def _of_names(names: list[Any], advice: str) -> list[str]:
    """What is wrong with names of which each becomes a text."""
    problems = []
    unusable = [name for name in names if not _is_name(name)]
    if unusable:
        problems.append(
            f"There are columns whose names are no text: {_shown(unusable)}. Name them: {advice} to take what they "
            "look like."
        )
    texts = [str(name) for name in names]
    twice = sorted({text for text in texts if texts.count(text) > 1}) if len(set(texts)) < len(texts) else []
    if twice:
        problems.append(f"Columns come twice: {_shown(twice)}. Name each column once.")
    return problems


def _of_index(frame: pd.DataFrame) -> list[str]:
    """What the index says that no column does."""
    index = frame.index
    named = [
        name
        for level, name in enumerate(index.names)
        if name is not None and not _is_in_a_column(frame, name, index.get_level_values(level))
    ]
    if named:
        return [
            f"The frame has an index with a name, {', '.join(map(repr, named))}, and only columns are stored. Return "
            "`frame.reset_index()` to store it as a column, or `frame.reset_index(drop=True)` if nobody needs it."
        ]
    levels = [level for level, name in enumerate(index.names) if name is None]
    if not levels or not len(frame) or (index.nlevels == 1 and _counts_rows(index)):
        return []
    names = "'...'" if index.nlevels == 1 else str(["..."] * index.nlevels)
    return [
        f"The frame has an index that is no row number, like {_shown(index)}, and only columns are stored. Return "
        f"`frame.reset_index(names={names})` to store it, or `frame.reset_index(drop=True)` if nobody needs it."
    ]


def _counts_rows(index: pd.Index[Any]) -> bool:
    """Whether it may be row numbers, or what is left of them: whole numbers, none below 0."""
    if isinstance(index, pd.RangeIndex):
        return True
    return index.inferred_type == "integer" and not index.hasnans and bool((index >= 0).all())


def _is_in_a_column(frame: pd.DataFrame, name: Any, values: pd.Index[Any]) -> bool:
    """Whether a column of that name holds the same: `set_index(..., drop=False)` leaves it so."""
    if list(frame.columns).count(name) != 1:
        return False
    return values.equals(pd.Index(frame[name]))


def _is_name(name: Any) -> bool:
    """Text, or the whole numbers that pandas gives to columns without names, which are stored as their text."""
    return isinstance(name, str) or (isinstance(name, Integral) and not isinstance(name, bool))


def _shown(labels: Any) -> str:
    listed = [repr(label) for label in labels[:_MOST_SHOWN]]
    return ", ".join([*listed, "..."] if len(labels) > _MOST_SHOWN else listed)
