"""Convert: text to typed values, strictly and never silently lossy.

Belongs here: what text is a value of which type. The rules: an integer is an optional sign, digits and perhaps `.0`; a
decimal has at most its type's digits before and after the point (further zeros are no loss); a double is a finite
number; dates and times exist and are written YYYY-MM-DD and YYYY-MM-DD HH:MM[:SS[.ffffff]] (or with T); a boolean is
true, false, t, f, 1 or 0; text is kept as it is. Nothing is trimmed. For an instant, text with an offset or Z is that
instant; other text is local time in the source's zone (`local_time`).

Does not belong here: which columns there are (`spec`), what happens to a row without a value (`judge`).

Arrow's own casts do the bulk, behind a regular expression that lets through only what Arrow and the rules read alike;
where a cast still fails, the few texts at fault are converted one by one in Python (`_one`). Whole and decimal numbers
that consist of nothing but plain digits need no expression: of those, Arrow casts exactly what the rules allow.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl_project.incoming.local_time import LocalTimes
from etl_project.incoming.spec import Column

_INTEGER = r"[+-]?[0-9]+(\.0+)?"
_PLAIN = r"[+-]?([0-9]+(\.[0-9]+)?|\.[0-9]+)"
_NUMBER = rf"{_PLAIN}([eE][+-]?[0-9]+)?"
_YEAR = "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DATE = rf"{_YEAR}-[0-9]{{2}}-[0-9]{{2}}"
_TIME = rf"{_DATE}[ T][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}(\.[0-9]{{1,6}}0*)?)?"
_OFFSET = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_INSTANT = pa.timestamp("us", "UTC")
_LOCAL = pa.timestamp("us")
_FIRST = pa.scalar(datetime.min.replace(tzinfo=UTC), _INSTANT)
_LAST = pa.scalar(datetime.max.replace(tzinfo=UTC), _INSTANT)
_FEW = 16


class Converter:
    """Converts the columns of one file."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._local_times = LocalTimes(zone)

    def column(self, texts: pa.Array, target: Column) -> pa.Array:
        """The texts as values of the target's type, NULL for a text that is none (and for a NULL)."""
        if target.arrow == pa.string():
            return texts
        plain = _plain(texts, target.arrow)
        if plain is not None:
            return plain
        encoded = texts.dictionary_encode()
        return self._distinct(encoded.dictionary, target.arrow).take(encoded.indices)

    def why_not(self, text: str, target: Column) -> str:
        """In words: why this text is no value of the target."""
        kind = target.arrow
        shown = f"{target.name}: {text if len(text) <= 80 else text[:77] + '...'!r}"
        if pa.types.is_decimal(kind) and re.fullmatch(_PLAIN, text):
            return f"{shown} has more digits than {target.type} holds"
        if pa.types.is_integer(kind) and re.fullmatch(_INTEGER, text):
            return f"{shown} is out of range for {target.type}"
        if kind == _INSTANT and re.fullmatch(_TIME, text) and _one(text, _LOCAL) is not None:
            return f"{shown} does not exist in {self._local_times.zone.key}"
        if pa.types.is_temporal(kind) and re.fullmatch(_DATE if kind == pa.date32() else f"{_TIME}{_OFFSET}?", text):
            return f"{shown} does not exist"
        return f"{shown} is no {target.type}"

    def _distinct(self, texts: pa.Array, kind: pa.DataType) -> pa.Array:
        if pa.types.is_boolean(kind):
            return pa.array([_BOOLEANS.get(text.lower()) for text in texts.to_pylist()], kind)
        if kind == _INSTANT:
            return self._instants(texts)
        allowed = _only(texts, _pattern(kind))
        if pa.types.is_integer(kind):
            allowed = pc.replace_substring_regex(allowed, r"^\+|\.0+$", "")
        values = _cast(allowed, kind)
        if pa.types.is_floating(kind):
            return pc.if_else(pc.is_finite(values), values, pa.scalar(None, kind))
        return values

    def _instants(self, texts: pa.Array) -> pa.Array:
        """Instants from local times and from texts that carry their offset."""
        instants = self._local_times.to_utc(_cast(_only(texts, _TIME), _LOCAL))
        with_offset = _only(texts, _TIME + _OFFSET)
        if with_offset.null_count == len(with_offset):
            return instants
        return pc.coalesce(instants, _within_calendar(_cast(with_offset, _INSTANT)))


def _plain(texts: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """The values, if the texts hold only the plainest characters of their type and all of them are values."""
    whole = pa.types.is_integer(kind)
    if not whole and not pa.types.is_decimal(kind):
        return None
    characters = _bytes_of(texts)
    if whole and b"." in characters:
        texts = _without_point_zero(texts)
        characters = _bytes_of(texts)
    if characters.translate(None, b"0123456789-" if whole or not kind.scale else b"0123456789-."):
        return None
    try:
        return pc.cast(texts, kind)
    except pa.ArrowInvalid:
        return None


def _without_point_zero(texts: pa.Array) -> pa.Array:
    """Whole numbers the way that tools write them which know no missing ones, as 17850.0, without that end."""
    return pc.utf8_slice_codeunits(texts, 0, -2) if pc.all(pc.ends_with(texts, ".0")).as_py() else texts


def _bytes_of(texts: pa.Array) -> bytes:
    """All the texts in a row."""
    _, offsets, data = texts.buffers()
    if data is None:
        return b""
    ends = np.frombuffer(offsets, np.int32)
    return bytes(memoryview(data)[ends[texts.offset] : ends[texts.offset + len(texts)]])


def _pattern(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return _INTEGER
    if pa.types.is_decimal(kind):
        whole, scale = kind.precision - kind.scale, kind.scale
        fraction = rf"(\.[0-9]{{0,{scale}}}0*)" if scale else r"(\.0+)"
        before = rf"0*[0-9]{{1,{whole}}}" if whole else "0+"
        return rf"[+-]?({before}{fraction}?|{fraction})"
    if pa.types.is_floating(kind):
        return _NUMBER
    return _DATE if pa.types.is_date(kind) else _TIME


def _only(texts: pa.Array, pattern: str) -> pa.Array:
    """The texts of this form, NULL for the others."""
    matches = pc.match_substring_regex(texts, rf"\A(?:{pattern})\z")
    return texts if pc.all(matches).as_py() is not False else pc.if_else(matches, texts, pa.scalar(None, pa.string()))


def _cast(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast, halving what cannot be cast until a few texts are left, which are converted one by one."""
    try:
        return pc.cast(texts, kind)
    except pa.ArrowInvalid:
        if len(texts) <= _FEW:
            return pa.array([None if text is None else _one(text, kind) for text in texts.to_pylist()], kind)
        middle = len(texts) // 2
        return pa.concat_arrays([_cast(texts[:middle], kind), _cast(texts[middle:], kind)])


def _within_calendar(instants: pa.Array) -> pa.Array:
    """An offset can carry the first and the last day of the calendar out of it; NULL for those."""
    inside = pc.and_(pc.greater_equal(instants, _FIRST), pc.less_equal(instants, _LAST))
    return pc.if_else(inside, instants, pa.scalar(None, _INSTANT))


def _one(text: str, kind: pa.DataType) -> Any:
    """One text by the definition of its type; None when it is no value. The text has the form of its type already."""
    try:
        if pa.types.is_integer(kind):
            return pa.scalar(int(text), kind).as_py()
        if pa.types.is_decimal(kind):
            return pa.scalar(Decimal(text).quantize(Decimal(1).scaleb(-kind.scale)), kind).as_py()
        if pa.types.is_floating(kind):
            return float(text)
        if pa.types.is_date(kind):
            return date.fromisoformat(text)
        moment = re.fullmatch(rf"(?P<local>{_TIME})(?P<offset>{_OFFSET})?", text)
        assert moment is not None, "only texts of the form of their type come here"
        value = datetime.fromisoformat(moment["local"][:26] + (moment["offset"] or ""))
        return value.astimezone(UTC) if kind == _INSTANT else value
    except (ValueError, ArithmeticError):
        return None
