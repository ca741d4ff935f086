"""Value forms: the texts of a file as its sender writes them, rewritten in the plain form that `convert` reads.

Belongs here: which settings apply to which column, missing values, and putting the forms of numbers and times together.
Does not belong here: what the plain form is (`convert`), which settings there are (`value_settings`).

A text that does not fit the declared form becomes NULL here and so a reject later; it is never tried in another way.
Columns without settings are passed on untouched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from etl_project.sources.reading.values import plain
from etl_project.sources.reading.values.number_forms import NumberForms
from etl_project.sources.reading.values.time_formats import TimeFormat
from etl_project.sources.reading.values.value_settings import EPOCHS, PLAIN, ValueSettings

Plain = Callable[[pa.Array], pa.Array]
"""Texts in a declared form as plain texts; NULL for a text of another form."""

_NONE = pa.scalar(None, pa.string())
_MIDNIGHT = rf"\A(?P<day>{plain.DATE})[ T]00:00(?::00(?:\.0+)?)?{plain.OFFSET}?\z"
_END_OF_DAY = re.compile(rf"({plain.DATE})[ T]24:00(?::00(?:\.0+)?)?({plain.OFFSET})?")


def without_missing(texts: pa.Array, settings: ValueSettings, empty_is_null: bool) -> pa.Array:
    """The texts, trimmed if the settings say so, NULL for those that mean no value.

    `empty_is_null`: in this format an empty text is no value, so one that is empty once trimmed is none either.
    """
    if settings.trim:
        texts = pc.utf8_trim_whitespace(texts)
        if empty_is_null:
            texts = pc.if_else(pc.equal(texts, ""), _NONE, texts)
    if settings.null_values:
        texts = pc.if_else(pc.is_in(texts, pa.array(settings.null_values)), _NONE, texts)
    return texts


def plain_form(kind: pa.DataType, settings: ValueSettings) -> Plain | None:
    """What rewrites the texts of a column of this type; None where the settings say nothing about the type."""
    if settings == PLAIN:
        return None
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        return NumberForms(settings, not pa.types.is_floating(kind)).plain if settings.of_numbers else None
    if pa.types.is_date(kind) and settings.date_format:
        return _agreeing([_date_form(form) for form in settings.date_format])
    if pa.types.is_timestamp(kind):
        return _timestamp_form(kind, settings)
    return None


def meanings(text: str, kind: pa.DataType, settings: ValueSettings) -> list[str]:
    """The different plain texts that the declared forms make of one text of a date or a timestamp."""
    forms = settings.date_format if pa.types.is_date(kind) else settings.timestamp_format
    one = _date_form if pa.types.is_date(kind) else lambda form: _timestamp(form, kind)
    found = (_alike(one(form)(pa.array([text])))[0].as_py() for form in forms)
    return list(dict.fromkeys(meaning for meaning in found if meaning is not None))


def _timestamp_form(kind: pa.DataType, settings: ValueSettings) -> Plain | None:
    form = (
        _agreeing([_timestamp(form, kind) for form in settings.timestamp_format]) if settings.timestamp_format else None
    )
    if not settings.hour_24:
        return form
    return (lambda texts: _next_day(form(texts))) if form is not None else _next_day


def _agreeing(forms: list[Plain]) -> Plain:
    """The forms side by side; NULL where two of them read a text as two different times."""
    if len(forms) == 1:
        return forms[0]

    def plain_texts(texts: pa.Array) -> pa.Array:
        found = [_alike(form(texts)) for form in forms]
        first = pc.coalesce(*found)
        differs = reduce(pc.or_, (pc.fill_null(pc.not_equal(one, first), False) for one in found))
        return pc.if_else(differs, _NONE, first)

    return plain_texts


def _alike(texts: pa.Array) -> pa.Array:
    """One text for one time: with seconds, a blank before the time, and no zeros at the end of a fraction; NULL for a
    month or a day that no calendar has, so that 21/03 is read by the one form that can be meant."""
    texts = _only(texts, r"\A[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])")
    texts = pc.replace_substring_regex(texts, rf"^({plain.DATE})T", r"\1 ")
    texts = pc.replace_substring_regex(texts, rf"^({plain.DATE} [0-9]{{2}}:[0-9]{{2}})($|Z|[+-])", r"\1:00\2")
    return pc.replace_substring_regex(texts, r"(:[0-9]{2}:[0-9]{2})(\.[0-9]*?)?\.?0*($|Z|[+-])", r"\1\2\3")


def _date_form(form: str) -> Plain:
    if form == "iso":
        return lambda texts: _only(texts, rf"\A{plain.DATE}\z")
    if form == "iso_midnight":
        return lambda texts: pc.struct_field(pc.extract_regex(texts, _MIDNIGHT), [0])
    if form == "epoch_days":
        return _days_since_epoch
    known = TimeFormat.of(form)
    if not known.has_time_of_day:
        return known.plain
    return lambda texts: pc.struct_field(pc.extract_regex(known.plain(texts), _MIDNIGHT), [0])


def _timestamp(form: str, kind: pa.DataType) -> Plain:
    if form == "iso":
        return lambda texts: _only(texts, rf"\A{plain.TIME}{plain.OFFSET}?\z")
    if form in EPOCHS:
        return lambda texts: _since_epoch(texts, EPOCHS[form], kind)
    known = TimeFormat.of(form)
    return known.plain if known.has_time_of_day else lambda texts: _at_midnight(known.plain(texts))


def _at_midnight(days: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(days, pa.scalar("00:00:00"), " ")


def _days_since_epoch(texts: pa.Array) -> pa.Array:
    numbers = _only(texts, r"\A[+-]?[0-9]{1,7}(\.0+)?\z")
    whole = pc.cast(pc.replace_substring_regex(numbers, r"^\+|\.0+$", ""), pa.int32())
    return pc.cast(pc.cast(whole, pa.date32()), pa.string())


def _since_epoch(texts: pa.Array, scale: int, kind: pa.DataType) -> pa.Array:
    """Counts from 1970 as plain timestamps, exactly; NULL for what is no number or lies outside the calendar."""
    fraction = rf"(\.[0-9]{{0,{scale}}}0*)?" if scale else r"(\.0*)?"
    numbers = _only(texts, rf"\A[+-]?[0-9]{{1,{18 - scale}}}{fraction}\z")
    exact = pc.cast(pc.replace_substring_regex(numbers, r"\.0*$|(\.[0-9]*?)0+$", r"\1"), pa.decimal128(18, scale))
    micros = pc.cast(pc.multiply(exact, pa.scalar(10**scale, pa.decimal128(scale + 1, 0))), pa.int64())
    inside = pc.and_(pc.greater_equal(micros, plain.FIRST_MICROS), pc.less_equal(micros, plain.LAST_MICROS))
    moments = pc.cast(pc.if_else(inside, micros, pa.scalar(None, pa.int64())), pa.timestamp("us"))
    written = pc.cast(moments, pa.string())
    return pc.binary_join_element_wise(written, pa.scalar("Z"), "") if kind.tz else written


def _next_day(texts: pa.Array) -> pa.Array:
    """24:00 as 00:00 of the next day; every other text as it is."""
    late = pc.match_substring_regex(texts, rf"\A{_END_OF_DAY.pattern}\z")
    if not pc.any(late).as_py():
        return texts
    mended = pa.array([_midnight_after(text) for text in texts.filter(late).to_pylist()], pa.string())
    return pc.replace_with_mask(texts, pc.fill_null(late, False), mended)


def _midnight_after(text: str) -> str | None:
    found = _END_OF_DAY.fullmatch(text)
    assert found is not None, "only texts of this form come here"
    try:
        day = date.fromisoformat(found[1]) + timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    return f"{day} 00:00:00{found['offset'] or ''}"


def _only(texts: pa.Array, pattern: str) -> pa.Array:
    return pc.if_else(pc.match_substring_regex(texts, pattern), texts, _NONE)
