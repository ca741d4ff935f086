"""Value settings: how a sender writes its values, as data, checked when it is made.

Belongs here: the settings and what is wrong with them. Does not belong here: applying them (`value_forms`), what a
value is once it is written in the plain form (`convert`). Every one of them is off by default: nothing is trimmed,
guessed or read in two ways unless a source says so.

Names are those of DuckDB's CSV reader and of CSV on the Web where these have one (decimal and thousands separators,
date and timestamp formats, null values).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from etl_project.sources.reading.values.time_formats import FormatError, TimeFormat

Percent = Literal["fraction", "number"]
Negative = Literal["parentheses", "trailing_minus", "unicode_minus"]
RepeatedHour = Literal["first", "last", "reject", "in_file_order"]

DATE_WORDS = ("iso", "iso_midnight", "epoch_days")
EPOCHS = {"epoch_seconds": 6, "epoch_milliseconds": 3, "epoch_microseconds": 0}
"""Numbers that count from 1970 (UTC): the power of ten that makes microseconds of one."""
TIMESTAMP_WORDS = ("iso", *EPOCHS)


@dataclass(frozen=True)
class ValueSettings:
    """How the values of a source, or of one column, are written.

    `null_values`: texts that mean no value, as they stand. `trim`: white space around a value is no part of it.
    `prefixes`, `suffixes`: what may stand before or after a number (currencies, units). `percent`: 50% is the number
    0.5 (`fraction`) or 50 (`number`). `negatives`: further ways to write a negative number. `exponents`: 1.25E+01 is a
    decimal or an integer too. `true_values`, `false_values`: words besides the usual ones, in any case of letters.
    `date_format`, `timestamp_format`: the forms that are read, in the letters of strptime, or one of the words; a text
    that two of them read as two different times is none. `hour_24`: 24:00 is the midnight that ends the day.
    `repeated_hour`: which of the two a local time is that the clocks repeat; `in_file_order`: the first time that it
    comes in the file the earlier one, the second time the later one.
    """

    null_values: tuple[str, ...] = ()
    trim: bool = False
    decimal_separator: str = "."
    thousands_separator: str | None = None
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    percent: Percent | None = None
    negatives: tuple[Negative, ...] = ()
    exponents: bool = False
    true_values: tuple[str, ...] = ()
    false_values: tuple[str, ...] = ()
    date_format: tuple[str, ...] = ()
    timestamp_format: tuple[str, ...] = ()
    hour_24: bool = False
    repeated_hour: RepeatedHour = "first"

    @property
    def of_numbers(self) -> bool:
        """Whether some setting says how numbers are written."""
        plain = PLAIN
        names = ("decimal_separator", "thousands_separator", "prefixes", "suffixes", "percent", "negatives")
        return self.exponents or any(getattr(self, name) != getattr(plain, name) for name in names)

    def problems(self, where: str = "") -> Iterator[str]:
        """Everything that is wrong, each with the key (after `where`) and a right example."""
        for key in ("null_values", "prefixes", "suffixes", "true_values", "false_values"):
            yield from _problems_of_texts(f"{where}{key}", getattr(self, key))
        yield from self._problems_of_numbers(where)
        yield from self._problems_of_words(where)
        yield from _problems_of_formats(f"{where}date_format", self.date_format, DATE_WORDS, "%d.%m.%Y")
        yield from _problems_of_formats(
            f"{where}timestamp_format", self.timestamp_format, TIMESTAMP_WORDS, "%d.%m.%Y %H:%M:%S"
        )

    def _problems_of_numbers(self, where: str) -> Iterator[str]:
        for key, example in (("decimal_separator", ","), ("thousands_separator", ".")):
            mark = getattr(self, key)
            if mark is not None and (not isinstance(mark, str) or len(mark) != 1 or mark in "0123456789+-()%eE\r\n\0"):
                yield f"{where}{key} is {mark!r}; it is one character, and no digit or sign, like {example!r}"
        if self.decimal_separator == self.thousands_separator:
            yield f"{where}thousands_separator is the decimal_separator too, {self.decimal_separator!r}; say both"
        for key in ("prefixes", "suffixes"):
            for affix in getattr(self, key):
                if isinstance(affix, str) and (
                    not affix.strip(" .,'") or any(one in "0123456789()%+-" for one in affix)
                ):
                    yield f"{where}{key} holds {affix!r}; it is a currency or a unit, without digits and signs: 'EUR'"

    def _problems_of_words(self, where: str) -> Iterator[str]:
        for key, allowed in (("percent", get_args(Percent)), ("repeated_hour", get_args(RepeatedHour))):
            word = getattr(self, key)
            if word not in allowed and not (key == "percent" and word is None):
                yield f"{where}{key} is {word!r}; it can be {', '.join(allowed)}"
        for word in self.negatives:
            if word not in get_args(Negative):
                yield f"{where}negatives holds {word!r}; it can be {', '.join(get_args(Negative))}"
        both = {text.lower() for text in _texts(self.true_values)} & {
            text.lower() for text in _texts(self.false_values)
        }
        for text in sorted(both):
            yield f"{where}true_values and false_values both hold {text!r}; a word is one of them"
        for key in ("true_values", "false_values"):
            for text in sorted({*_texts(self.null_values)} & {*_texts(getattr(self, key))}):
                yield f"{where}{key} and null_values both hold {text!r}; a word is one of them"


PLAIN = ValueSettings()
"""What every source has that says nothing."""

KEYS = tuple(one.name for one in fields(ValueSettings))

_OF_NUMBERS = "numbers"
_OF_TYPES = {
    **dict.fromkeys(("decimal_separator", "thousands_separator", "prefixes", "suffixes", "percent"), _OF_NUMBERS),
    **dict.fromkeys(("negatives", "exponents"), _OF_NUMBERS),
    **dict.fromkeys(("true_values", "false_values"), "BOOLEAN"),
    "date_format": "DATE",
    **dict.fromkeys(("timestamp_format", "hour_24", "repeated_hour"), "TIMESTAMP"),
}
"""What the values are that a setting is about; those that are not here are about all."""


def without_effect(settings: ValueSettings, inherited: ValueSettings, type_: str) -> Iterator[tuple[str, str]]:
    """The keys that say something of a plain column of this type which no value of it can be, each with what they are
    about. Those that a column has `inherited` from its source are meant for other columns."""
    own = "DATE" if type_ == "DATE" else "TIMESTAMP" if type_.startswith("TIMESTAMP") else type_
    own = own if own in ("DATE", "TIMESTAMP", "BOOLEAN", "VARCHAR", "JSON") else _OF_NUMBERS
    for key, about in _OF_TYPES.items():
        if getattr(settings, key) != getattr(inherited, key) and about != own:
            yield key, about


def _texts(values: Sequence[Any]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str))


def _problems_of_texts(key: str, values: Sequence[Any]) -> Iterator[str]:
    for value in values:
        if not isinstance(value, str):
            yield f"{key} holds {value!r}, which is no text; write it in quotes, like '{_as_written(value)}'"


def _as_written(value: object) -> str:
    """What a person most likely wrote for this value in YAML."""
    if value is None:
        return "NULL"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _problems_of_formats(key: str, forms: Sequence[str], words: Sequence[str], example: str) -> Iterator[str]:
    for form in forms:
        if form in words:
            continue
        if not isinstance(form, str) or "%" not in form:
            yield f"{key} is {form!r}; it is a form like {example!r}, or one of {', '.join(words)}"
            continue
        try:
            TimeFormat.of(form)
        except FormatError as error:
            yield f"{key} is {form!r}: {error}; write a form like {example!r}"
    if sum(isinstance(form, str) and form in EPOCHS for form in forms) > 1:
        yield f"{key} names several epoch forms; one number cannot tell them apart: say one of {', '.join(EPOCHS)}"
