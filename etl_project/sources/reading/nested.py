"""Nested: JSON text to values of the types JSON, STRUCT and list, as strictly as plain text to plain values.

Belongs here: what JSON is a value of such a type. An object is a STRUCT when it has no other keys than the fields; a
missing one is NULL. A list is a list; leaves follow the rules of their own type (`convert`). Does not belong here:
reading files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from etl_project.sources.reading.json_values import DECODER, JsonObject

if TYPE_CHECKING:
    from etl_project.sources.spec import SourceColumn

Convert = Callable[[pa.Array, "SourceColumn"], pa.Array]
"""Texts to values of a plain column, NULL for a text that is none."""


def column(texts: pa.Array, target: SourceColumn, convert: Convert) -> pa.Array:
    """The texts as values of the target's type, NULL for a text that is none (and for a NULL)."""
    bad: set[int] = set()
    values: list[Any] = []
    for row, text in enumerate(texts.to_pylist()):
        try:
            values.append(None if text is None else DECODER.decode(text))
        except (ValueError, RecursionError):
            values.append(None)
            bad.add(row)
    if target.type == "JSON":
        bad |= {row for row, value in enumerate(values) if _is_no_json(value)}
        found = texts
    else:
        found = _array(values, range(len(values)), target, convert, bad)
    if not bad:
        return found
    return found.take(pa.array([None if row in bad else row for row in range(len(values))], pa.int64()))


def _is_no_json(value: Any) -> bool:
    """Whether Python's reader took what is no JSON, NaN and the infinities, or text that is no Unicode."""
    if isinstance(value, JsonObject):
        return any(_is_no_json(key) or _is_no_json(one) for key, one in value)
    if isinstance(value, list):
        return any(map(_is_no_json, value))
    if not isinstance(value, str):
        return False
    return type(value) is not str and value in ("NaN", "Infinity", "-Infinity")


def _array(
    values: Sequence[Any], rows: Sequence[int], target: SourceColumn, convert: Convert, bad: set[int]
) -> pa.Array:
    """The values as an array of the target's type; `rows` says in which row each of them is, for those that are bad."""
    kind = target.arrow
    if pa.types.is_struct(kind):
        return _structs(values, rows, target, convert, bad)
    if pa.types.is_list(kind):
        return _lists(values, rows, target, convert, bad)
    texts: list[str | None] = []
    for row, value in zip(rows, values, strict=True):
        if isinstance(value, list):
            bad.add(row)
            texts.append(None)
        elif isinstance(value, bool):
            texts.append("true" if value else "false")
        else:
            texts.append(None if value is None else str(value))
    plain = pa.array(texts, pa.string())
    found = convert(plain, target)
    if found.null_count > plain.null_count:
        bad |= {
            row for row, text, value in zip(rows, texts, found, strict=True) if text is not None and not value.is_valid
        }
    return found


def _structs(
    values: Sequence[Any], rows: Sequence[int], target: SourceColumn, convert: Convert, bad: set[int]
) -> pa.Array:
    fields = target.children
    names = {field.name for field in fields}
    objects: list[dict[str, Any] | None] = []
    for row, value in zip(rows, values, strict=True):
        found = dict(value) if isinstance(value, JsonObject) else None
        if value is not None and (found is None or len(found) < len(value) or not names >= found.keys()):
            bad.add(row)
            found = None
        objects.append(found)
    arrays = [
        _array([one.get(field.name) if one is not None else None for one in objects], rows, field, convert, bad)
        for field in fields
    ]
    missing = pa.array([one is None for one in objects], pa.bool_())
    return pa.StructArray.from_arrays(arrays, fields=list(target.arrow), mask=missing)


def _lists(
    values: Sequence[Any], rows: Sequence[int], target: SourceColumn, convert: Convert, bad: set[int]
) -> pa.Array:
    offsets: list[int | None] = []
    inner: list[Any] = []
    inner_rows: list[int] = []
    for row, value in zip(rows, values, strict=True):
        is_list = isinstance(value, list) and not isinstance(value, JsonObject)
        if value is not None and not is_list:
            bad.add(row)
        offsets.append(len(inner) if is_list else None)
        if is_list:
            inner += value
            inner_rows += [row] * len(value)
    (element,) = target.children
    elements = _array(inner, inner_rows, element, convert, bad)
    return pa.ListArray.from_arrays(pa.array([*offsets, len(inner)], pa.int32()), elements, type=target.arrow)
