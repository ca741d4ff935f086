"""Meanings: what a value means by the type that its frame had, and by nothing that is stored of it.

Belongs here: finding such types in what `recorded` keeps of a frame, and refusing to give a table two of them. A store
keeps the two ends of a pandas Interval and the start of a Period: whether an end belongs to it, and how long it is,
is known from the record alone, and a table has one record for all of its partitions. So all of them are written alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from etl_project.storage import recorded
from etl_project.storage.contract import Scope, Table, WriteRefused
from etl_project.storage.judging.messages import refused

_ADVICE = (
    "All partitions of a table are written with one such type, since the rows do not say it. Write it as the others "
    "are, put it into columns of its own (both ends, or the start and a text), or rebuild all partitions in one run."
)


def of(record: bytes | None) -> Mapping[str, str]:
    """The columns of a recorded frame whose values mean what their type says, with that type as pandas writes it."""
    frame = recorded.sample(record)
    if frame is None:
        return {}
    return {field.name: said for field in frame.schema if (said := _said(field.type)) is not None}


def refuse_another(table: Table, scope: Scope, new: bytes | None, others: bytes | None) -> None:
    """Refuse a frame whose columns mean something else than in the `others`, which are there and stay.

    Raises WriteRefused (retrying does not help).
    """
    before, now = of(others), of(new)
    problems = [
        f"column {name!r} is of type {said}, and in other partitions {before[name]}"
        for name, said in now.items()
        if before.get(name, said) != said
    ]
    if problems:
        raise WriteRefused(refused(table, scope, problems, _ADVICE))


def _said(kind: pa.DataType) -> str | None:
    name = getattr(kind, "extension_name", "")
    if name == "pandas.period":
        return f"period[{kind.freq}]"
    if name == "pandas.interval":
        return f"interval[{kind.subtype}, {kind.closed}]"
    return None
