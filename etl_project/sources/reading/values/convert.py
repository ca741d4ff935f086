"""Convert: text to typed values, strictly and never silently lossy.

Belongs here: what text is a value of which type. The rules: an integer is an optional sign, digits and perhaps `.0`; a
decimal has at most its type's digits before and after the point (further zeros are no loss); a double is a finite
number; dates and times exist and are written YYYY-MM-DD and YYYY-MM-DD HH:MM[:SS[.ffffff]] (or with T); a boolean is
true, false, t, f, 1 or 0; text is kept as it is. Nothing is trimmed. What a source writes in another form by its
settings is brought into this one first (`value_forms`). For an instant, text with an offset or Z is that
instant; other text is local time in the source's zone (`local_time`).

Does not belong here: which columns there are (`spec`), what happens to a row without a value (`judge`).

Arrow's own casts do the bulk, behind a regular expression that lets through only what Arrow and the rules read alike;
where a cast still fails, the few texts at fault are converted one by one in Python (`_one`). Whole and decimal numbers
that consist of nothing but plain digits need no expression: of those, Arrow casts exactly what the rules allow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources.reading import nested
from etl_project.sources.reading.values import advice
from etl_project.sources.reading.values.local_time import LocalTimes
from etl_project.sources.reading.values.plain import DATE, OFFSET, TIME
from etl_project.sources.reading.values.value_forms import Plain, meanings, plain_form
from etl_project.sources.reading.values.value_settings import PLAIN, RepeatedHour, ValueSettings
from etl_project.sources.spec import SourceColumn

_INTEGER = r"[+-]?[0-9]+(\.0+)?"
_PLAIN = r"[+-]?([0-9]+(\.[0-9]+)?|\.[0-9]+)"
_NUMBER = rf"{_PLAIN}([eE][+-]?[0-9]+)?"
_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_INSTANT = pa.timestamp("us", "UTC")
_LOCAL = pa.timestamp("us")
_FIRST = pa.scalar(datetime.min.replace(tzinfo=UTC), _INSTANT)
_LAST = pa.scalar(datetime.max.replace(tzinfo=UTC), _INSTANT)
_FEW = 16
_REMEMBERED = 10_000


class Converter:
    """Converts the columns of one file. `settings`: how the values of a column are written, where not plainly."""

    def __init__(self, zone: ZoneInfo, settings: Mapping[str, ValueSettings] = MappingProxyType({})) -> None:
        self._zone = zone
        self._settings = settings
        self._forms: dict[str, Plain | None] = {}
        self._reasons: dict[tuple[str, str], str] = {}
        self._local_times = {repeated: LocalTimes(zone, repeated) for repeated in ("first", "last", "reject")}

    def column(self, texts: pa.Array, target: SourceColumn) -> pa.Array:
        """The texts as values of the target's type, NULL for a text that is none (and for a NULL)."""
        if target.is_nested:
            return nested.column(texts, target, Converter(self._zone).column)
        if target.arrow == pa.string():
            return texts
        form = self._form(target)
        plain = _plain(texts, target.arrow) if form is None else None
        if plain is not None:
            return plain
        encoded = texts.dictionary_encode()
        distinct = encoded.dictionary if form is None else form(encoded.dictionary)
        return self._distinct(distinct, target).take(encoded.indices)

    def why_not(self, text: str, target: SourceColumn) -> str:
        """In words: why this text is no value of the target, and which setting would make it one."""
        known = self._reasons.get((target.name, text))
        if known is None:
            if len(self._reasons) >= _REMEMBERED:
                self._reasons.clear()
            known = self._reasons[target.name, text] = self._why_not(text, target)
        return known

    def _why_not(self, text: str, target: SourceColumn) -> str:
        kind, settings = target.arrow, self._settings_of(target)
        shown = f"{target.name}: {text if len(text) <= 80 else text[:77] + '...'!r}"
        form = self._form(target)
        plain = text if form is None else form(pa.array([text]))[0].as_py()
        if plain is None:
            return f"{shown} {self._of_another_form(text, target)}"
        if pa.types.is_decimal(kind) and re.fullmatch(_PLAIN, plain):
            return f"{shown} has more digits than {target.type} holds"
        if pa.types.is_integer(kind) and re.fullmatch(_INTEGER, plain):
            return f"{shown} is out of range for {target.type}"
        if kind == _INSTANT and re.fullmatch(TIME, plain) and _one(plain, _LOCAL) is not None:
            return f"{shown} {self._why_no_instant(text, plain, target)}"
        hint = advice.for_text(text, kind, settings)
        if pa.types.is_temporal(kind) and re.fullmatch(DATE if kind == pa.date32() else f"{TIME}{OFFSET}?", plain):
            has_offset = kind == _LOCAL and re.fullmatch(f"{TIME}{OFFSET}", plain)
            why = (
                "has an offset, and a TIMESTAMP none: its column can be TIMESTAMPTZ" if has_offset else "does not exist"
            )
            return f"{shown} {why}{hint}"
        return f"{shown} is no {target.type}{hint}"

    def _of_another_form(self, text: str, target: SourceColumn) -> str:
        settings = self._settings_of(target)
        hint = advice.for_text(text, target.arrow, settings)
        if not pa.types.is_temporal(target.arrow):
            return f"is no {target.type} as the source writes numbers{hint}"
        found = meanings(text, target.arrow, settings)
        if len(found) > 1:
            return f"means {' or '.join(found)}, by two of the declared forms"
        key = "date_format" if pa.types.is_date(target.arrow) else "timestamp_format"
        return f"has none of the forms of {key}, {', '.join(getattr(settings, key)) or 'iso'}{hint}"

    def _why_no_instant(self, text: str, plain: str, target: SourceColumn) -> str:
        """Of a local time that can be written, why the zone or the file has none."""
        if self.column(pa.array([text]), target)[0].is_valid:
            return "comes a third time in its series (repeated_hour: in_file_order)"
        local = _cast(pa.array([plain]), _LOCAL)
        if any(times.to_utc(local).null_count == 0 for times in self._local_times.values()):
            return f"comes twice in {self._zone.key} (repeated_hour says which one it is)"
        return f"does not exist in {self._zone.key}"

    def _settings_of(self, target: SourceColumn) -> ValueSettings:
        return self._settings.get(target.name, PLAIN)

    def _form(self, target: SourceColumn) -> Plain | None:
        if target.name not in self._forms:
            self._forms[target.name] = plain_form(target.arrow, self._settings_of(target))
        return self._forms[target.name]

    def _distinct(self, texts: pa.Array, target: SourceColumn) -> pa.Array:
        kind, settings = target.arrow, self._settings_of(target)
        if pa.types.is_boolean(kind):
            words = {
                **_BOOLEANS,
                **{word.lower(): True for word in settings.true_values},
                **{word.lower(): False for word in settings.false_values},
            }
            return pa.array([words.get(text.lower()) for text in texts.to_pylist()], kind)
        if kind == _INSTANT:
            return self._instants(texts, settings.repeated_hour)
        allowed = _only(texts, _pattern(kind))
        if pa.types.is_integer(kind):
            allowed = pc.replace_substring_regex(allowed, r"^\+|\.0+$", "")
        values = _cast(allowed, kind)
        if pa.types.is_floating(kind):
            return pc.if_else(pc.is_finite(values), values, pa.scalar(None, kind))
        return values

    def _instants(self, texts: pa.Array, repeated_hour: RepeatedHour) -> pa.Array:
        """Instants from local times and from texts that carry their offset.

        Which of two in file order a time is, nobody knows from one text (`repeated_hour`): here it is the first.
        """
        times = self._local_times["first" if repeated_hour == "in_file_order" else repeated_hour]
        instants = times.to_utc(_cast(_only(texts, TIME), _LOCAL))
        with_offset = _only(texts, TIME + OFFSET)
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
    return DATE if pa.types.is_date(kind) else TIME


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
        moment = re.fullmatch(rf"(?P<local>{TIME}){OFFSET}?", text)
        assert moment is not None, "only texts of the form of their type come here"
        if moment["local"][11:13] == "24":
            raise ValueError("newer Pythons read it as the next midnight; here only `hour_24` does")
        value = datetime.fromisoformat(moment["local"][:26] + (moment["offset"] or ""))
        return value.astimezone(UTC) if kind == _INSTANT else value
    except (ValueError, ArithmeticError):
        return None
