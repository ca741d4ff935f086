"""Convert: text to typed values, strictly and never silently lossy.

Belongs here: what text is a value of which type. The rules (also in docs): an integer is an optional sign, digits and
perhaps `.0`; a decimal has at most its type's digits before and after the point (further zeros are no loss); a
double is a finite number; dates and times exist and are written YYYY-MM-DD and YYYY-MM-DD HH:MM[:SS[.ffffff]] (or
with T); a boolean is true, false, t, f, 1 or 0; text is kept as it is. Nothing is trimmed. For an instant, text with
an offset or Z is that instant, other text is local time in the source's zone: a local time that the zone skips is no
value, one that it repeats is the earlier of the two instants.

Does not belong here: which columns there are (`spec`), what happens to a row without a value (`judge`).

Arrow's own casts do the bulk, behind a regular expression that lets through only what both Arrow and the rules read
alike; where a cast still fails, the few texts at fault are converted one by one in Python (`_one`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl_project.incoming.spec import Column

_INTEGER = r"[+-]?[0-9]+(\.0+)?"
_NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = _DATE + r"[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6}0*)?)?"
_OFFSET = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)"
_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = 60_000_000


def column(texts: pa.Array, target: Column, zone: ZoneInfo) -> pa.Array:
    """The texts as values of the target's type, NULL for a text that is none (and for a NULL)."""
    if target.arrow == pa.string():
        return texts
    encoded = texts.dictionary_encode()
    distinct = _distinct(encoded.dictionary, target.arrow, zone)
    return distinct.take(encoded.indices)


def why_not(text: str, target: Column, zone: ZoneInfo) -> str:
    """In words: why this text is no value of the target."""
    kind = target.arrow
    shown = text if len(text) <= 80 else text[:77] + "..."
    if pa.types.is_decimal(kind) and re.fullmatch(r"[+-]?([0-9]+(\.[0-9]+)?|\.[0-9]+)", text):
        return f"{target.name}: {shown!r} has more digits than {target.type}"
    if pa.types.is_integer(kind) and re.fullmatch(_INTEGER, text):
        return f"{target.name}: {shown!r} is out of range for {target.type}"
    if (
        kind == pa.timestamp("us", "UTC")
        and re.fullmatch(_TIME, text)
        and _one(text, pa.timestamp("us"), zone) is not None
    ):
        return f"{target.name}: local time {shown!r} does not exist in {zone.key}"
    if re.fullmatch(_DATE if kind == pa.date32() else f"{_TIME}{_OFFSET}?", text) and pa.types.is_temporal(kind):
        return f"{target.name}: {shown!r} does not exist"
    return f"{target.name}: {shown!r} is no {target.type}"


def _distinct(texts: pa.Array, kind: pa.DataType, zone: ZoneInfo) -> pa.Array:
    if pa.types.is_boolean(kind):
        return pa.array([_BOOLEANS.get(text.lower()) for text in texts.to_pylist()], kind)
    if kind == pa.timestamp("us", "UTC"):
        return _instants(texts, zone)
    allowed = _only(texts, _pattern(kind))
    if pa.types.is_integer(kind):
        allowed = pc.replace_substring_regex(allowed, r"^\+|\.0+$", "")
    values = _cast(allowed, kind, zone)
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(values), values, pa.scalar(None, kind))
    return values


def _pattern(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return _INTEGER
    if pa.types.is_decimal(kind):
        whole, scale = kind.precision - kind.scale, kind.scale
        fraction = rf"(\.[0-9]{{0,{scale}}}0*)"
        with_whole = rf"0*[0-9]{{1,{whole}}}{fraction}?" if whole else rf"0+{fraction}?"
        return rf"[+-]?({with_whole}|{fraction})"
    if pa.types.is_floating(kind):
        return _NUMBER
    return _DATE if pa.types.is_date(kind) else _TIME


def _only(texts: pa.Array, pattern: str) -> pa.Array:
    matches = pc.match_substring_regex(texts, rf"\A(?:{pattern})\z")
    return texts if pc.all(matches).as_py() is not False else pc.if_else(matches, texts, pa.scalar(None, pa.string()))


def _cast(texts: pa.Array, kind: pa.DataType, zone: ZoneInfo) -> pa.Array:
    """Cast, halving what cannot be cast until a handful of texts is left to be converted one by one."""
    try:
        return pc.cast(texts, kind)
    except pa.ArrowInvalid:
        if len(texts) <= 16:
            return pa.array([None if text is None else _one(text, kind, zone) for text in texts.to_pylist()], kind)
        middle = len(texts) // 2
        return pa.concat_arrays([_cast(texts[:middle], kind, zone), _cast(texts[middle:], kind, zone)])


def _one(text: str, kind: pa.DataType, zone: ZoneInfo) -> Any:
    """One text, by the definition of its type; None when it is no value. The text has its type's form already."""
    try:
        return _reader(kind)(text)
    except (ValueError, ArithmeticError):
        return None


def _reader(kind: pa.DataType) -> Callable[[str], Any]:
    if pa.types.is_integer(kind):
        return lambda text: pa.scalar(int(text), kind).as_py()
    if pa.types.is_decimal(kind):
        return lambda text: pa.scalar(Decimal(text).quantize(Decimal(1).scaleb(-kind.scale)), kind).as_py()
    if pa.types.is_floating(kind):
        return float
    if pa.types.is_date(kind):
        return date.fromisoformat
    return lambda text: datetime.fromisoformat(text[:26])


def _instants(texts: pa.Array, zone: ZoneInfo) -> pa.Array:
    """Instants from local times in the zone and from texts that carry their offset."""
    local = _cast(_only(texts, _TIME), pa.timestamp("us"), zone)
    instants = _local_to_utc(local, zone)
    with_offset = _only(texts, _TIME + _OFFSET)
    if with_offset.null_count < len(with_offset):
        explicit = pa.array(
            [None if text is None else _explicit(text) for text in with_offset.to_pylist()], instants.type
        )
        instants = pc.coalesce(instants, explicit)
    return instants


def _explicit(text: str) -> datetime | None:
    match = re.fullmatch(rf"({_TIME}){_OFFSET}", text)
    assert match is not None
    try:
        return datetime.fromisoformat(match[1][:26] + match[4]).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _local_to_utc(local: pa.Array, zone: ZoneInfo) -> pa.Array:
    """Shift by the zone's offset, asked of zoneinfo once a distinct minute; NULL in the hours that the zone skips."""
    micros = local.cast(pa.int64())
    known = micros.drop_null().to_numpy()
    minutes, which = np.unique(known // _MINUTE, return_inverse=True)
    shifts = [_shift(int(minute) * _MINUTE, zone) for minute in minutes]
    skipped = np.array([shift is None for shift in shifts], dtype=bool)
    offsets = np.array([shift or 0 for shift in shifts], dtype=np.int64)
    # Positions of the known values in the whole array, so that NULLs stay where they are.
    result = np.zeros(len(local), dtype=np.int64)
    valid = np.zeros(len(local), dtype=bool)
    places = np.flatnonzero(np.asarray(local.is_valid()))
    result[places] = known - offsets[which] if len(known) else known
    valid[places] = ~skipped[which] if len(known) else False
    return pa.array(result, pa.int64(), mask=~valid).cast(pa.timestamp("us", "UTC"))


def _shift(micros: int, zone: ZoneInfo) -> int | None:
    """Microseconds from UTC to local time at this local time; None where it does not exist, the earlier of two."""
    try:
        naive = _EPOCH.replace(tzinfo=None) + timedelta(microseconds=micros)
        instant = naive.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None) != naive:
            return None
    except OverflowError:
        return None
    return round((naive - instant.replace(tzinfo=None)) / timedelta(microseconds=1))
