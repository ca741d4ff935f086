"""The words of `defs.yaml` that say how values are written, for a whole source and for single columns.

Belongs here: the YAML's own shape (one text or a list of them), and which setting of a column goes before which of the
source. What the settings mean, and what is wrong with them, says `value_settings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from etl_project.sources.reading.values.value_settings import KEYS, PLAIN, ValueSettings

Texts = Any
"""One text or a list of them. YAML reads a bare NULL, yes or -999 as no text; what to do then says `value_settings`."""
_LISTS = {name for name in KEYS if isinstance(getattr(PLAIN, name), tuple)}


class ValueWords(dg.Model):
    """How values are written. What is not said is as in the plain form, or for a column as for its source."""

    null_values: Texts = Field(
        default=None,
        description="Texts that mean no value, as they stand, like ['N/A', 'NULL']. An empty field of a CSV is.",
    )
    trim: bool | None = Field(default=None, description="White space around a value is no part of it.")
    decimal_separator: str | None = Field(default=None, description="The decimal point of numbers, like ','.")
    thousands_separator: str | None = Field(default=None, description="What may stand between groups of three digits.")
    prefixes: Texts = Field(default=None, description="What may stand before a number, like ['$'].")
    suffixes: Texts = Field(default=None, description="What may stand after a number, like ['EUR'].")
    percent: Literal["fraction", "number"] | None = Field(
        default=None, description="50% is the number 0.5 (`fraction`) or 50 (`number`)."
    )
    negatives: Texts = Field(
        default=None, description="Further negative numbers: parentheses (12.50), trailing_minus 12.50-, unicode_minus."
    )
    exponents: bool | None = Field(default=None, description="1.25E+01 is a value of a DECIMAL or an integer too.")
    true_values: Texts = Field(default=None, description="Words for true besides true, t, 1.")
    false_values: Texts = Field(default=None, description="Words for false besides false, f, 0.")
    date_format: Texts = Field(
        default=None, description="Forms of DATE columns, like '%d.%m.%Y'; iso, iso_midnight, epoch_days."
    )
    timestamp_format: Texts = Field(
        default=None,
        description="Forms of TIMESTAMP columns, like '%d.%m.%Y %H:%M'; iso, epoch_seconds, epoch_milliseconds, "
        "epoch_microseconds.",
    )
    hour_24: bool | None = Field(default=None, description="24:00 is the midnight that ends the day.")
    repeated_hour: Literal["first", "last", "reject", "in_file_order"] | None = Field(
        default=None, description="Which of the two a local time is that the clocks repeat."
    )

    def over(self, settings: ValueSettings) -> ValueSettings:
        """These words, and where nothing is said the settings."""
        said: dict[str, Any] = {name: getattr(self, name) for name in KEYS if getattr(self, name) is not None}
        for name in _LISTS & said.keys():
            said[name] = tuple(said[name]) if isinstance(said[name], list | tuple) else (said[name],)
        return replace(settings, **said)


def of_columns(words: ValueWords, columns: Mapping[str, ValueWords]) -> Iterator[tuple[str, ValueSettings]]:
    """The settings of each column that has some of its own."""
    of_source = words.over(PLAIN)
    return ((name, own.over(of_source)) for name, own in columns.items())
