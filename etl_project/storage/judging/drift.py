"""Drift: how incoming columns meet the columns of a table.

Belongs here: pairing columns by name, deciding which casts can lose something, which columns a table gains and which
types widen, and listing every difference that is refused. It looks at names and types only; whether values survive a
cast is counted by `row_tally`. Nothing here touches a database.

A column's kind never changes, at no depth: text does not become a number, a naive timestamp gets no zone. Within a kind
(and between integer, float and decimal, and between dates and naive timestamps) a value goes in when it comes out the
same. Only when values do not fit is the column widened, and only to a type that holds every old value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from etl_project.storage.contract import Drift

_INTEGERS = ("tinyint", "smallint", "integer", "bigint", "hugeint")
_UNSIGNED = ("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint")
_FLOATS = ("float", "double")
_MOMENTS = ("date", "timestamp_s", "timestamp_ms", "timestamp", "timestamp_ns")
_NESTED = ("struct", "list", "array", "map")
_ALIKE = {"array": "list", "time_ns": "time"}
_HELD_BY = {
    **dict.fromkeys(("timestamp", "timestamp_s", "timestamp_ms"), ("date",)),
    "varchar": ("enum", "uuid", "varchar"),
}


class Column(NamedTuple):
    """A column of a table or of incoming data. `type` is DuckDB's; `filled` says that the table has a value for it
    when none comes (a default, a generated column). `untyped` data has neither type nor values; that of a `hollow`
    column has no value at any depth that would tell its type, as in `[]` and `{"code": None}`. `said` is its type with
    "NULL" in the place of those that DuckDB made of nothing, where there are some."""

    name: str
    type: Any
    required: bool = False
    filled: bool = False
    untyped: bool = False
    hollow: bool = False
    said: Any = None


@dataclass(frozen=True)
class Pair:
    """An incoming column and the column it goes into. `checked`: its values have to be looked at for loss.

    `source_type` is None for a column without values.
    """

    source: str
    target: Column
    source_type: Any | None
    checked: bool

    @property
    def wider(self) -> str | None:
        """The type that holds the values of both sides, if the column may be widened to one."""
        return None if self.source_type is None else _common(self.target.type, self.source_type)

    def into(self, target: Column) -> Pair:
        """The same incoming column, going into a column of another type."""
        source = Column(self.source, self.source_type, untyped=self.source_type is None)
        return Pair(self.source, target, self.source_type, not always_fits(source, target.type))


@dataclass(frozen=True)
class Plan:
    """What meets what. `added` columns are to be created; `problems` refuse the write."""

    pairs: tuple[Pair, ...] = ()
    added: tuple[Column, ...] = ()
    problems: tuple[str, ...] = field(default=())


def plan(table: Sequence[Column], incoming: Sequence[Column], policy: Drift, partition_columns: Sequence[str]) -> Plan:
    """Pair the columns by name and list every difference that the policy refuses, all at once."""
    problems = _twice(column.name for column in incoming)
    here = {column.name.lower(): column for column in table}
    there = {column.name.lower(): column for column in incoming}
    needed = {name.lower(): name for name in partition_columns}
    problems += [f"the partition column {name!r} is missing" for low, name in needed.items() if low not in there]
    pairs, added = [], []
    for column in there.values():
        target = here.get(column.name.lower())
        if target is None:
            added += [] if column.untyped or column.hollow else [column]
        elif problem := impossible(column, target):
            problems.append(problem)
        else:
            source_type = None if column.untyped else column.type
            pairs.append(Pair(column.name, target, source_type, not always_fits(column, target.type)))
    absent = [c for c in table if c.name.lower() not in there and c.name.lower() not in needed]
    problems += [f"column {c.name!r} is missing and may not be NULL" for c in absent if c.required and not c.filled]
    if policy == "freeze":
        problems += [f"column {c.name!r} ({c.type}) is not in the table, which is frozen" for c in added]
        problems += [f"column {c.name!r} is missing, and the table is frozen" for c in absent if not c.filled]
    return Plan(tuple(pairs), tuple(added), tuple(problems))


def _twice(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    problems = []
    for name in names:
        if name.lower() in seen:
            problems.append(f"column {name!r} comes twice (case does not count)")
        seen.add(name.lower())
    return problems


def impossible(source: Column, target: Column) -> str | None:
    """Why values of the one type can never be values of the other, or None when they may."""
    if source.untyped:
        return None
    other = _of_other_kind(source.type if source.said is None else source.said, target.type)
    if other is None and not _are_strangers(source.type, target.type):
        return None
    way_out = no_new_fields(target.type, source.type) or _typed_by_nothing(target.type, other)
    return f"column {target.name!r} is {target.type}, the data has {source.type}{way_out}"


def _typed_by_nothing(target: Any, place: Any) -> str:
    """What to do about an INTEGER, the place within the column that does not fit: it may be DuckDB's for a field that
    had no value when the column was made."""
    if str(target.id) not in _NESTED or str(place) != "INTEGER":
        return ""
    return (
        " (of what has no value in the first rows, DuckDB makes an INTEGER: give it its type there, like "
        "NULL::VARCHAR. Now return the column under another name, or alter the table by hand)"
    )


def _of_other_kind(source: Any, target: Any) -> Any | None:
    """The first type within the target, at any depth, that is of another kind than the source's in its place.

    DuckDB itself makes text of whatever is in a STRUCT or a list.
    """
    if str(source.id) == "null":
        return None
    if family(source) != family(target):
        return None if {family(source), family(target)} in ({"text", "enum"}, {"text", "uuid"}) else target
    if str(source.id) not in _NESTED:
        return None
    here, there = _inside(source), _inside(target)
    others = (_of_other_kind(here[name], there[name]) for name in here if name in there)
    return next((other for other in others if other is not None), None)


def no_new_fields(target: object, source: object) -> str:
    """What to do about fields that a STRUCT does not have; nothing where both are none."""
    if "STRUCT(" not in str(target) or "STRUCT(" not in str(source) or _has_same_fields(target, source):
        return ""
    return (
        " (a STRUCT gets no other fields: rows that are there would become others. Return new ones as a column of "
        "their own, or the whole as JSON text in a column of another name)"
    )


def _has_same_fields(one: Any, other: Any) -> bool:
    if str(one.id) not in _NESTED or str(other.id) not in _NESTED:
        return True
    here, there = _inside(one), _inside(other)
    return here.keys() == there.keys() and all(_has_same_fields(here[name], there[name]) for name in here)


def _are_strangers(one: Any, other: Any) -> bool:
    """Whether two STRUCTs without a field in common are in the same place, at any depth: DuckDB casts no such."""
    if str(one.id) not in _NESTED or str(other.id) not in _NESTED:
        return False
    here, there = _inside(one), _inside(other)
    return not here.keys() & there.keys() or any(
        _are_strangers(here[name], there[name]) for name in here.keys() & there
    )


def _inside(kind: Any) -> dict[str, Any]:
    """The types within a nested one, by their names; the length of an ARRAY stands among them and is none."""
    return {name.lower(): one for name, one in kind.children if not (str(kind.id) == "array" and name == "size")}


def family(kind: Any) -> str:
    """Types whose values can be the same value."""
    name = str(kind.id)
    if name in _INTEGERS or name in _UNSIGNED or name in _FLOATS or name == "decimal":
        return "number"
    if name in _MOMENTS:
        return "moment"
    if name == "varchar":
        return "text"
    return _ALIKE.get(name, name)


def always_fits(source: Column, target: Any) -> bool:
    """True when no value of the source type can change by becoming one of the target type."""
    if source.untyped or str(source.type) == str(target):
        return True
    common = _common(target, source.type)
    return common is not None and common == str(target)


def _common(one: Any, other: Any) -> str | None:
    """The narrowest type of their own kind that holds every value of both; None when there is none."""
    names = (str(one.id), str(other.id))
    for ladder in (_INTEGERS, _UNSIGNED, _FLOATS):
        if all(name in ladder for name in names):
            return max(names, key=ladder.index).upper()
    if all(name in _INTEGERS or name in _UNSIGNED for name in names):
        return _signed_for(names)
    if names == ("decimal", "decimal"):
        return _common_decimal(dict(one.children), dict(other.children))
    if all(name in ("timestamp_s", "timestamp_ms", "timestamp") for name in names):
        return max(names, key=_MOMENTS.index).upper()
    holds_the_other = names[1] in _HELD_BY.get(names[0], ())
    return str(one) if holds_the_other else None


def _signed_for(names: tuple[str, str]) -> str | None:
    """The signed integer that holds a signed and an unsigned one."""
    signed, unsigned = names if names[0] in _INTEGERS else (names[1], names[0])
    if unsigned == "uhugeint":
        return None
    return _INTEGERS[max(_INTEGERS.index(signed), _UNSIGNED.index(unsigned) + 1)].upper()


def _common_decimal(one: dict[str, int], other: dict[str, int]) -> str | None:
    scale = max(one["scale"], other["scale"])
    whole = max(one["precision"] - one["scale"], other["precision"] - other["scale"])
    return f"DECIMAL({whole + scale},{scale})" if whole + scale <= 38 else None
